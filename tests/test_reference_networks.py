"""Logits and gradients of the published networks in float64 are those of the references' code, with the same weights.

The golden numbers were computed by each reference's own code in float64 (torch 2, CPU), with the weights, the images
and the loss of `reference.py`, by carrying our parameters over to the reference's (in brackets what differs in form):

    resnet18    z-hXu/ReCU, cifar/models_cifar/resnet2.py, resnet18_1w1a, tau .85; stageS.B.first is its block B's
                first half, stageS.B the second
    resnet20    z-hXu/ReCU, cifar/models_cifar/resnet.py, resnet20_1w1a, tau .85; stageS.2B and stageS.2B+1 are block B
    vgg_small   z-hXu/ReCU, cifar/models_cifar/vgg.py, vgg_small_1w1a, tau .85
    brn         Alasdair-P/bnew, models/ste_wide_resnet.py, birealresnet20, relaxed weights as there (centre of
                RPReLU with the other sign, move1 = -centre)
    bireal18    liuzechun/Bi-Real-net, pytorch_implementation/BiReal18_34/birealnet.py, birealnet18
    reactnet_a  liuzechun/ReActNet, mobilenet/2_step2/reactnet.py (its two parallel 1x1 convolutions and norms are the
                halves of ours; move12 = -centre)
    realtobinary18
                larq/zoo, larq_zoo/literature/real_to_bin_nets.py, RealToBinNetBNNFactory, which the authors name in the
                place of their own code, in TensorFlow 2.15 with larq 0.13.3 and float64; batch norm's epsilon is 1e-5,
                the derivative of PReLU at 0 is taken from the left, as torch does (sums of an even number of signs are
                often 0), and images have 33 pixels, where TensorFlow's padding is symmetric; stageS.U is block
                2S + U // 2, a or b

All of it agreed with ours within 3e-14 of the largest logit and of the largest gradient. `evaluated` are logits in
evaluation after that one pass in training: running statistics agree as well; of realtobinary18, before it.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from reference import digest, fill, images, loss
from torch import Tensor, nn

from bnnsearch.config.model import (
    BinarySettings,
    Bireal18Config,
    BrnConfig,
    ReactnetAConfig,
    Realtobinary18Config,
    Resnet18Config,
    Resnet20Config,
    VggSmallConfig,
)
from bnnsearch.core.binarize import rectified_clamp
from bnnsearch.core.layers import View, binary_layers, sign_view
from bnnsearch.core.models.build import build_model

TOLERANCE = 1e-10


@dataclass(frozen=True)
class Golden:
    """What the reference computes.

    Attributes:
        logits: the first four of the first image, in training mode.
        evaluated: the same in evaluation mode.
        gradients: digests of some parameters' gradients.
        total: sum of the digests of all.
    """

    logits: tuple[float, ...]
    evaluated: tuple[float, ...]
    gradients: dict[str, float]
    total: float


@dataclass(frozen=True)
class Case:
    """Which network of ours, with which view of the weights, for how many images of which shape.

    Attributes:
        settled: whether it is evaluated after the pass in training, or before it.
    """

    config: BinarySettings
    count: int
    shape: tuple[int, int, int]
    view: View = sign_view
    settled: bool = True


def recu(weight: Tensor) -> Tensor:
    """ReCU's weights at tau = .85."""
    return sign_view(rectified_clamp(weight, torch.tensor(0.85, dtype=torch.float64)))


def relaxed(weight: Tensor) -> Tensor:
    """The weights as they are."""
    return weight


CASES = {
    "resnet18": Case(Resnet18Config(standardise=True), 4, (3, 32, 32), recu),
    "resnet20": Case(Resnet20Config(standardise=True), 4, (3, 32, 32), recu),
    "vgg_small": Case(VggSmallConfig(standardise=True), 2, (3, 32, 32), recu),
    "brn": Case(BrnConfig(), 2, (3, 32, 32), relaxed),
    "bireal18": Case(Bireal18Config(), 2, (3, 64, 64)),
    "reactnet_a": Case(ReactnetAConfig(), 2, (3, 64, 64)),
    "realtobinary18": Case(Realtobinary18Config(), 2, (3, 33, 33), settled=False),
}
GOLDEN = {
    "resnet18": Golden(
        logits=(31.81318467755797, 4.964121945288484, -2.460236308297781, -8.463010691215088),
        evaluated=(29.190129168726934, 1.0778010102035267, -0.9819594071904441, -2.5594693054729243),
        gradients={
            "stem.conv.weight": 38.452737035342324,
            "stem.norm.bias": -274.80790265961764,
            "stage1.0.first.conv.weight": 40.409648347709464,
            "stage1.0.conv.weight": 7.305103194130481,
            "stage2.0.first.conv.weight": -3.405228629538925,
            "stage2.0.first.conv.alpha": 2.353424793346164e-05,
            "stage3.1.norm.weight": -20.963674966878127,
            "stage4.1.conv.weight": -8.675037513792724,
            "head.classifier_norm.weight": -6.796225204536897,
            "head.classifier.weight": -94.27344444925555,
        },
        total=-241.1190260679828,
    ),
    "resnet20": Golden(
        logits=(-1.5471198287267958, -1.179818134228741, 2.5895312630505782, 3.1069908322781465),
        evaluated=(3.27796544028865, -0.5879373672753775, -0.6401530149098383, 0.7445636704758701),
        gradients={
            "stem.conv.weight": -267.18126435022447,
            "stem.norm.bias": 718.1326005207069,
            "stage1.0.conv.weight": -50.34610125914077,
            "stage1.5.conv.weight": -19.57837365381188,
            "stage2.0.conv.weight": -54.21278932849751,
            "stage2.0.conv.alpha": 6.679446923472811e-05,
            "stage3.1.norm.weight": -26.5065114039114,
            "stage3.5.conv.weight": 1.108707659600828,
            "head.classifier_norm.weight": 4.423221905143757,
            "head.classifier.weight": -5.499772840582956,
        },
        total=285.1395031406088,
    ),
    "vgg_small": Golden(
        logits=(26.382042688724518, 12.277672362660944, 12.583586586038766, -28.102297028866804),
        evaluated=(-3.1435536612048907, 3.308804385870861, 24.466995568952157, 13.609767424019836),
        gradients={
            "layer1.conv.weight": 167.54596118756896,
            "layer1.norm.bias": 163.80509246976385,
            "layer2.conv.weight": -43.82366008894326,
            "layer3.conv.weight": -21.66063187012113,
            "layer4.norm.weight": 4.081761778003687,
            "layer6.conv.weight": 19.594909376423743,
            "classifier.weight": -77.88552099859521,
            "classifier.bias": 2.519946479604874,
        },
        total=2.1022103104923016,
    ),
    "brn": Golden(
        logits=(16.512697324454273, -4.7614679790048156, -2.9518127167221935, 2.104035603183658),
        evaluated=(37.65531430134984, -6.699205806183367, 5.657279551370673, 5.217940134902177),
        gradients={
            "stem.conv.weight": 18.508288152673043,
            "stem.norm.bias": 1.7080573457195898,
            "stage1.0.sign.bias": -9.852909727381762,
            "stage1.0.conv.weight": 7.501543955548721,
            "stage1.5.act.centre": -1.9173613002929182,
            "stage2.0.shortcut.conv.weight": 1.8765665274333916,
            "stage2.0.conv.alpha": 2.717107984553806e-05,
            "stage3.1.act.slope": -2.1447271037219093,
            "stage3.5.conv.weight": -0.3304949710713202,
            "stage3.5.act.out": -12.34911858038091,
            "head.classifier.weight": -31.44348317104679,
        },
        total=-36.39507990743432,
    ),
    "bireal18": Golden(
        logits=(115.61854336346386, 11.555942255699783, 2.6512706365941625, -5.367974738218795),
        evaluated=(98.80504999164049, 267.5330411437487, 562.8515498487159, 323.9299545861537),
        gradients={
            "stem.conv.weight": -132.34541684471117,
            "stem.norm.bias": -99.76597063608575,
            "stage1.0.conv.weight": 159.82411198293553,
            "stage2.0.conv.weight": 100.82905806173392,
            "stage2.0.shortcut.conv.weight": -114.51881455398824,
            "stage3.0.shortcut.norm.weight": 37.29037851897721,
            "stage4.0.norm.bias": -124.56371822005381,
            "stage4.3.conv.weight": -0.8147435975486159,
            "head.classifier.weight": -284.7276763355504,
        },
        total=-1342.1609430722967,
    ),
    "reactnet_a": Golden(
        logits=(432.8091411809412, -9.649790032624287, 27.95838494521208, 31.30560284223658),
        evaluated=(519.4141335096735, -303.8324171905573, 145.65157215557343, 114.95929188775015),
        gradients={
            "stem.conv.weight": -110.10148023807183,
            "stem.norm.bias": 8.711212261549896,
            "step1.spatial.sign.bias": 12.641692158750027,
            "step1.spatial.conv.weight": -207.09440269766606,
            "step1.pointwise.conv.weight": -85.2703397308756,
            "step4.pointwise.norm.weight": 30.8439574693724,
            "step6.spatial.act.centre": 67.67462100597348,
            "step9.pointwise.act.slope": -1.0575668577731352,
            "step13.spatial.conv.weight": -27.570171688240343,
            "step13.pointwise.act.out": -201.16196108864648,
            "head.classifier.weight": -953.5167668964839,
        },
        total=-3279.653887393467,
    ),
    "realtobinary18": Golden(
        logits=(155.77298117734617, -41.7257860162481, 84.20705046988041, -71.98348009262777),
        evaluated=(9181.261586949913, -9754.829678395381, 6183.348865520866, 6008.815120249547),
        gradients={
            "stem.conv.weight": 610.4058299296875,
            "stem.act.weight": 7.4815902945131825,
            "stage1.0.norm.bias": 462.18727211001675,
            "stage1.0.conv.weight": -332.94472466528407,
            "stage1.0.gate.squeeze.weight": 299.71134443488245,
            "stage2.0.gate.excite.weight": -86.38288980822985,
            "stage2.0.shortcut.conv.weight": -107.96862161497184,
            "stage3.1.norm.weight": 210.0073143680848,
            "stage4.3.conv.weight": 66.0265785862712,
            "stage4.3.act.weight": 818.7619986279949,
            "head.classifier.weight": -756.1290224588723,
        },
        total=-1638.7989164263493,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_logits_and_gradients_are_the_references(name: str) -> None:
    case, golden = CASES[name], GOLDEN[name]
    model = fill(build_model(case.config, shape=case.shape, classes=10))
    for layer in binary_layers(model).values():
        layer.view = case.view
    batch = images(case.count, case.shape)
    evaluated = [] if case.settled else evaluate(model, batch)
    logits = model.train()(batch)
    loss(logits).backward()
    assert logits[0, :4].tolist() == pytest.approx(golden.logits, rel=TOLERANCE)
    digests = gradient_digests(model)
    near = TOLERANCE * max(map(abs, golden.gradients.values()))
    assert {n: digests[n] for n in golden.gradients} == pytest.approx(golden.gradients, rel=TOLERANCE, abs=near)
    assert sum(digests.values()) == pytest.approx(golden.total, abs=near * 10)
    assert (evaluated or evaluate(model, batch)) == pytest.approx(golden.evaluated, rel=TOLERANCE)


@torch.no_grad()
def evaluate(model: nn.Module, batch: Tensor) -> list[float]:
    """The first image's first four logits in evaluation mode."""
    found: list[float] = model.eval()(batch)[0, :4].tolist()
    return found


def gradient_digests(model: nn.Module) -> dict[str, float]:
    """One number per parameter's gradient."""
    found = {}
    for number, (name, parameter) in enumerate(model.named_parameters()):
        assert parameter.grad is not None
        found[name] = digest(parameter.grad, number)
    return found
