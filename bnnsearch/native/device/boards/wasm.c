/* Room for an image in the memory of a WebAssembly module. */
#include "model.h"

static uint8_t octets[MODEL_IMAGE_BYTES];

uint8_t *model_image(void);

uint8_t *model_image(void) { return octets; }
