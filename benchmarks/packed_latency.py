"""Packed networks against the same networks in float32, bfloat16 and int8: whole, and layer by layer, on one thread.

Each side runs the network it is made for: packed the binary one, the others its real twin (real weights, ReLU), with
batch norm folded into the convolutions where the tool can. A layer of the packed network is what runs for it there:
the binary convolution with batch norm, shortcut, activation and the bits of the next layer; on the other sides it is
the convolution alone. Times are processor time of the one thread, sides in turn, median of the fastest round.

    uv run python benchmarks/packed_latency.py [--quick] [--json FILE]
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numba
import numpy as np
import onnx
import onnxruntime
import torch
from figures import Target, processor, show_targets, write_figures
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
from torch import nn
from torch.fx.experimental.optimization import fuse

from bnnsearch import native
from bnnsearch.config.model import ModelConfig, Resnet18Config, Resnet20Config
from bnnsearch.core.layers import BinaryConv2d, binary_layers
from bnnsearch.core.models.build import build_model
from bnnsearch.core.models.real import real_twin
from bnnsearch.packed.latency import median_ms
from bnnsearch.packed.model import PackedModel
from bnnsearch.packed.onnx_export import to_onnx

SHAPE = (3, 32, 32)
NETWORKS: dict[str, ModelConfig] = {"ResNet-20": Resnet20Config(), "ResNet-18": Resnet18Config()}
LANES, CHAINS = 16, 24
CLAIMS = "Claimed in the literature, on other machines and against other code: 58x faster, 32x smaller (XNOR-Net)."

Call = Callable[[], object]
Row = dict[str, Any]


def pack(module: nn.Module) -> PackedModel:
    return PackedModel.from_module(module, shape=SHAPE, mean=(0.5,) * 3, std=(0.25,) * 3)


def measure(sides: dict[str, Call], *, rounds: int, seconds: float) -> dict[str, tuple[float, float]]:
    """Milliseconds and spread of each side, the sides in turn; the spread is how much slower the middle round was."""
    for call in sides.values():
        call()
        call()
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, call in sides.items():
            found[name].append(median_ms(call, seconds=seconds, clock=time.thread_time_ns))
    return {name: (min(times), float(np.median(times)) / min(times) - 1) for name, times in found.items()}


class Images(CalibrationDataReader):
    """A few random inputs to choose int8 ranges by."""

    def __init__(self, name: str, example: np.ndarray) -> None:
        self.batches = iter([{name: example}] * 2)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next batch."""
        return next(self.batches, None)


def onnx_call(model: onnx.ModelProto, inputs: np.ndarray, *, int8: bool) -> Call:
    """A call of ONNX Runtime; for int8 the graph is simplified first, so that batch norm is in the convolutions."""
    name = model.graph.input[0].name
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        plain, simple, quantised = (str(Path(folder) / file) for file in ("plain.onnx", "simple.onnx", "int8.onnx"))
        onnx.save(model, plain)
        if int8:
            first = onnxruntime.SessionOptions()
            first.optimized_model_filepath = simple
            first.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
            onnxruntime.InferenceSession(plain, first)
            reader = Images(name, inputs)
            quantize_static(simple, quantised, reader, quant_format=QuantFormat.QDQ, per_channel=True)
        session = onnxruntime.InferenceSession(quantised if int8 else plain, options)
    return lambda: session.run(None, {name: inputs})


def torch_call(module: nn.Module, inputs: torch.Tensor, *, channels_last: bool, dtype: torch.dtype) -> Call:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    module = deepcopy(module).to(dtype).to(memory_format=layout)
    inputs = inputs.to(dtype).contiguous(memory_format=layout)

    def call() -> object:
        with torch.inference_mode():
            return module(inputs)

    return call


def torch_sides(module: nn.Module, inputs: torch.Tensor) -> dict[str, Call]:
    return {
        "torch float32 channels_last": torch_call(module, inputs, channels_last=True, dtype=torch.float32),
        "torch float32 contiguous": torch_call(module, inputs, channels_last=False, dtype=torch.float32),
        "torch bfloat16": torch_call(module, inputs, channels_last=True, dtype=torch.bfloat16),
    }


def network_sides(config: ModelConfig, batch: int) -> dict[str, Call]:
    torch.manual_seed(0)
    binary = build_model(config, shape=SHAPE, classes=10)
    twin = real_twin(binary).eval()
    packed = pack(binary)
    octets = np.random.default_rng(0).integers(0, 256, (batch, *SHAPE), dtype=np.uint8)
    exported = to_onnx(pack(twin))
    return {
        "packed": lambda: packed.logits(octets),
        **torch_sides(fuse(twin), torch.randn(batch, *SHAPE)),
        "ONNX Runtime float32": onnx_call(exported, octets, int8=False),
        "ONNX Runtime int8": onnx_call(exported, octets, int8=True),
    }


def convolution_onnx(layer: nn.Conv2d, inputs: torch.Tensor) -> onnx.ModelProto:
    helper, real = onnx.helper, onnx.TensorProto.FLOAT
    pads, stride = [layer.padding[0]] * 4, list(layer.stride)
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=pads, strides=stride, kernel_shape=list(layer.kernel_size))
    graph = helper.make_graph(
        [node],
        "layer",
        [helper.make_tensor_value_info("x", real, list(inputs.shape))],
        [helper.make_tensor_value_info("y", real, list(layer(inputs).shape))],
        [onnx.numpy_helper.from_array(layer.weight.detach().numpy(), "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def layer_sides(layer: BinaryConv2d, inputs: torch.Tensor) -> dict[str, Call]:
    real = nn.Conv2d(
        layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding, bias=False
    ).eval()
    with torch.no_grad():
        exported = convolution_onnx(real, inputs)
    return {
        **torch_sides(real, inputs),
        "ONNX Runtime float32": onnx_call(exported, inputs.numpy(), int8=False),
        "ONNX Runtime int8": onnx_call(exported, inputs.numpy(), int8=True),
    }


def rows_of(what: str, batch: int, times: dict[str, tuple[float, float]], **more: Any) -> list[Row]:
    packed = times["packed"][0]
    return [
        {"what": what, "batch": batch, "side": side, "ms": ms, "spread": spread, "ratio": ms / packed, **more}
        for side, (ms, spread) in times.items()
    ]


def layer_rows(name: str, config: ModelConfig, batch: int, limit: float, effort: dict[str, Any]) -> list[Row]:
    """Every binary layer of a network that differs from the ones before it."""
    torch.manual_seed(0)
    module = build_model(config, shape=SHAPE, classes=10)
    packed = pack(module)
    plan = packed.plan(batch)
    plan.run(np.random.default_rng(0).integers(0, 256, (batch, *SHAPE), dtype=np.uint8))
    shapes = packed.graph.shapes()
    makers = {operation.name: operation for operation in packed.graph.operations}
    rows, seen = [], set()
    for path, layer in binary_layers(module).items():
        assert isinstance(layer, BinaryConv2d)
        source, out = shapes[makers[path].inputs[0]], shapes[path]
        kind = (source, out)
        if kind in seen:
            continue
        seen.add(kind)
        place = plan.stages.index(path)
        sides = {"packed": lambda place=place: plan.run_stage(place)}
        times = measure(sides | layer_sides(layer, torch.randn(batch, *source)), **effort)
        macs = batch * out.channels * out.height * out.width * source.channels * layer.kernel_size**2
        what = f"{name} {path} {source.channels}x{source.height}x{source.width} to {out.channels}x{out.height}"
        rows += rows_of(what, batch, times, popcount_share=macs / (times["packed"][0] * 1e-3) / limit)
    return rows


@intrinsic
def _count_bits(_: Any, steps: Any) -> Any:
    """XOR, popcount and addition in as many independent registers as there are, and nothing else."""

    def codegen(__: Any, builder: Any, ___: Any, values: Any) -> Any:
        vector, word = ir.VectorType(ir.IntType(32), LANES), ir.IntType(64)
        kind = ir.FunctionType(vector, [vector])
        ctpop = cgutils.get_or_insert_function(builder.module, kind, f"llvm.ctpop.v{LANES}i32")
        entry, loop, end = builder.block, builder.append_basic_block(), builder.append_basic_block()
        builder.branch(loop)
        builder.position_at_end(loop)
        step, sums = builder.phi(word), [builder.phi(vector) for _ in range(CHAINS)]
        mask = ir.Constant(vector, [0x5A5A5A5A] * LANES)
        after = [builder.add(one, builder.call(ctpop, [builder.xor(one, mask)])) for one in sums]
        following = builder.add(step, word(1))
        step.add_incoming(word(0), entry)
        step.add_incoming(following, loop)
        for place, (one, new) in enumerate(zip(sums, after, strict=True)):
            one.add_incoming(ir.Constant(vector, [place] * LANES), entry)
            one.add_incoming(new, loop)
        builder.cbranch(builder.icmp_signed("<", following, values[0]), loop, end)
        builder.position_at_end(end)
        total = after[0]
        for new in after[1:]:
            total = builder.xor(total, new)
        return builder.zext(builder.extract_element(total, ir.IntType(32)(0)), word)

    return types.int64(steps), codegen


def popcount_limit(*, rounds: int) -> float:
    """Binary multiply-accumulates per second of one thread that does nothing but count."""
    count = numba.njit(lambda steps: _count_bits(steps))  # noqa: PLW0108, numba compiles functions only
    steps = 200_000
    count(steps)
    fastest = min(median_ms(lambda: count(steps), seconds=0.02, clock=time.thread_time_ns) for _ in range(rounds))
    return steps * CHAINS * LANES * 32 / (fastest * 1e-3)


def disk_ratio() -> float:
    """Bytes of ResNet-18's float32 state on disk over those of its packed file."""
    module = build_model(Resnet18Config(), shape=SHAPE, classes=10)
    with tempfile.TemporaryDirectory() as folder:
        torch.save(module.state_dict(), Path(folder) / "state.pt")
        pack(module).save(Path(folder) / "model.bnn")
        return (Path(folder) / "state.pt").stat().st_size / (Path(folder) / "model.bnn").stat().st_size


GAINS: dict[str, list[tuple[str, int, str, float]]] = {
    "avx512": [
        ("ResNet-18", 1, "torch float32", 40.5), ("ResNet-18", 1, "int8", 6.6), ("ResNet-20", 1, "torch float32", 29.4),
        ("ResNet-20", 1, "int8", 7.4),
    ],
    "avx2": [
        ("ResNet-18", 1, "torch float32", 12), ("ResNet-18", 1, "int8", 3.5), ("ResNet-18", 64, "torch float32", 10),
        ("ResNet-18", 64, "int8", 5), ("ResNet-20", 1, "torch float32", 20), ("ResNet-20", 1, "int8", 8),
    ],
}  # fmt: skip
"""By instruction set: how many times faster than a side a network is to be."""


def targets_of(rows: list[Row]) -> list[Target]:
    def gain(what: str, batch: int, of: str) -> float:
        sides = [row for row in rows if (row["what"], row["batch"]) == (what, batch) and of in row["side"]]
        return min(row["ratio"] for row in sides)

    found = [
        Target(f"{what}, {of} / packed, batch {batch}", gain(what, batch, of), bound)
        for what, batch, of, bound in GAINS.get(native.chosen(), [])
    ]
    return [*found, Target("ResNet-18, bytes on disk, float32 / packed", disk_ratio(), 30)]


def show(rows: list[Row], limit: float) -> None:
    what = None
    for row in rows:
        if (row["what"], row["batch"]) != what:
            what = (row["what"], row["batch"])
            share = f", {row['popcount_share']:.0%} of LLVM's vector ctpop" if "popcount_share" in row else ""
            print(f"\n{row['what']}, batch {row['batch']}{share}")
        print(f"  {row['side']:28} {row['ms']:10.4f} ms  +{row['spread']:4.0%}   {row['ratio']:6.1f} x packed")
    print(
        f"\nLLVM's vector ctpop, one thread, on registers: {limit / 1e9:.0f} G binary multiply-accumulates per second"
    )
    print(f"Processor: {processor()}; instruction set: {native.chosen()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE as well")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)  # quantisation advises what has been done
    effort = {"rounds": 3, "seconds": 0.05} if arguments.quick else {"rounds": 9, "seconds": 0.3}
    limit = popcount_limit(rounds=effort["rounds"] * 3)
    rows: list[Row] = []
    for name, config in NETWORKS.items():
        for batch in (1, 64):
            rows += rows_of(name, batch, measure(network_sides(config, batch), **effort))
        for batch in (1, 64):
            rows += layer_rows(name, config, batch, limit, effort)
    show(rows, limit)
    targets = targets_of(rows)
    show_targets(targets)
    print(CLAIMS)
    write_figures(arguments.json, rows, targets, packages=("torch", "onnxruntime", "numba"), variant=native.chosen())


if __name__ == "__main__":
    main()
