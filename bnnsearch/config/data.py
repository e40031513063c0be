"""Data sets: where the images are and how they are split, batched and augmented."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from bnnsearch.config.families import AUGMENTATIONS, DATA_SETS, Member

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from bnnsearch.core.augment import Draw
    from bnnsearch.core.data.dataset import Dataset

Shape = tuple[int, int, int]
"""Channels, height, width."""

Layout = Literal["NHW", "NCHW", "NHWC", "NL", "NCL", "NLC"]
"""Axes of arrays: samples, channels, height, width; of signals, length, which is a width in images of height 1."""


class AugmentationSettings(Member):
    """One transformation of training batches.

    Attributes:
        coloured: whether images need red, green and blue.
    """

    kinds: ClassVar[tuple[str, ...]] = ("torch:Tensor",)
    coloured: ClassVar[bool] = False

    @property
    def translation(self) -> int | None:
        """Pixels by which images are moved at most, where that is all that is done; None else."""
        return None

    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        """The images, uint8 (B, C, H, W), transformed; all randomness comes from `draw`."""
        transformed: Tensor = self._built(images, draw)
        return transformed


class CropConfig(AugmentationSettings):
    """Random crop of the zero-padded image: a shift of at most `padding` pixels either way."""

    builder: ClassVar[str] = "bnnsearch.core.augment:crop"

    name: Literal["crop"] = "crop"
    padding: Annotated[int, Field(ge=1, le=32)] = 4


class FlipConfig(AugmentationSettings):
    """Horizontal flip: of a random half of every batch, or `alternating`, each image flipped every second epoch."""

    builder: ClassVar[str] = "bnnsearch.core.augment:flip_some"

    name: Literal["flip"] = "flip"
    kind: Literal["random", "alternating"] = "random"


class RotationConfig(AugmentationSettings):
    """Rotation about the centre by a random angle of at most `degrees` either way, zero outside the image."""

    builder: ClassVar[str] = "bnnsearch.core.augment:turn"

    name: Literal["rotation"] = "rotation"
    degrees: Annotated[float, Field(gt=0, le=180)] = 15.0


class CutoutConfig(AugmentationSettings):
    """A square of `size` pixels, at a random place, is set to the mean colour (DeVries & Taylor, 2017)."""

    builder: ClassVar[str] = "bnnsearch.core.augment:cut"

    name: Literal["cutout"] = "cutout"
    size: Annotated[int, Field(ge=1, le=256)] = 8


class ShiftConfig(AugmentationSettings):
    """Translation by at most `pixels` either way, zero outside the image: the mild crop that suits digits."""

    builder: ClassVar[str] = "bnnsearch.core.augment:shift"

    name: Literal["shift"] = "shift"
    pixels: Annotated[int, Field(ge=1, le=32)] = 1

    @property
    def translation(self) -> int | None:
        return self.pixels


class LightingConfig(AugmentationSettings):
    """Each image is moved along the principal components of ImageNet's colours (Krizhevsky et al., 2012, section 4.1).

    ReActNet's code has it, too, but adds what is meant for pixels in [0, 1] to levels of 0 to 255, and rounds it away.

    Attributes:
        deviation: standard deviation of the move along each component, in units of the component's eigenvalue.
    """

    builder: ClassVar[str] = "bnnsearch.core.augment:lighten"
    coloured: ClassVar[bool] = True

    name: Literal["lighting"] = "lighting"
    deviation: Annotated[float, Field(gt=0, le=10)] = 0.1


Augmentation = Annotated[AugmentationSettings, AUGMENTATIONS]
"""One transformation of training batches; its bare name stands for its defaults."""


class DataSettings(Member):
    """What every data set has.

    Attributes:
        val_fraction: share of the training images held out, class-balanced, for model selection.
        batch_size: images per training step.
        augment: transformations applied to training batches, in this order.
        train_limit: use only this many training images, class-balanced, before the split; None is all.
        seed: seed of the split; kept apart from the trial's seed so that every trial validates on the same images.
    """

    kinds: ClassVar[tuple[str, ...]] = ("bnnsearch.core.data:Dataset",)

    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    batch_size: Annotated[int, Field(ge=1, le=65536)] = 128
    augment: tuple[Augmentation, ...] = ()
    train_limit: Annotated[int, Field(ge=20)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0

    @property
    def colours(self) -> int:
        """Channels of the images; 3 where only the files tell."""
        return 3

    @property
    def known(self) -> tuple[Shape, int] | None:
        """Shape of the images and number of classes, without looking; None where only the files tell."""
        return None

    def load(self, device: torch.device) -> Dataset:
        """The data set, read, checked, split and normalised, on the device.

        Raises:
            DataError: a file is missing, short or corrupt.
        """
        dataset: Dataset = self._built(device)
        return dataset

    @model_validator(mode="after")
    def _colours_are_there(self) -> Self:
        for step in self.augment:
            if step.coloured and self.colours != 3:
                raise ValueError(
                    f"augment {step.name} needs images of 3 channels, red, green and blue, "
                    f"but got {self.colours} channel"
                )
        return self


class _GreySettings(DataSettings):
    """What a data set of grey images has."""

    @property
    def colours(self) -> int:
        return 1


class DigitsConfig(_GreySettings):
    """scikit-learn's digits: 1,797 real 8x8 grey images, 10 classes; nothing to download."""

    builder: ClassVar[str] = "bnnsearch.core.data.load:load_digits"

    name: Literal["digits"] = "digits"
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2

    @property
    def known(self) -> tuple[Shape, int] | None:
        return (1, 8, 8), 10


class MnistConfig(_GreySettings):
    """MNIST: 60,000 + 10,000 grey 28x28 images, 10 classes, in torchvision's layout below `root`."""

    builder: ClassVar[str] = "bnnsearch.core.data.load:load_mnist"

    name: Literal["mnist"] = "mnist"
    root: str = "./data"
    download: bool = False

    @property
    def known(self) -> tuple[Shape, int] | None:
        return (1, 28, 28), 10


class Cifar10Config(DataSettings):
    """CIFAR-10: 50,000 + 10,000 colour 32x32 images, 10 classes, in torchvision's layout below `root`."""

    builder: ClassVar[str] = "bnnsearch.core.data.load:load_cifar10"

    name: Literal["cifar10"] = "cifar10"
    root: str = "./data"
    download: bool = False

    @property
    def known(self) -> tuple[Shape, int] | None:
        return (3, 32, 32), 10


class Cifar100Config(DataSettings):
    """CIFAR-100: 50,000 + 10,000 colour 32x32 images, 100 classes, in torchvision's layout below `root`."""

    builder: ClassVar[str] = "bnnsearch.core.data.load:load_cifar100"

    name: Literal["cifar100"] = "cifar100"
    root: str = "./data"
    download: bool = False

    @property
    def known(self) -> tuple[Shape, int] | None:
        return (3, 32, 32), 100


class ImageFolderConfig(DataSettings):
    """A folder with `train/CLASS/*` and `test/CLASS/*` images, resized to `image_size` and kept in memory.

    Attributes:
        cache: where the decoded images are kept, so that the second start is fast; None is `root/.bnnsearch-cache`.
    """

    builder: ClassVar[str] = "bnnsearch.core.data.load:load_image_folder"

    name: Literal["image_folder"] = "image_folder"
    root: str
    image_size: Annotated[int, Field(ge=4, le=1024)] = 32
    channels: Literal[1, 3] = 3
    cache: str | None = None

    @property
    def colours(self) -> int:
        return self.channels


class ArraysConfig(DataSettings):
    """Arrays of numbers in `.npz` or `.npy` files: images, or signals along one axis; kept in memory, an octet each.

    Attributes:
        root: an `.npz` file, whose keys name the arrays; or a folder, in which an array is `NAME.npy`, or
            `FILE.npz:KEY`.
        images: the array of samples to learn from.
        labels: their classes, integers from 0 on.
        test_images: the array of samples to test on; left out, `test_fraction` is cut off.
        test_labels: their classes.
        test_fraction: share of the samples that is cut off to test on, class-balanced and whatever the seed.
        layout: axes of the samples: N of them, channels C, height H, width W; of signals, length L.
        clip: numbers that are no octets are scaled from the least to the greatest to learn from; with `clip`, from this
            many standard deviations below their mean to as many above, and clipped.
        classes: names, by label; empty has numbers.
    """

    builder: ClassVar[str] = "bnnsearch.core.data.arrays:load_arrays"

    name: Literal["arrays"] = "arrays"
    root: str
    images: Annotated[str, Field(min_length=1)] = "images"
    labels: Annotated[str, Field(min_length=1)] = "labels"
    test_images: Annotated[str, Field(min_length=1)] | None = None
    test_labels: Annotated[str, Field(min_length=1)] | None = None
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    layout: Layout = "NCHW"
    clip: Annotated[float, Field(gt=0, le=100)] | None = None
    classes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _test_has_both(self) -> Self:
        if (self.test_images is None) != (self.test_labels is None):
            raise ValueError("test_images and test_labels are given together or not at all, but got one of them")
        return self


class HuggingfaceConfig(DataSettings):
    """A data set of Hugging Face's `datasets` (the extra `huggingface`): local, or from its hub; kept in memory.

    Attributes:
        path: a folder that `save_to_disk` made, a folder of files that `datasets` reads, or a name on the hub. Code in
            it is never run.
        config: configuration of the data set, where it has several.
        revision: commit, tag or branch on the hub.
        train_split: the split to learn from and to validate on.
        test_split: the split to test on; null cuts off `test_fraction`.
        column: the samples: images, or numbers in axes as `layout` says.
        label: the column of their classes.
        image_size: height and width that images are scaled to.
        channels: of images, 1 for grey.
        layout: axes of numbers, as of `arrays`.
        clip: as of `arrays`.
        test_fraction: as of `arrays`.
    """

    builder: ClassVar[str] = "bnnsearch.core.data.huggingface:load_huggingface"

    name: Literal["huggingface"] = "huggingface"
    path: Annotated[str, Field(min_length=1)]
    config: str | None = None
    revision: str | None = None
    train_split: Annotated[str, Field(min_length=1)] = "train"
    test_split: Annotated[str, Field(min_length=1)] | None = "test"
    column: Annotated[str, Field(min_length=1)] = "image"
    label: Annotated[str, Field(min_length=1)] = "label"
    image_size: Annotated[int, Field(ge=4, le=1024)] = 32
    channels: Literal[1, 3] = 3
    layout: Layout = "NCHW"
    clip: Annotated[float, Field(gt=0, le=100)] | None = None
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2

    @property
    def colours(self) -> int:
        return self.channels


class ImagenetConfig(DataSettings):
    """ImageNet-1k: `train/WNID/*.JPEG` and `val/WNID/*.JPEG`, streamed; crops of `image_size` pixels.

    Training images are random resized crops, to which `augment` applies on top: a flip is usual, ReActNet's code has
    `lighting` before it. The published validation images are the test split; validation is cut from the training
    images.

    Attributes:
        classes: how many folders there are: fewer than 1000 of a subset.
    """

    builder: ClassVar[str] = "bnnsearch.core.data.imagenet:load_imagenet"

    name: Literal["imagenet"] = "imagenet"
    root: str
    image_size: Annotated[int, Field(ge=32, le=1024)] = 224
    classes: Annotated[int, Field(ge=2, le=1000, exclude_if=lambda classes: classes == 1000)] = 1000
    workers: Annotated[int, Field(ge=0, le=256)] = 8
    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.01
    batch_size: Annotated[int, Field(ge=1, le=65536)] = 256

    @property
    def known(self) -> tuple[Shape, int] | None:
        return (3, self.image_size, self.image_size), self.classes


DataConfig = Annotated[DataSettings, DATA_SETS]
