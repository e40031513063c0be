"""Networks: which architecture, how deep and wide, which activation, which layers stay real.

A published network is a class of settings whose defaults are that network; every dimension of it can be searched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from bnnsearch.config.activation import Activation, HardtanhConfig, NoActivationConfig, PreluConfig, RpreluConfig
from bnnsearch.config.base import PositiveFloat
from bnnsearch.config.families import MODELS, Member

if TYPE_CHECKING:
    from torch import nn

SignGradient = Literal["ste", "polynomial"]
Scale = Literal["none", "xnor", "learned"]
AlphaGradient = Literal["detached", "scaled", "xnor"]
Shortcut = Literal["pad", "conv", "repeat"]
Block = Literal["post", "pre", "gated"]
Stem = Literal["small", "pooled", "strided", "imagenet"]
Width = Annotated[int, Field(ge=1, le=65536)]
Widths = Annotated[tuple[Width, ...], Field(min_length=1, max_length=16)]
Depths = Annotated[tuple[Annotated[int, Field(ge=1, le=256)], ...], Field(min_length=1, max_length=16)]
Kernel = Literal[1, 3, 5, 7]
EdgeWeights = Literal["real", "int8", "binary"]


class ModelSettings(Member):
    """A network: of binary layers, trained by gradients, or of bits alone, evolved."""

    @property
    def must_pack(self) -> str | None:
        """What the error begins with where the network has no packed form but must have one; None where it need not."""
        return None


class BinarySettings(ModelSettings):
    """What every network of binary layers has.

    Attributes:
        sign_gradient: derivative used for sign of activations: clipped `ste` (eq. 1) or Bi-Real `polynomial` (eq. 2).
        standardise: differentiate sign at x / std(x), std per image, as ReCU does; not with `rprelu`.
        scale: factor per output channel of a binary layer: `none`, `xnor` (alpha = mean |w|) or `learned`.
        alpha_gradient: with scale `xnor`, what the gradient g at alpha sign(w) gives w: g as it is, as in the code of
            Bi-Real net and ReActNet (`detached`); alpha g (`scaled`); or g (1/n + alpha 1[|w| <= 1]), XNOR-Net's eq. 11
            (`xnor`), n being the weights of a filter.
        float_layers: binary layers that stay real, weights and inputs: names or patterns such as `stage1.*`.
    """

    kinds: ClassVar[tuple[str, ...]] = ("torch.nn:Module",)

    sign_gradient: SignGradient = "polynomial"
    standardise: bool = False
    scale: Scale = "none"
    alpha_gradient: AlphaGradient = "detached"
    float_layers: tuple[str, ...] = ()

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        """The network with fresh weights, all layers binary that can be; see `bnnsearch.core.models.build`."""
        network: nn.Module = self._built(shape, classes)
        return network


class ActivatedSettings(BinarySettings):
    """A binary network whose activation is a choice.

    Attributes:
        activation: a name, or the settings of one that has some.
        shift: horizontal shift s of the activation, sign(x - s); where thresholds are learnable, their start.
    """

    activation: Activation = HardtanhConfig()
    shift: Annotated[float, Field(ge=-4, le=4)] = 0.0


class MlpConfig(ActivatedSettings):
    """Binary multi-layer perceptron; the last layer, the classifier, stays real.

    Attributes:
        hidden: width of every hidden layer.
        inputs: `binary` takes the sign of the normalised pixels; `real` takes pixels into a real first layer.
    """

    builder: ClassVar[str] = "bnnsearch.core.models.mlp:build_mlp"

    name: Literal["mlp"] = "mlp"
    hidden: Widths = (256, 256)
    inputs: Literal["binary", "real"] = "binary"

    @model_validator(mode="after")
    def _some_layer_is_binary(self) -> Self:
        if self.inputs == "real" and len(self.hidden) == 1:
            raise ValueError(
                "with inputs: real the first layer is real, so that hidden needs at least 2 entries, not 1"
            )
        return self


class PlainSettings(ActivatedSettings):
    """A chain of convolutions without shortcuts; the first convolution and the classifier stay real, unless told.

    Networks for microcontrollers have neither real: with `int8` or `binary` at both ends every sum is of whole numbers.

    Attributes:
        channels: output channels of every convolution, the first one included.
        pool_after: the convolutions, counted from 1, that a 2x2 max-pool follows.
        kernel: kernel size of every convolution.
        width: factor on all channels.
        first: weights of the first convolution. With `int8` and `binary` its pixels are whole numbers, 32 to a
            standard deviation, and its sums are exact.
        head: what the classifier reads: every value of the last map (`flatten`), or every channel's `mean` over it.
        classifier: weights of the classifier. With `int8` and `binary` it reads signs, and its sums are exact.
    """

    builder: ClassVar[str] = "bnnsearch.core.models.plain:build_plain"

    channels: Widths = (32, 64, 128)
    pool_after: tuple[Annotated[int, Field(ge=1, le=16)], ...] = (1, 2, 3)
    kernel: Kernel = 3
    width: PositiveFloat = 1.0
    first: EdgeWeights = "real"
    head: Literal["flatten", "mean"] = "flatten"
    classifier: EdgeWeights = "real"

    @property
    def windows(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Height and width of every kernel, and of what a max-pool takes the largest of."""
        return (self.kernel, self.kernel), (2, 2)

    def check_shape(self, shape: tuple[int, int, int]) -> None:
        """See that the network is made for images of this shape.

        Raises:
            ValueError: it is not.
        """

    @model_validator(mode="after")
    def _pools_follow_convolutions(self) -> Self:
        if any(number > len(self.channels) for number in self.pool_after):
            raise ValueError(
                f"pool_after counts convolutions, of which there are {len(self.channels)}, but got {self.pool_after}"
            )
        return self


class CnnConfig(PlainSettings):
    """Small binary convolutional network, for MNIST and its like."""

    name: Literal["cnn"] = "cnn"


class Cnn1dConfig(PlainSettings):
    """Small binary network of 1-D convolutions, for signals (C, L), which are images (C, 1, L).

    Attributes:
        pool: neighbours of which a max-pool takes the largest.
    """

    name: Literal["cnn1d"] = "cnn1d"
    kernel: Literal[1, 3, 5, 7, 9, 11, 15, 31] = 7  # type: ignore[assignment]  # a wider choice than of squares
    pool: Annotated[int, Field(ge=2, le=64)] = 4

    @property
    def windows(self) -> tuple[tuple[int, int], tuple[int, int]]:
        return (1, self.kernel), (1, self.pool)

    def check_shape(self, shape: tuple[int, int, int]) -> None:
        if shape[1] != 1:
            raise ValueError(f"model cnn1d needs signals, of height 1, but got images of {shape[1]}x{shape[2]} pixels")


class VggSmallConfig(PlainSettings):
    """VGG-small (Zhang et al., 2018), as binarised by ReCU: six convolutions, one real classifier."""

    name: Literal["vgg_small"] = "vgg_small"
    channels: Widths = (128, 128, 256, 256, 512, 512)
    pool_after: tuple[Annotated[int, Field(ge=1, le=16)], ...] = (2, 4, 6)
    scale: Scale = "learned"


class XnornetConfig(BinarySettings):
    """XNOR-Net (Rastegari et al., 2016): AlexNet with batch norm before each sign and binary fully-connected layers.

    Attributes:
        channels: output channels of the five convolutions.
        hidden: widths of the binary fully-connected layers.
        stem: `imagenet` is 11x11 with stride 4; `small` 3x3 with stride 1, for images of about 32 pixels.
        width: factor on all channels and hidden widths.
        dropout: share of inputs of each fully-connected layer set to 0 while training.
        activation_scale: whether the outputs of binary layers are scaled by K (section 3.2), the mean magnitude of the
            real inputs below each place of the kernel; costs real operations at inference.
    """

    builder: ClassVar[str] = "bnnsearch.core.models.plain:build_xnornet"

    name: Literal["xnornet"] = "xnornet"
    scale: Scale = "xnor"
    sign_gradient: SignGradient = "ste"
    channels: Annotated[tuple[Width, ...], Field(min_length=5, max_length=5)] = (96, 256, 384, 384, 256)
    hidden: Widths = (4096, 4096)
    stem: Literal["imagenet", "small"] = "imagenet"
    width: PositiveFloat = 1.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    activation_scale: bool = False


class ResidualSettings(ActivatedSettings):
    """A network of binary convolutions with shortcuts around them; stem, classifier and 1x1 shortcuts stay real.

    Attributes:
        channels: output channels of every stage; the second and later stages start with stride 2.
        depths: convolutions of every stage.
        shortcut_every: convolutions that a shortcut leads around, 1 or 2; where 2 do not divide a stage's depth, its
            last convolution has a shortcut of its own.
        width: factor on all channels.
        kernel: kernel size of the binary convolutions.
        block: `post` is sign, conv, norm, add, activation; `pre` is norm, activation, sign, conv, add (He et al.,
            2016); `gated` is norm, sign, conv, gate, activation, add (Real-to-Binary).
        reduction: how many times fewer channels the hidden layer of a gate has.
        shortcut: where shapes change, after 2x2 average pooling: `pad` adds zero channels, `conv` is a real 1x1
            convolution with norm, `repeat` repeats the channels.
        stem: `small` 3x3; `pooled` 3x3 and max-pool; `strided` 3x3 with stride 2; `imagenet` 7x7 with stride 2 and
            max-pool.
        stem_activation: whether the activation follows the stem's norm.
        head_norm: whether batch norm precedes the classifier.
    """

    builder: ClassVar[str] = "bnnsearch.core.models.residual:build_residual"

    channels: Widths = (64, 128, 256, 512)
    depths: Depths = (4, 4, 4, 4)
    shortcut_every: Literal[1, 2] = 1
    width: PositiveFloat = 1.0
    kernel: Kernel = 3
    block: Block = "post"
    reduction: Annotated[int, Field(ge=1, le=64)] = 8
    shortcut: Shortcut = "pad"
    stem: Stem = "small"
    stem_activation: bool = False
    head_norm: bool = False

    @model_validator(mode="after")
    def _one_depth_per_stage(self) -> Self:
        if len(self.depths) != len(self.channels):
            raise ValueError(
                f"depths and channels must have one entry per stage each, but got {len(self.depths)} and "
                f"{len(self.channels)}"
            )
        return self


class Resnet20Config(ResidualSettings):
    """Binary ResNet-20 for small images, as in ReCU: a shortcut around every convolution."""

    name: Literal["resnet20"] = "resnet20"
    channels: Widths = (16, 32, 64)
    depths: Depths = (6, 6, 6)
    scale: Scale = "learned"
    stem_activation: bool = True
    head_norm: bool = True


class Resnet18Config(ResidualSettings):
    """Binary ResNet-18, a shortcut around every two convolutions.

    By default as in ReCU, for small images; the thesis's, the usual pre-activation ResNet-18, with `block: pre`; for
    ImageNet with `stem: imagenet`.
    """

    name: Literal["resnet18"] = "resnet18"
    shortcut_every: Literal[1, 2] = 2
    scale: Scale = "learned"
    head_norm: bool = True


class BrnConfig(ResidualSettings):
    """The small network of the BNEW paper's Table 1: a quarter of ResNet-20's operations."""

    name: Literal["brn"] = "brn"
    channels: Widths = (16, 32, 64)
    depths: Depths = (6, 6, 6)
    activation: Activation = RpreluConfig()
    scale: Scale = "learned"
    shortcut: Shortcut = "conv"
    stem: Stem = "pooled"


class Bireal18Config(ResidualSettings):
    """Bi-Real-18 (Liu et al., 2018) for ImageNet."""

    name: Literal["bireal18"] = "bireal18"
    activation: Activation = NoActivationConfig()
    scale: Scale = "xnor"
    shortcut: Shortcut = "conv"
    stem: Stem = "imagenet"


class Realtobinary18Config(ResidualSettings):
    """Real-to-Binary-18 (Martinez et al., 2020) for ImageNet: a data-driven gate alone scales every convolution."""

    name: Literal["realtobinary18"] = "realtobinary18"
    block: Block = "gated"
    sign_gradient: SignGradient = "ste"
    activation: Activation = PreluConfig()
    shortcut: Shortcut = "conv"
    stem: Stem = "imagenet"
    stem_activation: bool = True


class ReactnetAConfig(ActivatedSettings):
    """ReActNet-A (Liu et al., 2020): MobileNet's layout, each step a 3x3 and a 1x1 binary convolution with shortcuts.

    Attributes:
        channels: output channels of every step; where they change, all but the first time, the step has stride 2.
        stem_channels: output channels of the stem.
        width: factor on all channels.
        stem: as in the residual networks.
        stem_activation: as in the residual networks.
    """

    builder: ClassVar[str] = "bnnsearch.core.models.residual:build_reactnet_a"

    name: Literal["reactnet_a"] = "reactnet_a"
    activation: Activation = RpreluConfig()
    scale: Scale = "xnor"
    channels: Widths = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
    stem_channels: Width = 32
    width: PositiveFloat = 1.0
    stem: Stem = "strided"
    stem_activation: bool = False


class XorMlpConfig(ModelSettings):
    """Fully binary perceptron of the thesis, section 4.1: XOR, bit count, majority; no batch norm, no real number.

    Attributes:
        hidden: neurons of the hidden layers.
        bits_per_label: output bits that vote for one label.
        thresholds: an input bit is 1 where the pixel, 0 to 255, is at least this; several give several bits per pixel.
        crop: border pixels left out on every side.
    """

    name: Literal["xor_mlp"] = "xor_mlp"
    hidden: Annotated[tuple[Annotated[int, Field(ge=1, le=16384)], ...], Field(min_length=1, max_length=4)] = (512,)
    bits_per_label: Annotated[int, Field(ge=1, le=4096)] = 64
    thresholds: Annotated[tuple[Annotated[int, Field(ge=1, le=255)], ...], Field(min_length=1, max_length=16)] = (128,)
    crop: Annotated[int, Field(ge=0, le=256)] = 0


ModelConfig = Annotated[ModelSettings, MODELS]
