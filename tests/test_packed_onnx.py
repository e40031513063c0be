"""The exported ONNX predicts what the packed network predicts, in ONNX Runtime and in qonnx's own executor."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from test_packed import pack, random_images, settle
from test_packed_xor import random_network

from bnnsearch.config.activation import PreluConfig, RpreluConfig
from bnnsearch.config.model import (
    Bireal18Config,
    BrnConfig,
    Cnn1dConfig,
    CnnConfig,
    MlpConfig,
    ModelConfig,
    ReactnetAConfig,
    Realtobinary18Config,
    Resnet18Config,
    Resnet20Config,
    VggSmallConfig,
    XnornetConfig,
)
from bnnsearch.core.cost import model_cost
from bnnsearch.core.models.build import build_model
from bnnsearch.errors import EnvironmentProblem
from bnnsearch.evolve.network import Binarizer
from bnnsearch.packed.model import PackedModel
from bnnsearch.packed.onnx_export import QONNX_DOMAIN, Batch, Dialect, export_onnx, to_onnx
from bnnsearch.packed.xor import pack_xor_network

MODELS: list[tuple[ModelConfig, tuple[int, int, int]]] = [
    (MlpConfig(hidden=(70, 33)), (1, 8, 8)),
    (CnnConfig(activation=RpreluConfig()), (1, 28, 28)),
    (CnnConfig(first="int8", head="mean", classifier="int8"), (1, 28, 28)),
    (CnnConfig(first="binary", head="mean", classifier="binary", width=0.3), (3, 17, 19)),
    (CnnConfig(first="int8", classifier="int8", pool_after=(2,), width=0.2), (1, 8, 8)),
    (Resnet20Config(), (3, 32, 32)),
    (Resnet20Config(width=0.6, activation=PreluConfig(), block="pre", shortcut="conv"), (3, 17, 19)),
    (Resnet18Config(width=0.1), (3, 32, 32)),
    (Resnet18Config(width=0.1, block="pre"), (3, 17, 19)),
    (Realtobinary18Config(stem="small", width=0.1), (3, 16, 16)),
    (ReactnetAConfig(stem="small", width=0.1), (3, 32, 32)),
    (XnornetConfig(stem="small", width=0.1), (3, 32, 32)),
    (XnornetConfig(stem="small", width=0.1, activation_scale=True), (3, 17, 19)),
]
each_model = pytest.mark.parametrize(("config", "shape"), MODELS, ids=lambda value: getattr(value, "name", None))


def packed_model(config: ModelConfig, shape: tuple[int, int, int]) -> PackedModel:
    torch.manual_seed(0)
    return pack(settle(build_model(config, shape=shape, classes=10), shape), shape)


@each_model
def test_onnx_runtime_predicts_the_same(config: ModelConfig, shape: tuple[int, int, int], tmp_path: Path) -> None:
    packed = packed_model(config, shape)
    export_onnx(packed, tmp_path / "model.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), options, providers=["CPUExecutionProvider"])
    for count in (1, 20):
        images = random_images(count, shape)
        (logits,) = session.run(["logits"], {"images": images})
        np.testing.assert_array_equal(logits.argmax(axis=1), packed.predict(images))


# --- the tools of QONNX

TWO_STAGES = {"channels": (5, 8), "depths": (1, 1)}
FAMILIES: dict[str, tuple[ModelConfig, tuple[int, int, int]]] = {
    "mlp": (MlpConfig(hidden=(70, 33)), (1, 4, 4)),
    "cnn": (CnnConfig(width=0.1, activation=RpreluConfig()), (1, 8, 8)),
    "cnn1d": (Cnn1dConfig(width=0.1, pool=2), (2, 1, 24)),
    "vgg_small": (VggSmallConfig(width=0.03), (3, 8, 8)),
    "xnornet": (XnornetConfig(stem="small", width=0.03), (3, 32, 32)),
    "xnornet-activations": (XnornetConfig(stem="small", width=0.03, activation_scale=True), (3, 32, 32)),
    "resnet20": (Resnet20Config(**TWO_STAGES), (3, 8, 8)),
    "resnet20-pre-conv": (
        Resnet20Config(**TWO_STAGES, activation=PreluConfig(), block="pre", shortcut="conv"),
        (3, 7, 9),
    ),
    "resnet20-repeat": (Resnet20Config(**TWO_STAGES, shortcut="repeat"), (3, 8, 8)),
    "resnet18": (Resnet18Config(channels=(5, 8), depths=(2, 2)), (3, 8, 8)),
    "brn": (BrnConfig(**TWO_STAGES), (3, 16, 16)),
    "bireal18": (Bireal18Config(**TWO_STAGES), (3, 32, 32)),
    "realtobinary18": (Realtobinary18Config(**TWO_STAGES, stem="small"), (3, 8, 8)),
    "reactnet_a": (ReactnetAConfig(channels=(5, 10), stem_channels=5, stem="small"), (3, 8, 8)),
}


@dataclass(frozen=True)
class Tools:
    """What the commands qonnx-cleanup, qonnx-to-channels-last, qonnx-inference-cost and qonnx-exec call."""

    cleanup: Callable[..., None]
    to_channels_last: Callable[..., None]
    inference_cost: Callable[..., dict[str, dict[str, float]]]
    execute: Callable[[Path, np.ndarray], np.ndarray]


@pytest.fixture(scope="module")
def tools() -> Iterator[Tools]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the packages qonnx imports
        from qonnx.core.modelwrapper import ModelWrapper
        from qonnx.core.onnx_exec import execute_onnx
        from qonnx.util.cleanup import cleanup
        from qonnx.util.inference_cost import inference_cost
        from qonnx.util.to_channels_last import to_channels_last

        def execute(path: Path, images: np.ndarray) -> np.ndarray:
            model = ModelWrapper(str(path))
            source, output = model.graph.input[0].name, model.graph.output[0].name
            return np.concatenate([execute_onnx(model, {source: image[None]})[output] for image in images])

        yield Tools(cleanup, to_channels_last, inference_cost, execute)


def check_tools(
    tools: Tools, packed: PackedModel, folder: Path, *, dialect: Dialect, batch: Batch, macs: tuple[int, int]
) -> None:
    """Every step keeps the logits, and the counts are (binary, real) `macs`."""
    images = random_images(2, packed.shape)
    wanted = packed.logits(images)
    raw, clean, last = (folder / name for name in ("model.onnx", "clean.onnx", "last.onnx"))
    export_onnx(packed, raw, dialect=dialect, batch=batch)
    if batch == "any":  # the tools want fixed shapes: their own option fixes them
        tools.cleanup(str(raw), out_file=str(clean), override_inpsize="1")
    else:
        tools.cleanup(str(raw), out_file=str(clean))
    tools.to_channels_last(str(clean), out_file=str(last))
    for path in (raw, clean, last) if batch == 1 else (clean, last):
        np.testing.assert_allclose(tools.execute(path, images), wanted, rtol=1e-4, atol=1e-4)
    counts = tools.inference_cost(str(clean), discount_sparsity=False)["total_cost"]
    assert counts["total_macs"] == sum(macs)
    if dialect == "qonnx":
        assert (counts["op_mac_BIPOLAR_BIPOLAR"], counts["op_mac_FLOAT32_FLOAT32"]) == macs


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("dialect", "batch"), [("qonnx", 1), ("qonnx", "any"), ("plain", 1), ("plain", "any")])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_tools_of_qonnx_keep_logits_and_count_as_we_do(
    family: str, dialect: Dialect, batch: Batch, tools: Tools, tmp_path: Path
) -> None:
    config, shape = FAMILIES[family]
    cost = model_cost(build_model(config, shape=shape, classes=10), shape)
    check_tools(
        tools, packed_model(config, shape), tmp_path, dialect=dialect, batch=batch, macs=(cost.bops, cost.flops)
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dialect", ["qonnx", "plain"])
def test_the_tools_of_qonnx_take_evolved_networks(dialect: Dialect, tools: Tools, tmp_path: Path) -> None:
    """12 pixels by 2 thresholds into 9 and 3 x 4 neurons; the votes are 3 sums of 12."""
    network = random_network(np.random.default_rng(0), (24, 9, 12), 3, Binarizer(thresholds=(60, 180)))
    packed = pack_xor_network(network, shape=(3, 2, 2))
    check_tools(tools, packed, tmp_path, dialect=dialect, batch=1, macs=(24 * 9 + 9 * 12, 3 * 12))


def test_qonnx_marks_what_is_binary() -> None:
    exported = to_onnx(packed_model(*FAMILIES["resnet20"]), dialect="qonnx")
    quantised = [node for node in exported.graph.node if node.domain == QONNX_DOMAIN]
    assert {node.op_type for node in quantised} == {"BipolarQuant"}
    assert exported.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1
    assert to_onnx(packed_model(*FAMILIES["mlp"])).graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"


def test_without_onnx_the_export_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = packed_model(MlpConfig(), (1, 8, 8))
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(EnvironmentProblem, match=r"pip install 'bnnsearch\[onnx\]'"):
        to_onnx(packed)
