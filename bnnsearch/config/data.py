"""Data sets: where the images are and how they are split, batched and augmented."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from bnnsearch.config.base import Settings


class CropConfig(Settings):
    """Random crop of the zero-padded image: a shift of at most `padding` pixels either way."""

    name: Literal["crop"] = "crop"
    padding: Annotated[int, Field(ge=1, le=32)] = 4


class FlipConfig(Settings):
    """Horizontal flip: of a random half of every batch, or `alternating`, each image flipped every second epoch."""

    name: Literal["flip"] = "flip"
    kind: Literal["random", "alternating"] = "random"


class RotationConfig(Settings):
    """Rotation about the centre by a random angle of at most `degrees` either way, zero outside the image."""

    name: Literal["rotation"] = "rotation"
    degrees: Annotated[float, Field(gt=0, le=180)] = 15.0


class CutoutConfig(Settings):
    """A square of `size` pixels, at a random place, is set to the mean colour (DeVries & Taylor, 2017)."""

    name: Literal["cutout"] = "cutout"
    size: Annotated[int, Field(ge=1, le=256)] = 8


class ShiftConfig(Settings):
    """Translation by at most `pixels` either way, zero outside the image: the mild crop that suits digits."""

    name: Literal["shift"] = "shift"
    pixels: Annotated[int, Field(ge=1, le=32)] = 1


class LightingConfig(Settings):
    """Each image is moved along the principal components of ImageNet's colours (Krizhevsky et al., 2012, section 4.1).

    ReActNet's code has it, too, but adds what is meant for pixels in [0, 1] to levels of 0 to 255, and rounds it away.

    Attributes:
        deviation: standard deviation of the move along each component, in units of the component's eigenvalue.
    """

    name: Literal["lighting"] = "lighting"
    deviation: Annotated[float, Field(gt=0, le=10)] = 0.1


AugmentationName = Literal["crop", "flip", "rotation", "cutout", "shift", "lighting"]
_Augmentation = CropConfig | FlipConfig | RotationConfig | CutoutConfig | ShiftConfig | LightingConfig


def _by_name(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


Augmentation = Annotated[
    _Augmentation,
    Field(discriminator="name"),
    BeforeValidator(_by_name, json_schema_input_type=AugmentationName | _Augmentation),
]
"""One transformation of training batches; its bare name stands for its defaults."""


class _Split(Settings):
    """What every data set has.

    Attributes:
        val_fraction: share of the training images held out, class-balanced, for model selection.
        batch_size: images per training step.
        augment: transformations applied to training batches, in this order.
        train_limit: use only this many training images, class-balanced, before the split; None is all.
        seed: seed of the split; kept apart from the trial's seed so that every trial validates on the same images.
    """

    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    batch_size: Annotated[int, Field(ge=1, le=65536)] = 128
    augment: tuple[Augmentation, ...] = ()
    train_limit: Annotated[int, Field(ge=20)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0

    @property
    def colours(self) -> int:
        """Channels of the images."""
        return 3

    @model_validator(mode="after")
    def _lighting_has_colours(self) -> Self:
        if self.colours != 3 and any(isinstance(step, LightingConfig) for step in self.augment):
            raise ValueError(
                f"augment lighting needs images of 3 channels, red, green and blue, but got {self.colours} channel"
            )
        return self


class _GreySplit(_Split):
    """What a data set of grey images has."""

    @property
    def colours(self) -> int:
        return 1


class DigitsConfig(_GreySplit):
    """scikit-learn's digits: 1,797 real 8x8 grey images, 10 classes; nothing to download."""

    name: Literal["digits"] = "digits"
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2


class MnistConfig(_GreySplit):
    """MNIST: 60,000 + 10,000 grey 28x28 images, 10 classes, in torchvision's layout below `root`."""

    name: Literal["mnist"] = "mnist"
    root: str = "./data"
    download: bool = False


class Cifar10Config(_Split):
    """CIFAR-10: 50,000 + 10,000 colour 32x32 images, 10 classes, in torchvision's layout below `root`."""

    name: Literal["cifar10"] = "cifar10"
    root: str = "./data"
    download: bool = False


class Cifar100Config(_Split):
    """CIFAR-100: 50,000 + 10,000 colour 32x32 images, 100 classes, in torchvision's layout below `root`."""

    name: Literal["cifar100"] = "cifar100"
    root: str = "./data"
    download: bool = False


class ImageFolderConfig(_Split):
    """A folder with `train/CLASS/*` and `test/CLASS/*` images, resized to `image_size` and kept in memory.

    Attributes:
        cache: where the decoded images are kept, so that the second start is fast; None is `root/.bnnsearch-cache`.
    """

    name: Literal["image_folder"] = "image_folder"
    root: str
    image_size: Annotated[int, Field(ge=4, le=1024)] = 32
    channels: Literal[1, 3] = 3
    cache: str | None = None

    @property
    def colours(self) -> int:
        return self.channels


class ImagenetConfig(_Split):
    """ImageNet-1k: `train/WNID/*.JPEG` and `val/WNID/*.JPEG`, streamed; crops of `image_size` pixels.

    Training images are random resized crops, to which `augment` applies on top: a flip is usual, ReActNet's code has
    `lighting` before it. The published validation images are the test split; validation is cut from the training
    images.
    """

    name: Literal["imagenet"] = "imagenet"
    root: str
    image_size: Annotated[int, Field(ge=32, le=1024)] = 224
    workers: Annotated[int, Field(ge=0, le=256)] = 8
    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.01
    batch_size: Annotated[int, Field(ge=1, le=65536)] = 256


DataConfig = Annotated[
    DigitsConfig | MnistConfig | Cifar10Config | Cifar100Config | ImageFolderConfig | ImagenetConfig,
    Field(discriminator="name"),
]
