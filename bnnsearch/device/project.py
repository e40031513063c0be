"""The folder that `pack --c` writes: sources, a test of them, build files, and a README with the map of memory.

It is a function of the model alone: the same model gives the same bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bnnsearch.device.lower import lower
from bnnsearch.device.program import Program, Stage
from bnnsearch.device.source import c_array, model_source
from bnnsearch.errors import EnvironmentProblem, InputError
from bnnsearch.packed.model import PackedModel

VECTORS = 10
PREFIX = re.compile(r"[a-z][a-z0-9_]{0,39}")
FLAGS = "-std=c99 -Os -Wall -Wextra -Werror -pedantic"


def write_project(
    model: PackedModel, folder: Path, *, prefix: str = "model", integer: bool = False, multiply_free: bool = False
) -> Program:
    """Write the C of a model, and what builds and tests it.

    Args:
        model: the network.
        folder: is made where it is missing; files of these names in it are replaced.
        prefix: begins all public names, and names the files.
        integer: refuse a network that needs floating point.
        multiply_free: multiply by sums, for a processor without a multiplier; `integer` is implied.

    Raises:
        InputError: the prefix is none, or the network cannot be lowered.
        EnvironmentProblem: the folder cannot be written.
    """
    if not PREFIX.fullmatch(prefix):
        raise InputError(f"prefix must be a lower-case C name of at most 40 letters, digits and _, but got {prefix!r}")
    program = lower(model.graph, model.tensors, integer=integer, multiply_free=multiply_free)
    try:
        for name, text in project_files(model, program, prefix).items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise EnvironmentProblem(f"{folder}: cannot be written: {error.strerror}") from error
    return program


def project_files(model: PackedModel, program: Program, prefix: str) -> dict[str, str]:
    """The text of every file by its path."""
    return {
        f"src/{prefix}.h": header(model, program, prefix),
        f"src/{prefix}.c": model_source(program, prefix),
        "test/test_vectors.h": test_vectors(model, program),
        "test/test.c": _TEST.replace("PREFIX", prefix.upper()).replace("prefix", prefix),
        "Makefile": _MAKEFILE.replace("prefix", prefix).replace("@FLAGS@", FLAGS),
        "CMakeLists.txt": _CMAKE.replace("prefix", prefix),
        "library.properties": _ARDUINO.replace("prefix", prefix),
        "library.json": json.dumps(_platformio(prefix), indent=2) + "\n",
        "examples/classify/classify.ino": _SKETCH.replace("PREFIX", prefix.upper()).replace("prefix", prefix),
        "README.md": readme(model, program, prefix),
    }


def header(model: PackedModel, program: Program, prefix: str) -> str:
    """The text of the header."""
    upper, image = prefix.upper(), program.image
    names = ", ".join(json.dumps(re.sub(r"[^ -~]|\?\?", "_", name)) for name in model.classes)
    return f"""/* A binary network, written by bnnsearch pack --c. */
#ifndef {upper}_H
#define {upper}_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

/* An image: rows of pixels from the top, a pixel's channels side by side, one octet each{_scaling(model, upper)}
#define {upper}_HEIGHT {image.height}
#define {upper}_WIDTH {image.width}
#define {upper}_CHANNELS {image.channels}
#define {upper}_IMAGE_BYTES {image.height * image.width * image.channels}L

#define {upper}_CLASSES {len(model.classes)}
#define {upper}_CLASS_NAMES {{{names}}}

/* Bytes of memory that the network works in, a static array of model.c; one that is too small does not compile. */
#ifndef {upper}_ARENA_BYTES
#define {upper}_ARENA_BYTES {program.arena_bytes}
#endif

/* The type of scores. */
#define {upper}_NUMBER {program.number}

/* The label, from 0 on, of an image: the class with the highest score, of equal ones the first. Not reentrant. */
int {prefix}_predict(const uint8_t *image);

/* The scores of the last image, {len(model.classes)} of them, until the next is classified. */
const {upper}_NUMBER *{prefix}_scores(void);

#ifdef __cplusplus
}}
#endif

#endif
"""


def _scaling(model: PackedModel, upper: str) -> str:
    """The rest of the header's line on octets: what becomes 0 and 255 of the numbers of each channel."""
    if model.scaling is None:
        return ", as the sensor gives them. */"
    low, high = (", ".join(f"{float(each)!r}" for each in bounds) for bounds in (model.scaling.low, model.scaling.high))
    return f""";
   of a number x of a channel it is round(255 (x - low) / (high - low)), clipped to 0 to 255, as in training. */
#define {upper}_LOW {{{low}}}
#define {upper}_HIGH {{{high}}}"""


def _octet(model: PackedModel, prefix: str) -> str:
    """The README's part on numbers that are no octets."""
    if model.scaling is None:
        return ""
    upper = prefix.upper()
    return f"""
## From numbers to octets

It was trained on numbers: {model.scaling.described()}.

```c
static uint8_t octet(double x, int channel) {{
    static const double low[] = {upper}_LOW, high[] = {upper}_HIGH;
    double scaled = (x - low[channel]) * (255 / (high[channel] - low[channel]));
    return (uint8_t)(scaled <= 0 ? 0 : scaled >= 255 ? 255 : scaled + 0.5);
}}
```

In float32, and for a number half way between two octets, it may be one step off.
"""


def sample_images(shape: tuple[int, int, int], count: int = VECTORS) -> NDArray[np.uint8]:
    """Images (count, C, H, W) that are the same everywhere: strokes and areas of light and noise."""
    generator = np.random.default_rng(0)
    channels, height, width = shape
    rows, columns = np.mgrid[:height, :width]
    images = np.zeros((count, *shape))
    for number in range(count):
        for _ in range(1 + number % 5):
            y, x = generator.uniform(0, height), generator.uniform(0, width)
            angle, reach = generator.uniform(0, np.pi), 0.08 * max(height, width)
            across = (rows - y) * np.cos(angle) - (columns - x) * np.sin(angle)
            along = np.hypot(rows - y, columns - x)
            light = 255 * (np.abs(across) < reach) * (along < 4 * reach)
            images[number] = np.maximum(images[number], light * generator.uniform(0.5, 1, (channels, 1, 1)))
        images[number] += generator.normal(0, 6 * number, shape)
    return np.clip(images, 0, 255).astype(np.uint8)


def interleaved(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images (N, C, H, W) in the order in which the C reads them, (N, octets)."""
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1)).reshape(len(images), -1)


def expected_scores(model: PackedModel, program: Program, images: NDArray[np.uint8]) -> NDArray[np.generic]:
    """The packed runtime's scores (N, classes), as the C gives them: logits, or those integers that they are of."""
    if program.number == "float":
        return model.logits(images)
    values = model.values(images, [program.output])[program.output][:, :, 0, 0]
    return np.rint(np.ldexp(values.astype(np.float64), -program.exponent)).astype(np.int32)


def test_vectors(model: PackedModel, program: Program) -> str:
    """The text of a header with images, and the labels and scores of the packed runtime."""
    images = sample_images(model.shape)
    scores = expected_scores(model, program, images)
    octets, labels = interleaved(images), model.predict(images)
    return f"""/* Images, and what the packed model says of them. */
#define VECTORS {len(images)}

static const uint8_t images[VECTORS][{octets.shape[1]}] = {_rows(octets)};

static const int labels[VECTORS] = {c_array(labels)};

static const {program.number} scores[VECTORS][{scores.shape[1]}] = {_rows(scores)};
"""


def _rows(values: NDArray[np.generic]) -> str:
    return "{\n" + ",\n".join(c_array(row) for row in values) + "\n}"


def readme(model: PackedModel, program: Program, prefix: str) -> str:
    """What stands where, and how to use it."""
    image, kind = program.image, "integers only" if not program.real else f"floating point: {program.real}"
    kind += ", and no multiplication" * program.multiply_free
    rows = "\n".join(_memory_row(program, stage) for stage in program.stages)
    origin = ", ".join(f"{key} {value}" for key, value in sorted(_brief(model.provenance).items()))
    return f"""# {prefix}

A binary network in C99, written by bnnsearch ({origin or "no provenance"}): from {image.width}x{image.height} pixels of
{image.channels} octets to {len(model.classes)} classes. It needs no library: no malloc, stdio, libm, recursion.

```c
#include "{prefix}.h"

int label = {prefix}_predict(image); /* const uint8_t image[{prefix.upper()}_IMAGE_BYTES] */
```

Numbers: {kind}. Labels are those of the packed model.
{_octet(model, prefix)}
| | bytes |
|---|---|
| arena, static | {program.arena_bytes} |
| tables, constant | {table_bytes(program)} |
| image, the caller's | {image.height * image.width * image.channels} |

## Build and test

`make test` compiles it with the system's compiler, runs {VECTORS} images and says how many labels are equal.
`make CC=...` takes another compiler; CMake, Arduino and PlatformIO find their files here. Two networks of different
prefixes link into one program.

## The arena, stage by stage

A stage reads values and writes others; one whose last reader runs is written over, row by row.

| stage | result | writes, at | bytes | tables |
|---|---|---|---|---|
{rows}
"""


def table_bytes(program: Program) -> int:
    """Bytes of all constant tables."""
    return sum(array.nbytes for array in program.tables())


def _brief(provenance: Mapping[str, str]) -> dict[str, str]:
    return {key: re.sub(r"\s+", " ", value)[:60] for key, value in provenance.items()}


def _memory_row(program: Program, stage: Stage) -> str:
    shape = "x".join(map(str, stage.shape))
    places = ", ".join(f"{program.stored[name].kind} at {program.starts[name]}" for name in stage.writes)
    size = sum(program.stored[name].bytes for name in stage.writes)
    name = re.sub(r"[|\n`]", "_", stage.name)
    tables = sum(array.nbytes for below in stage.all() for array in below.tables())
    return f"| {name} | {shape} | {places} | {size} | {tables} |"


def _platformio(prefix: str) -> dict[str, object]:
    return {
        "name": prefix,
        "version": "1.0.0",
        "description": "A binary neural network in C99, written by bnnsearch",
        "frameworks": "*",
        "platforms": "*",
        "headers": f"{prefix}.h",
    }


_TEST = """/* Classifies the images of test_vectors.h; ends with 0 where every label and score is the packed model's. */
#include <stdio.h>

#include "../src/prefix.h"
#include "test_vectors.h"

int main(void) {
    int equal = 0, exact = 0;
    for (int i = 0; i < VECTORS; i++) {
        int same = 1;
        equal += prefix_predict(images[i]) == labels[i];
        for (int k = 0; k < PREFIX_CLASSES; k++) same &= prefix_scores()[k] == scores[i][k];
        exact += same;
    }
    printf("%d of %d labels equal, %d of %d with equal scores\\n", equal, VECTORS, exact, VECTORS);
    return equal == VECTORS && exact == VECTORS ? 0 : 1;
}
"""

_MAKEFILE = """# make test: compile and run. CC, CFLAGS and SIZE may be set to those of another machine.
CFLAGS ?= @FLAGS@
SIZE ?= size

test: build/test
	./build/test

build/test: build/prefix.o test/test.c test/test_vectors.h
	$(CC) $(CFLAGS) test/test.c build/prefix.o -o $@

build/prefix.o: src/prefix.c src/prefix.h
	mkdir -p build
	$(CC) $(CFLAGS) -c src/prefix.c -o $@

size: build/prefix.o
	$(SIZE) build/prefix.o

clean:
	rm -rf build

.PHONY: test size clean
"""

_CMAKE = """cmake_minimum_required(VERSION 3.10)
project(prefix C)

add_library(prefix STATIC src/prefix.c)
target_include_directories(prefix PUBLIC src)
set_target_properties(prefix PROPERTIES C_STANDARD 99)

enable_testing()
add_executable(prefix_test EXCLUDE_FROM_ALL test/test.c)
target_link_libraries(prefix_test prefix)
add_test(NAME prefix COMMAND prefix_test)
"""

_ARDUINO = """name=prefix
version=1.0.0
author=bnnsearch
maintainer=bnnsearch
sentence=A binary neural network.
paragraph=Written by bnnsearch pack --c.
category=Data Processing
url=https://github.com/bnnsearch
architectures=*
includes=prefix.h
"""

_SKETCH = """#include <prefix.h>

static uint8_t image[PREFIX_IMAGE_BYTES];

void setup() { Serial.begin(115200); }

void loop() {
    /* fill `image` from the sensor here */
    Serial.println(prefix_predict(image));
    delay(1000);
}
"""
