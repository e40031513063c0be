"""The exported ONNX predicts what the packed network predicts, in ONNX Runtime and in qonnx's own executor."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from test_packed import pack, random_images, settle

from bnnsearch.config.model import (
    CnnConfig,
    MlpConfig,
    ModelConfig,
    ReactnetAConfig,
    Realtobinary18Config,
    Resnet18Config,
    Resnet20Config,
    XnornetConfig,
)
from bnnsearch.core.models.build import build_model
from bnnsearch.errors import EnvironmentProblem
from bnnsearch.packed.model import PackedModel
from bnnsearch.packed.onnx_export import QONNX_DOMAIN, export_onnx, to_onnx

MODELS: list[tuple[ModelConfig, tuple[int, int, int]]] = [
    (MlpConfig(hidden=(70, 33)), (1, 8, 8)),
    (CnnConfig(activation="rprelu"), (1, 28, 28)),
    (Resnet20Config(), (3, 32, 32)),
    (Resnet20Config(width=0.6, activation="prelu", block="pre", shortcut="conv"), (3, 17, 19)),
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


@each_model
def test_qonnx_predicts_the_same(config: ModelConfig, shape: tuple[int, int, int]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the packages qonnx imports
        from qonnx.core.modelwrapper import ModelWrapper
        from qonnx.core.onnx_exec import execute_onnx
        from qonnx.transformation.infer_shapes import InferShapes

        packed = packed_model(config, shape)
        exported = to_onnx(packed, dialect="qonnx")
        quantised = [node for node in exported.graph.node if node.domain == QONNX_DOMAIN]
        assert {node.op_type for node in quantised} == {"BipolarQuant"}
        images = random_images(3, shape)
        exported.graph.input[0].type.tensor_type.shape.dim[0].dim_value = len(images)
        exported.graph.output[0].type.tensor_type.shape.dim[0].dim_value = len(images)
        found = execute_onnx(ModelWrapper(exported).transform(InferShapes()), {"images": images})["logits"]
    np.testing.assert_array_equal(found.argmax(axis=1), packed.predict(images))


def test_without_onnx_the_export_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = packed_model(MlpConfig(), (1, 8, 8))
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(EnvironmentProblem, match=r"pip install 'bnnsearch\[onnx\]'"):
        to_onnx(packed)
