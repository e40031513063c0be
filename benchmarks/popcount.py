"""Binary multiply-accumulates per second of the popcount kernels, beside torch and numpy doing the same product.

    uv run python benchmarks/popcount.py [--quick] [--json FILE]

The product is one layer on 128 samples: signs of +-1 dot products, from bits to bits. The packed runtime has it as a
layer of a network whose weights are laid out once; evolution as one whose weights change all the time. torch multiplies
+-1 matrices and takes the sign; numpy counts the bits of XOR-ed words. The sides take turns in one process; the median
of the rounds is printed, with the slowest and the fastest. One thread is timed in its processor seconds; two threads,
each with a product of its own (torch: both on one), in wall time.

All are held against LLVM's own vector popcount (`ctpop`) on registers alone, in the same rounds, and against the limit
of the best known scheme of the instruction set, which follows from it by counting instructions, see `SCHEMES`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import numba
import numpy as np
import torch
from figures import Target, processor, show_targets, write_figures
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from bnnsearch import native
from bnnsearch.bits import pack_rows
from bnnsearch.evolve import kernels
from bnnsearch.evolve.layout import Layout
from bnnsearch.evolve.network import to_columns
from bnnsearch.packed.graph import INPUT, Graph, Normalisation
from bnnsearch.packed.model import PackedModel
from bnnsearch.packed.operations import Convolution, Threshold

Call = Callable[[], object]

SAMPLES = 128
SHAPES = ((576, 2048), (784, 512), (1024, 1024), (2048, 640))
LANES, CHAINS, STEPS = 8, 20, 100_000
CTPOP = "LLVM ctpop, registers"
PACKED, EVOLUTION = "bnnsearch packed", "bnnsearch evolution"

SCHEMES = {"avx512": 1.0, "avx2": 9 / 4}
"""What the best known scheme of an instruction set reaches, in terms of LLVM's `ctpop` on registers alone.

avx512: both are XOR, VPOPCNT and addition, three instructions for 512 bits. avx2: `ctpop` is nine instructions for 256
bits (XOR, two ANDs, a shift, two shuffles, an addition of bytes, a sum of bytes, an addition), looking distances up in
tables is four (two shuffles, two additions), and all of them find a port of the four that Zen 3 has for vectors.
"""
TARGETS = {"avx512": 0.82, "avx2": 2.0}


@intrinsic
def _count_registers(_: Any, steps: Any, word: Any) -> Any:
    """XOR, popcount and addition in independent chains of registers, and nothing else."""

    def codegen(__: Any, builder: Any, ___: Any, values: Any) -> Any:
        word_type = ir.IntType(64)
        vector = ir.VectorType(word_type, LANES)
        kind = ir.FunctionType(vector, [vector])
        ctpop = cgutils.get_or_insert_function(builder.module, kind, f"llvm.ctpop.v{LANES}i64")
        empty, zeros = ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        mask = builder.shuffle_vector(builder.insert_element(empty, values[1], ir.IntType(32)(0)), empty, zeros)
        entry, loop, end = builder.block, builder.append_basic_block(), builder.append_basic_block()
        builder.branch(loop)
        builder.position_at_end(loop)
        step, sums = builder.phi(word_type), [builder.phi(vector) for _ in range(CHAINS)]
        after = [builder.add(one, builder.call(ctpop, [builder.xor(one, mask)])) for one in sums]
        following = builder.add(step, word_type(1))
        step.add_incoming(word_type(0), entry)
        step.add_incoming(following, loop)
        for place, (one, new) in enumerate(zip(sums, after, strict=True)):
            one.add_incoming(ir.Constant(vector, [place] * LANES), entry)
            one.add_incoming(new, loop)
        builder.cbranch(builder.icmp_signed("<", following, values[0]), loop, end)
        builder.position_at_end(end)
        total = after[0]
        for new in after[1:]:
            total = builder.xor(total, new)
        return builder.extract_element(total, ir.IntType(32)(0))

    return types.int64(steps, word), codegen


@numba.njit(nogil=True)
def count_registers(steps: int, word: int) -> int:
    return _count_registers(steps, word)


def sides(inputs: int, outputs: int) -> dict[str, Call]:
    """One product by every means, and the limit."""
    generator = np.random.default_rng(0)
    x, w = (generator.integers(0, 2, (count, inputs)).astype(np.bool_) for count in (SAMPLES, outputs))
    packed_x, packed_w = pack_rows(x), pack_rows(w)
    columns, layer = to_columns(packed_x)[0], Layout((inputs, outputs)).table[0]
    signs_x, signs_w = (torch.from_numpy(np.where(bits, 1, -1).astype(np.int8)) for bits in (x, w))

    def popcount() -> object:
        out = np.empty((-(-outputs // 64), SAMPLES), np.uint64)
        kernels.majority(layer, packed_w, columns, SAMPLES, out)
        return out

    def by_numpy() -> object:
        return np.bitwise_count(packed_x[:, None] ^ packed_w[None]).sum(axis=2) <= inputs // 2

    def by_torch(dtype: torch.dtype) -> Call:
        left, right = signs_x.to(dtype), signs_w.to(dtype)
        return lambda: (left @ right.T) >= 0

    return {
        CTPOP: lambda: count_registers(STEPS, 0x5A5A5A5A),
        PACKED: packed_layer(x, w),
        EVOLUTION: popcount,
        "torch int8": lambda: torch._int_mm(signs_x, signs_w.T) >= 0,
        "torch bfloat16": by_torch(torch.bfloat16),
        "torch float32": by_torch(torch.float32),
        "numpy bitwise_count": by_numpy,
    }


def packed_layer(x: NDArray[np.bool_], w: NDArray[np.bool_]) -> Call:
    """The layer in a packed network, as one stage of it."""
    (samples, inputs), outputs = x.shape, len(w)
    operations = (
        Threshold(name="bits", input=INPUT, level=0.0),
        Convolution(name="layer", input="bits", binary=True, channels=outputs, kernel=(1, 1)),
        Threshold(name="signs", input="layer", level=0.0),
        Convolution(name="logits", input="signs", binary=True, channels=1, kernel=(1, 1)),
    )
    images = Normalisation(shape=(inputs, 1, 1), mean=(0.5,) * inputs, std=(0.5,) * inputs)
    tensors = {"layer": pack_rows(w), "logits": pack_rows(np.ones((1, outputs), np.bool_))}
    graph = Graph(images=images, operations=operations, output="logits")
    plan = PackedModel(graph, tensors).plan(samples)
    plan.run(np.where(x, 255, 0).astype(np.uint8).reshape(samples, inputs, 1, 1))
    place = plan.stages.index("layer")
    return lambda: plan.run_stage(place)


def side_macs(name: str, inputs: int, outputs: int) -> int:
    return STEPS * CHAINS * LANES * 64 if name == CTPOP else inputs * outputs * SAMPLES


def repeat(call: Call, times: int) -> None:
    for _ in range(times):
        call()


def measure(inputs: int, outputs: int, *, threads: int, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Multiply-accumulates per second of every side, one figure per round."""
    torch.set_num_threads(threads)
    calls, speeds, times = sides(inputs, outputs), {}, {}
    clock = time.thread_time if threads == 1 else time.perf_counter
    for name, call in calls.items():
        call()
        started = time.perf_counter()
        repeat(call, 3)
        times[name] = max(1, round(seconds / max((time.perf_counter() - started) / 3, 1e-7)))
        speeds[name] = []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(rounds):
            for name, call in calls.items():
                alone = threads == 1 or name.startswith("torch")
                started = clock()
                if alone:
                    repeat(call, times[name])
                else:
                    list(pool.map(lambda _, call=call, count=times[name]: repeat(call, count), range(threads)))
                elapsed = clock() - started
                products = times[name] * (1 if alone else threads)
                speeds[name].append(products * side_macs(name, inputs, outputs) / elapsed)
    return speeds


def show(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        print(
            f"{row['inputs']:5}-{row['outputs']:<5} {row['threads']} thread{'s' * (row['threads'] > 1):1} "
            f"{row['side']:22} {row['macs_per_s'] / 1e9:8.0f} G/s  ({row['slowest'] / 1e9:.0f} to "
            f"{row['fastest'] / 1e9:.0f})  {row['ratio']:5.2f} x ctpop {100 * row['share']:5.1f} % of the limit"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE as well")
    options = parser.parse_args()
    effort = {"rounds": 5, "seconds": 0.02} if options.quick else {"rounds": 15, "seconds": 0.1}
    rows = []
    for threads in (1, 2):
        for inputs, outputs in SHAPES:
            speeds = measure(inputs, outputs, threads=threads, **effort)
            ctpop = median(speeds[CTPOP])
            rows += [
                {"inputs": inputs, "outputs": outputs, "threads": threads, "side": name, "macs_per_s": median(figures),
                 "slowest": min(figures), "fastest": max(figures), "ratio": median(figures) / ctpop,
                 "share": median(figures) / ctpop / SCHEMES.get(native.chosen(), 1.0)}
                for name, figures in speeds.items()
            ]  # fmt: skip
    show(rows)
    ratios = [row["ratio"] for row in rows if row["side"] == PACKED and row["threads"] == 1]
    print(f"\nProcessor: {processor()}; instruction set: {native.chosen()}")
    targets = [
        Target("packed / LLVM ctpop, one thread, least of all shapes", min(ratios), bound)
        for variant, bound in TARGETS.items()
        if variant == native.chosen()
    ]
    show_targets(targets)
    write_figures(options.json, rows, targets, packages=("numba", "numpy", "torch"), variant=native.chosen())


if __name__ == "__main__":
    main()
