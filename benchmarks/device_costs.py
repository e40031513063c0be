"""What networks take on a device, a Cortex-M4 unless told otherwise: predicted from their settings, and measured by
compiler and emulator.

`--calibrate` first writes the target's part of `bnnsearch/device/costs.json` anew, from what the compiler makes of
every function, and from measurements of networks of other sizes than those that are compared: to be run after a
change below `bnnsearch/native/device`, or for another compiler.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import get_args

import numpy as np
import torch
from scipy.optimize import nnls

from bnnsearch.config.activation import PreluConfig, RpreluConfig
from bnnsearch.config.model import (
    BinarySettings,
    BrnConfig,
    Cnn1dConfig,
    CnnConfig,
    MlpConfig,
    Realtobinary18Config,
    Resnet18Config,
    Resnet20Config,
    VggSmallConfig,
    XnornetConfig,
)
from bnnsearch.config.study import DeviceName
from bnnsearch.core.models.build import build_model
from bnnsearch.device import cost
from bnnsearch.device.count import counts
from bnnsearch.device.lower import lower
from bnnsearch.device.program import Program
from bnnsearch.device.project import header, sample_images
from bnnsearch.device.source import model_source
from bnnsearch.device.targets import TARGETS, Measured, measure
from bnnsearch.errors import EnvironmentProblem
from bnnsearch.evolve.layout import Layout
from bnnsearch.evolve.network import Binarizer, XorNetwork
from bnnsearch.packed.model import PackedModel
from bnnsearch.packed.xor import pack_xor_network

PULL = 1e-3
GREY, SMALL, COLOUR = (1, 28, 28), (1, 8, 8), (3, 32, 32)
INTEGER = CnnConfig(channels=(16, 32, 48), pool_after=(1, 2), first="int8", classifier="int8", head="mean")
NETWORKS: list[tuple[str, BinarySettings, tuple[int, int, int]]] = [
    ("cnn int8 mean", INTEGER, GREY),
    ("cnn int8 mean, wide", INTEGER.model_copy(update={"channels": (24, 48, 64, 64)}), GREY),
    ("cnn int8 flatten", INTEGER.model_copy(update={"head": "flatten", "pool_after": (1, 2, 3)}), GREY),
    ("cnn binary mean", INTEGER.model_copy(update={"first": "binary", "classifier": "binary"}), GREY),
    ("cnn binary flatten", INTEGER.model_copy(update={"classifier": "binary", "head": "flatten"}), GREY),
    ("cnn int8 colour", INTEGER.model_copy(update={"pool_after": (1, 2, 3)}), (3, 24, 20)),
    ("cnn1d int8", Cnn1dConfig(width=0.3, first="int8", classifier="int8", head="mean"), (3, 1, 130)),
    ("cnn real", CnnConfig(channels=(8, 16), pool_after=(1, 2)), GREY),
    ("cnn prelu", CnnConfig(channels=(8, 16), pool_after=(1, 2), activation=PreluConfig()), SMALL),
    ("mlp", MlpConfig(hidden=(40, 30)), SMALL),
    ("mlp rprelu", MlpConfig(hidden=(60,), activation=RpreluConfig(), scale="xnor"), SMALL),
    ("vgg_small", VggSmallConfig(width=0.05), COLOUR),
    ("xnornet", XnornetConfig(stem="small", width=0.05), COLOUR),
    ("xnornet, input scales", XnornetConfig(stem="small", width=0.05, activation_scale=True), COLOUR),
    ("resnet20", Resnet20Config(width=0.5), SMALL),
    ("resnet20 pre, conv", Resnet20Config(width=0.5, block="pre", shortcut="conv"), SMALL),
    ("resnet18", Resnet18Config(width=0.05), SMALL),
    ("brn", BrnConfig(width=0.2), SMALL),
    ("realtobinary18", Realtobinary18Config(stem="small", width=0.05), SMALL),
]


def packed(config: BinarySettings, shape: tuple[int, int, int], *, trained: bool) -> PackedModel:
    """A fresh network, or one whose batch norms and weights are as different as training makes them."""
    torch.manual_seed(0)
    network = build_model(config, shape=shape, classes=10).eval()
    if trained:
        for part in network.modules():
            if isinstance(part, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
                torch.nn.init.normal_(part.weight, 0.5)
                torch.nn.init.normal_(part.bias)
                assert part.running_mean is not None
                torch.nn.init.normal_(part.running_mean)
    return PackedModel.from_module(network, shape=shape, mean=[0.3] * shape[0], std=[0.3] * shape[0])


def evolved() -> PackedModel:
    """A network of XOR and majority votes."""
    binarizer, shape = Binarizer((60, 128, 200), crop=2), (3, 12, 10)
    sizes = (binarizer.inputs(shape), 130, 120)
    genome = np.random.default_rng(0).integers(0, 2**63, Layout(sizes).words).astype(np.uint64)
    return pack_xor_network(XorNetwork(sizes, 10, genome, binarizer), shape=shape)


def calibrate(target_name: str) -> dict[str, cost.Calibration]:
    """Sizes of functions by the type of numbers, from all networks."""
    target = TARGETS[target_name]
    found: dict[str, cost.Calibration] = defaultdict(
        lambda: {"bytes": {}, "frames": {}, "routines": {}, "rest": {"flash": 0, "stack": 0}, "instructions": {}}
    )
    prefix = target.compiler[0].removesuffix("gcc")
    for model in [evolved(), *(packed(config, shape, trained=True) for _, config, shape in NETWORKS)]:
        program = lower(model.graph, model.tensors)
        into = found[program.number]
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "model.h").write_text(header(model, program, "model"), encoding="utf-8")
            (folder / "model.c").write_text(model_source(program, "model"), encoding="utf-8")
            options = ["-std=c99", "-Os", "-fstack-usage", "-ffunction-sections"]
            run([*target.compiler, *options, "-c", "model.c"], folder)
            for kind, line in symbols(run([f"{prefix}nm", "-S", "model.o"], folder)):
                into["bytes"][kind] = max(line, into["bytes"].get(kind, 0))
            for line in (folder / "model.su").read_text().splitlines():
                place, frame, _ = line.split("\t")
                function = own_name(place.rpartition(":")[2])
                into["frames"][function] = max(int(frame), into["frames"].get(function, 0))
            callers = set(calling_routines(run([f"{prefix}objdump", "-r", "model.o"], folder)))
            if callers:
                told = ["-nostdlib", "-Wl,--gc-sections", "-Wl,-e,model_predict", "-lgcc", "-o", "alone"]
                run([*target.compiler, "model.o", *told], folder)
                sizes = [text_bytes(run([target.size, file], folder)) for file in ("alone", "model.o")]
                score = into["bytes"]["scores"]  # nobody calls it here
                into["routines"][" ".join(sorted(callers))] = sizes[0] - sizes[1] + score
    for into in found.values():  # what is called through two names is counted by the functions themselves
        into["bytes"] = dict(sorted(into["bytes"].items()))
        into["frames"] = dict(sorted(into["frames"].items()))
    fit(target_name, found)
    return dict(found)


def others() -> Iterator[PackedModel]:
    """Smaller and larger networks than NETWORKS, of their kinds."""
    yield evolved()
    for factor, taller, wider in ((0.6, 0, 0), (1.2, -4, 4)):
        for _, config, (channels, height, width) in NETWORKS:
            changed = {
                name: tuple(max(4, int(size * factor)) for size in getattr(config, name))
                for name in ("channels", "hidden")
                if hasattr(config, name)
            }
            if not changed:
                changed = {"width": round(config.width * factor, 3)}  # type: ignore[attr-defined]
            shape = (channels, height + taller, width + wider) if height > 8 else (channels, height, width)
            yield packed(config.model_copy(update=changed), shape, trained=True)


def fit(target_name: str, known: Mapping[str, cost.Calibration]) -> None:
    """Fill in the rest of flash and stack, and what calls of functions and turns of their loops take: least squares of
    relative errors, none below 0.

    Two of them that always go together share what they take as the solver likes; a weak pull keeps them near the usual.
    """
    rows: dict[str, list[tuple[Measured, Program]]] = defaultdict(list)
    for model in others():
        program = lower(model.graph, model.tensors)
        try:
            measured = measure(model, TARGETS[target_name], sample_images(model.shape)[:1])
        except EnvironmentProblem as error:  # it is too large for the board
            print(error)
            continue
        rows[program.number].append((measured, program))
    for number, each in rows.items():
        costs = known[number]
        flash = median(measured.flash_bytes - cost.flash_bytes(program, costs) for measured, program in each)
        stack = median(measured.stack_bytes - cost.stack_bytes(program, costs) for measured, program in each)
        costs["rest"] = {"flash": round(flash), "stack": round(stack)}
        counted = [counts(program.stages) for _, program in each]
        names = sorted({name for turns in counted for name in turns})
        usual = np.array([cost.TURN if " " in name else cost.CALL for name in names])
        shares = np.array(
            [
                [turns.get(name, 0) / measured.instructions for name in names]
                for turns, (measured, _) in zip(counted, each, strict=True)
            ]
        )
        pull = np.diag(PULL / usual)
        found, _ = nnls(np.vstack((shares, pull)), np.concatenate((np.ones(len(shares)), pull @ usual)))
        costs["instructions"] = {name: round(float(value), 2) for name, value in zip(names, found, strict=True)}


def symbols(text: str) -> Iterator[tuple[str, int]]:
    """Functions and their bytes."""
    for line in text.splitlines():
        words = line.split()
        if len(words) == 4 and words[2] in "tT":
            yield own_name(words[3]), int(words[1], 16)


def own_name(name: str) -> str:
    """The name in the files, of a copy that the compiler has made of it too."""
    return name.partition(".")[0].removeprefix("model_")


def calling_routines(text: str) -> Iterator[str]:
    """Functions that call routines of the compiler."""
    function = ""
    for line in text.splitlines():
        if found := re.match(r"RELOCATION RECORDS FOR \[\.text\.(\w+)", line):
            function = own_name(found[1])
        elif re.search(r" __\w+$", line) and function:
            yield function


def text_bytes(text: str) -> int:
    """Text and data, as `size` tells them."""
    return sum(map(int, text.splitlines()[1].split()[:2]))


def run(command: list[str], folder: Path) -> str:
    """What it prints."""
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", choices=get_args(DeviceName), default=cost.REFERENCE)
    parser.add_argument("--calibrate", action="store_true", help="write the costs of functions anew")
    parser.add_argument("--quick", action="store_true", help="only the first twelve networks")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = parser.parse_args()
    if arguments.calibrate:
        path = Path(cost.__file__).with_name("costs.json")
        made = json.loads(path.read_text(encoding="utf-8")) | {arguments.target: calibrate(arguments.target)}
        path.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    print(f"{arguments.target}: predicted before training | measured | error, of flash and of RAM (arena, stack)")
    rows, worst, slowest = [], 0.0, 0.0
    for name, config, shape in NETWORKS[: 12 if arguments.quick else None]:
        fresh, trained = (packed(config, shape, trained=done) for done in (False, True))
        predicted = cost.device_costs(lower(fresh.graph, fresh.tensors), arguments.target)
        try:
            measured = measure(trained, TARGETS[arguments.target], sample_images(shape)[:1])
        except EnvironmentProblem as error:  # it is too large for the board
            print(f"{name:24} {error}")
            continue
        row = {"network": name, "instructions": measured.instructions, **predicted}
        row |= {"flash_measured": measured.flash_bytes, "ram_measured": measured.ram_bytes}
        errors = [predicted[f"{kind}_bytes"] / row[f"{kind}_measured"] - 1 for kind in ("flash", "ram")]
        rows.append(row)
        worst = max(worst, *map(abs, errors))
        cycles = predicted["device_cycles"] / measured.instructions - 1
        slowest = max(slowest, abs(cycles))
        print(
            f"{name:24} flash {predicted['flash_bytes']:7.0f} {measured.flash_bytes:7} {errors[0]:+6.1%}   "
            f"ram {predicted['ram_bytes']:7.0f} {measured.ram_bytes:7} {errors[1]:+6.1%}   "
            f"{predicted['device_cycles']:10.0f} {measured.instructions:10} instructions {cycles:+6.1%}",
            flush=True,
        )
    print(f"largest error {worst:.1%} over {len(rows)} networks; target 2%: {'met' if worst <= 0.02 else 'missed'}")
    print(f"largest error of instructions {slowest:.1%}, of networks that were not fitted to")
    if arguments.json:
        targets = [{"name": "largest error", "value": worst, "target": 0.02, "better": "lower"}]
        arguments.json.write_text(json.dumps({"versions": sys.version, "rows": rows, "targets": targets}, indent=1))


if __name__ == "__main__":
    main()
