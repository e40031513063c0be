"""What the driver of a search takes for a trial: processor milliseconds, after 1,000 and up to 20,000 trials before.

    uv run python benchmarks/decisions.py [--trials 1000 4000 10000 20000] [--json FILE]

The whole driver is timed, in one process and without workers: suggestions, promotion by successive halving, `skip:
dominated`, `budget.stagnation`, the record and the copies made of it. The trials train nothing, 16 are under way at a
time, and each reports as a real one would: its costs, then its epochs. Those before are written into the record as
random draws that all came to their end. Reports per second are those of a processor second, suggestions left out.
"""

from __future__ import annotations

import argparse
import logging
import random
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from figures import Target, show_targets, write_figures
from optuna.samplers._ga import BaseGASampler

from bnnsearch.config.sampler import Nsga2Config
from bnnsearch.config.study import StudyConfig
from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.folder import StudyFolder
from bnnsearch.past import begin_session
from bnnsearch.record import Record, held
from bnnsearch.results import TrialResult, TrialState
from bnnsearch.space import Space, load_space
from bnnsearch.study.coordinator import Coordinator
from bnnsearch.study.ledger import Ledger
from bnnsearch.study.samplers import make_sampler
from bnnsearch.study.study import HeldStudy
from bnnsearch.study.worker import Assignment, Costs, Job, Report

SPACE = """
version: 1
name: decisions
objectives: [{{metric: val_acc, mode: max}}, {{metric: memory_bytes, mode: min}}]
sampler: {{name: {sampler}}}
scheduler: {{name: asha, reduction_factor: 3, grace_epochs: 1}}
skip: dominated
budget: {{trials: 1000000, stagnation: {{trials: 100000}}}}
trial:
  data: {{name: digits}}
  model: {{name: mlp, hidden: {{type: choice, values: [[16], [32], [64], [128], [256]]}}}}
  method: {{name: ste}}
  optimizer:
    name: adam
    lr: {{type: loguniform, min: 0.001, max: 0.1}}
    weight_decay: {{type: loguniform, min: 1.0e-6, max: 1.0e-2}}
  plan: {{epochs: 9}}
"""
AT_ONCE, EPOCHS, WINDOW = 16, 9, 50


class Synthetic:
    """An executor whose trials train nothing, `AT_ONCE` of them in turn; it stops after so many new ones.

    Attributes:
        row: what the last `WINDOW` of them took.
    """

    def run(self, coordinator: Coordinator, study: StudyConfig, job: Job) -> None:  # noqa: ARG002
        running: deque[tuple[Assignment, Iterator[Report]]] = deque()
        begun: dict[int, Iterator[Report]] = {}
        reports, start = 0, (0.0, 0.0, 0)
        while len(begun) < AT_ONCE + WINDOW:
            while len(running) < AT_ONCE and (assignment := coordinator.next_trial()) is not None:
                running.append((assignment, begun.setdefault(assignment.number, told(assignment.config))))
                if len(begun) == AT_ONCE:
                    start = time.process_time(), asking(), reports
            assignment, told_of_it = running.popleft()
            reports += 1
            if coordinator.receive(assignment.number, next(told_of_it)):
                running.append((assignment, told_of_it))
        asked = asking() - start[1]
        rest = time.process_time() - start[0] - asked
        self.row = {
            "suggestion_ms": asked / WINDOW * 1000,
            "rest_ms": rest / WINDOW * 1000,
            "reports_per_s": (reports - start[2]) / rest,
        }


def told(config: dict[str, Any]) -> Iterator[Report]:
    """What a trial reports."""
    yield Costs({"memory_bytes": memory(config)})
    for epoch in range(1, EPOCHS + 1):
        names = ("train_loss", "train_acc", "flip_rate", "binary_fraction", "lr", "images_per_s", "val_loss")
        values = {"val_acc": accuracy(config, epoch)} | dict.fromkeys(names, 0.123456789)
        yield EpochMetrics(epoch, EPOCHS, "train", values)


def memory(config: dict[str, Any]) -> float:
    return 100.0 * config["model"]["hidden"][0] + random.Random(repr(config["optimizer"])).random()


def accuracy(config: dict[str, Any], epoch: int) -> float:
    optimizer = config["optimizer"]
    end = 1 - 8 / config["model"]["hidden"][0] - abs(optimizer["lr"] - 0.01) - optimizer["weight_decay"]
    return end * (1 - 0.5**epoch)


def fill(record: Record, space: Space, trials: int) -> None:
    """Write the events of so many trials, in generations as NSGA-II notes them; all of them came to their end."""
    chance = random.Random(7)
    genetic = make_sampler(Nsga2Config(), seed=0)
    assert isinstance(genetic, BaseGASampler)
    of, parents, size = genetic._get_generation_key(), genetic._get_parent_cache_key_prefix(), 50
    for number in range(trials):
        params = {
            "model.hidden": chance.choice(["[16]", "[32]", "[64]", "[128]", "[256]"]),
            "optimizer.lr": 10 ** chance.uniform(-3, -1),
            "optimizer.weight_decay": 10 ** chance.uniform(-6, -2),
        }
        config = {**space.trial.config_of(params), "seed": number}
        generation, first = divmod(number, size)
        noted = {f"{parents}{generation}": list(range(number - size, number))} if generation and not first else {}
        values = {"val_acc": accuracy(config, EPOCHS), "memory_bytes": memory(config)}
        record.append("asked", number=number, params=params, config=config, retry_of=None, confirms=None,
                      attributes={of: generation}, study=noted)  # fmt: skip
        at_rung = [accuracy(config, 1), values["memory_bytes"]]
        record.append("rung", number=number, epoch=1, values=at_rung, standing=None)
        record.append("promoted", number=number, epoch=1)
        ended = TrialResult(number, TrialState.COMPLETE, config, params, values, epochs=EPOCHS, seconds=1.0)
        record.append("ended", **asdict(ended))


_asked = 0.0


def asking() -> float:
    """Processor seconds of suggestions so far."""
    return _asked


def timed(ask: Callable[[Ledger], Assignment]) -> Callable[[Ledger], Assignment]:
    def asked(ledger: Ledger) -> Assignment:
        global _asked  # noqa: PLW0603
        before = time.process_time()
        assignment = ask(ledger)
        _asked += time.process_time() - before
        return assignment

    return asked


def measure(sizes: list[int], folder: Path) -> list[dict[str, Any]]:
    """A row for each size and sampler."""
    Ledger.ask = timed(Ledger.ask)  # type: ignore[method-assign]
    rows = []
    print(f"{'':6}{'trials':>8}{'suggestion':>14}{'all else':>14}{'reports':>14}\n"
          f"{'':6}{'before':>8}{'ms':>14}{'ms per trial':>14}{'per s':>14}")  # fmt: skip
    for size in sizes:
        for sampler in ("tpe", "nsga2"):
            study = StudyFolder(folder / f"{sampler}{size}")
            study.path.mkdir()
            path = study.path / "given.yaml"
            path.write_text(SPACE.format(sampler=sampler))
            space, executor = load_space(path), Synthetic()
            with held(study) as record:
                begin_session(record, space)
                fill(record, space, size)
                HeldStudy(study, space, record).search(executor)
            rows.append({"sampler": sampler, "trials": size} | executor.row)
            line = "{sampler:6}{trials:8}{suggestion_ms:14.2f}{rest_ms:14.2f}{reports_per_s:14.0f}"
            print(line.format(**rows[-1]), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--trials", type=int, nargs="+", default=[1000, 4000, 10000, 20000], help="sizes, ascending")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(options.trials, Path(folder))
    targets = [
        Target("reports per processor second, suggestions apart", min(row["reports_per_s"] for row in rows), 500)
    ]
    show_targets(targets)
    write_figures(options.json, rows, targets, packages=("optuna",))


if __name__ == "__main__":
    main()
