"""What a network takes on a device, known before it is trained: flash, memory, instructions.

flash = functions it uses + their share of the compiler's routines + descriptions of its stages + tables + a rest
ram   = arena + the stack of the deepest chain of calls + a rest
cycles = calls of functions and turns of their loops, each times what it takes: instructions, as an emulator counts them

Sizes and frames of functions are those that the compiler of a target gave them: `costs.json`, which
`benchmarks/device_costs.py` writes. What it predicts does not depend on the values of weights and thresholds.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TypedDict

from bnnsearch.device.count import counts
from bnnsearch.device.program import Program, Stage
from bnnsearch.device.source import function_names, mentioned

STAGE_BYTES, STEP_BYTES, PART_BYTES, POINTER_BYTES = 48, 20, 8, 4
"""Of the structures of `native/device/base.h` with pointers of 4 bytes."""

CALL, TURN = 15.0, 6.0
"""Instructions of a call, and of a turn of a loop, where no network that was measured has any."""

REFERENCE = "cortex-m4"
"""The target that a search counts for unless its space names another."""


class Calibration(TypedDict):
    """Of one target and type of numbers: bytes and frames of functions; bytes of routines by the functions that call
    any, joined by a blank; by how much flash and stack differ from what these give, which is what a linker takes away
    and the frames of routines; instructions of what `count.counts` counts.
    """

    bytes: dict[str, int]
    frames: dict[str, int]
    routines: dict[str, int]
    rest: dict[str, int]
    instructions: dict[str, float]


@cache
def calibration(target: str, number: str) -> Calibration:
    """What `costs.json` says of a target."""
    text = Path(__file__).with_name("costs.json").read_text(encoding="utf-8")
    found: Calibration = json.loads(text)[target][number]
    return found


def device_costs(program: Program, target: str = REFERENCE) -> dict[str, float]:
    """`flash_bytes`, `ram_bytes` and `device_cycles` of a program, by their names in a search."""
    known = calibration(target, program.number)
    return {
        "flash_bytes": float(flash_bytes(program, known)),
        "ram_bytes": float(program.arena_bytes + POINTER_BYTES + stack_bytes(program, known)),
        "device_cycles": instructions(program, known),
    }


def instructions(program: Program, known: Calibration) -> float:
    """Instructions of a prediction, the mean over images."""
    each = known["instructions"]
    found = counts(program.stages).items()
    return float(round(sum(times * each.get(name, TURN if " " in name else CALL) for name, times in found)))


def flash_bytes(program: Program, known: Calibration) -> int:
    """Code and tables, linked alone."""
    names = function_names(program) | {"predict", "scores"}
    code = sum(known["bytes"].get(name, 0) for name in names)
    routines = [size for users, size in known["routines"].items() if set(users.split()) <= names]
    stages = program.written()
    described = STAGE_BYTES * len(stages) + STEP_BYTES * sum(len(stage.steps) for stage in stages)
    described += PART_BYTES * sum(len(stage.weights) for stage in stages if isinstance(stage.weights, tuple))
    tables = sum(table.nbytes for table in program.tables())
    return code + max(routines, default=0) + described + tables + known["rest"]["flash"]


def stack_bytes(program: Program, known: Calibration) -> int:
    """The frames of the deepest chain of calls from `predict` on."""
    frames = known["frames"]

    def chain(name: str, below: int) -> int:
        """Of a function, which may ask others for numbers, with frames of `below` bytes."""
        helpers, asks = _calls(name, frozenset(frames))
        return frames.get(name, 0) + max([below * asks, *(chain(helper, below) for helper in helpers)])

    def asked(stage: Stage) -> int:
        """A number of the stage, without its steps."""
        parts = stage.weights if isinstance(stage.weights, tuple) else ()
        below = [stage.inner, *(part.of for part in parts)]
        return chain(stage.source, max(asked(other) if other is not None else 0 for other in below))

    def taken(stage: Stage) -> list[int]:
        return [chain(step.take, asked(step.a) if isinstance(step.a, Stage) else 0) for step in stage.steps]

    deepest = max(max(asked(stage), *taken(stage), 0) for stage in program.stages)
    return frames["predict"] + frames["run"] + deepest + known["rest"]["stack"]


@cache
def _calls(name: str, apart: frozenset[str]) -> tuple[frozenset[str], bool]:
    """Those of the functions `apart`, which have frames of their own, that a function calls; and whether it asks
    another stage for a number.
    """
    helpers, seen, asks, waiting = set[str](), {name}, False, [name]
    while waiting:
        words, code = mentioned(waiting.pop())
        asks |= "->source(" in code
        helpers |= words & apart - {name}
        waiting += words - apart - seen
        seen |= words
    return frozenset(helpers), asks
