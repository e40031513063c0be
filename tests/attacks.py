"""What the attack tests share: their size, the count of their tries, searches, mutations of bytes, drivers that die."""

from __future__ import annotations

import json
import os
import pickle
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import search_fixtures

from bnnsearch.folder import StudyFolder
from bnnsearch.past import read_past
from bnnsearch.record import Reader
from bnnsearch.results import TrialResult

FULL = os.environ.get("BNN_ATTACKS") == "full"
"""Whether everything is tried; else a sample that takes no longer than other tests."""


ONE_AT_A_TIME = ("resources.max_concurrent=1", "budget.trials=6")
SEARCHES = {
    "promotion": (
        *ONE_AT_A_TIME, "sampler={name: tpe, startup_trials: 2}",
        "scheduler={name: asha, grace_epochs: 1, reduction_factor: 2}",
    ),
    "stopping": (
        *ONE_AT_A_TIME, "sampler={name: nsga2, population: 2}", "objectives=[{metric: val_acc, mode: max}]",
        "scheduler={name: asha, type: stopping, grace_epochs: 1, reduction_factor: 2}",
    ),
    "retries": (
        *ONE_AT_A_TIME, "sampler={name: nsga3, population: 2}", "trial.data.batch_size=64",
        "constraints=[{metric: val_acc, min: 0.2}]",
    ),
    "grid": (*ONE_AT_A_TIME, "sampler={name: grid, points: 2}"),
}  # fmt: skip
"""Overrides of the tiny space; each search is the same whenever it is made, for it has one worker."""

TRAINERS = {"retries": "HungryTrainer"}


def build(search: str) -> Any:
    return getattr(search_fixtures, TRAINERS.get(search, "TinyTrainer"))


def same(results: Sequence[TrialResult]) -> list[tuple[Any, ...]]:
    """What two runs of one search must agree on."""
    return [(each.number, each.state, each.params, each.metrics, each.epochs, each.reason) for each in results]


def results_in(folder: Path) -> tuple[TrialResult, ...]:
    return read_past(StudyFolder(folder / "study")).results


def events_in(folder: Path) -> list[dict[str, Any]]:
    return list(Reader(folder / "study/study.record").events())


TRIED: Counter[str] = Counter()
"""Tries that were begun, by test; conftest.py tells them at the end."""

Place = TypeVar("Place")


def tries(short: int, full: int = 10_000) -> Iterator[int]:
    """The tries of an attack, numbered from 0."""
    return counted(range(full if FULL else short))


def counted(places: Iterable[Place]) -> Iterator[Place]:
    """The places, each of which is a try of the attack that runs."""
    test = os.environ["PYTEST_CURRENT_TEST"].partition("[")[0].partition(" ")[0]
    for place in places:
        TRIED[test] += 1
        yield place


def sample(places: Sequence[Any], short: int, full: int | None = None) -> list[Any]:
    """All of the places, or `full` of them, in the full form; else `short`, evenly spread from first to last."""
    most = (len(places) if full is None else full) if FULL else short
    if len(places) <= most:
        return list(places)
    return [places[round(step * (len(places) - 1) / max(1, most - 1))] for step in range(most)]


def mutated(content: bytes, chance: random.Random) -> bytes:
    """The content with one to three mutations: flips, cuts, pieces that are lost, doubled, overwritten or put in."""
    for _ in range(chance.choice((1, 1, 2, 3))):
        content = chance.choice(MUTATIONS)(content, chance)
    return content


def _flip(content: bytes, chance: random.Random) -> bytes:
    if not content:
        return content
    place = chance.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + content[place + 1 :]


def _cut(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randint(0, len(content))]


def _behead(content: bytes, chance: random.Random) -> bytes:
    return content[chance.randint(0, len(content)) :]


def _piece(content: bytes, chance: random.Random) -> tuple[int, int]:
    start = chance.randint(0, len(content))
    return start, min(len(content), start + chance.choice((1, 8, 64, 512, 4096)))


def _lose(content: bytes, chance: random.Random) -> bytes:
    start, end = _piece(content, chance)
    return content[:start] + content[end:]


def _double(content: bytes, chance: random.Random) -> bytes:
    start, end = _piece(content, chance)
    return content[:end] + content[start:end] + content[end:]


def _zero(content: bytes, chance: random.Random) -> bytes:
    start, end = _piece(content, chance)
    return content[:start] + bytes(end - start) + content[end:]


def _noise(content: bytes, chance: random.Random) -> bytes:
    start, end = _piece(content, chance)
    return content[:start] + chance.randbytes(end - start) + content[end:]


def _insert(content: bytes, chance: random.Random) -> bytes:
    start, _ = _piece(content, chance)
    return content[:start] + chance.randbytes(chance.choice((1, 4, 100))) + content[start:]


def _turn(content: bytes, chance: random.Random) -> bytes:
    start, _ = _piece(content, chance)
    return content[start:] + content[:start]


def _foreign(content: bytes, chance: random.Random) -> bytes:
    return chance.choice((b"", bytes(len(content)), chance.randbytes(len(content)), pickle.dumps(1), b"{}", b"[]\n"))


def _lines(change: Callable[[list[bytes], random.Random], None]) -> Callable[[bytes, random.Random], bytes]:
    def changed(content: bytes, chance: random.Random) -> bytes:
        lines = content.splitlines(keepends=True)
        if lines:
            change(lines, chance)
        return b"".join(lines)

    return changed


def _lose_line(lines: list[bytes], chance: random.Random) -> None:
    del lines[chance.randrange(len(lines))]


def _double_line(lines: list[bytes], chance: random.Random) -> None:
    lines.insert(chance.randint(0, len(lines)), chance.choice(lines))


def _swap_lines(lines: list[bytes], chance: random.Random) -> None:
    a, b = chance.randrange(len(lines)), chance.randrange(len(lines))
    lines[a], lines[b] = lines[b], lines[a]


MUTATIONS = (_flip, _flip, _flip, _cut, _behead, _lose, _double, _zero, _noise, _insert, _turn, _foreign,
             *map(_lines, (_lose_line, _double_line, _swap_lines)))  # fmt: skip


class MortalDrivers:
    """Starts drivers of which, or of whose Ray, a process is killed; see `killed_driver.py`."""

    def __init__(self, process: subprocess.Popen[str], address: str | None) -> None:
        self._process = process
        self._address = address

    def drive(
        self, folder: Path, search: Sequence[str], *, writes: Sequence[int] = (), how: str = "after",
        victim: str = "driver", trainer: str = "TinyTrainer", runner: str = "local",
    ) -> int:  # fmt: skip
        """The exit code of a driver: -9 where it was killed, 0 where it came to its end.

        Args:
            folder: of the study, which is resumed where it is there.
            search: overrides of the tiny space.
            writes: numbers of the driver's events, from 1, at which the victim is killed.
            how: before the event, with `half` of it written, or after it.
            victim: the driver, the worker, the gcs_server or the raylet.
            trainer: a class of `search_fixtures`.
            runner: local, own (a Ray of its own), or shared (the Ray whose address was given).
        """
        runner = self._address or "" if runner == "shared" else runner
        order = {"folder": str(folder), "overrides": list(search), "trainer": trainer, "runner": runner}
        order |= {"writes": list(writes), "how": how, "victim": victim}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@contextmanager
def mortal_drivers(address: str | None = None) -> Iterator[MortalDrivers]:
    """Drivers, and the address of a Ray that they may share; they inherit its token from this process."""
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("killed_driver.py"))],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    with process:
        yield MortalDrivers(process, address)
