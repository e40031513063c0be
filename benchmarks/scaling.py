"""How a search scales: slots kept busy on 1, 2 and 4 nodes, and what the driver needs as the number of trials grows.

    uv run python benchmarks/scaling.py [--quick] [--json FILE]

Four things are measured; the Ray nodes share this machine and declare more CPUs than it has.

- busy: trials that only sleep, on 64 slots in 1, 2 and 4 nodes: which part of the slots' time is spent in trials, from
  when every slot has begun a trial until the last trial begins. The sleeping workers do not load torch, for 64 that do
  take more memory than a small machine has; the driver's side is that of any search.
- ceiling: trials that take no time: how many a second the driver starts, hears through ten epochs and records.
- decide: processor time of the driver per trial (asked of the sampler, ten reports received, a result recorded) and
  the driver's memory, while the number of finished trials grows to 2,000. No Ray: 64 trials at once, in random order.
- train: the same real trials, of handwritten digits, on 4 slots in 1, 2 and 4 nodes.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

from figures import Target, show_targets, write_figures

os.environ.update(
    OMP_NUM_THREADS="1", RAY_ENABLE_UV_RUN_RUNTIME_ENV="0", RAY_AUTH_MODE="disabled", RAY_worker_niceness="0"
)

import optuna
import ray
from ray import tune
from ray.cluster_utils import Cluster

from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.folder import StudyFolder
from bnnsearch.past import begin_session
from bnnsearch.record import held
from bnnsearch.results import TrialResult, TrialState
from bnnsearch.space import Space, load_space
from bnnsearch.study.coordinator import Coordinator
from bnnsearch.study.ledger import Ledger
from bnnsearch.study.ray import REPORT, RayExecutor
from bnnsearch.study.study import run_study
from bnnsearch.study.worker import Assignment, Costs, Job

SPACE = """
version: 1
name: scaling
seed: 1
objectives: [{{metric: val_acc, mode: max}}, {{metric: memory_bytes, mode: min}}]
sampler: {{name: {sampler}}}
budget: {{trials: {trials}}}
resources: {{per_trial: {{cpu: 1}}}}
trial:
  data: {{name: digits}}
  model: {{name: mlp, hidden: {{type: choice, values: [[16], [32], [64], [32, 32], [64, 64]]}}}}
  method: {{name: ste}}
  optimizer: {{name: adam, lr: {{type: loguniform, min: 1.0e-3, max: 1.0e-1}}}}
  plan: {{epochs: {epochs}}}
"""
EPOCHS = 10
NODES = (1, 2, 4)
SAMPLERS = ("random", "tpe", "nsga2")
BLOCKS = 8

Row = dict[str, Any]


def space_of(folder: Path, *, trials: int, sampler: str = "random", epochs: int = EPOCHS) -> Space:
    """A space of one architecture and one real parameter."""
    path = folder / "scaling.yaml"
    path.write_text(SPACE.format(sampler=sampler, trials=trials, epochs=epochs))
    return load_space(path)


@contextmanager
def connected_nodes(count: int, *, slots: int) -> Iterator[None]:
    """A cluster of `count` nodes with `slots` CPUs in all, connected to."""
    with (
        tempfile.TemporaryDirectory(prefix="bnn", dir="/tmp", ignore_cleanup_errors=True) as temp,
        patch.dict(os.environ, {"RAY_TMPDIR": temp}),
    ):
        (Path(temp) / "ray").mkdir()  # where Ray notes the address of a machine's newest cluster: not our neighbours'
        cluster = Cluster()
        for node in range(count):
            place = {"temp_dir": temp, "include_dashboard": False} if node == 0 else {}
            cluster.add_node(num_cpus=slots // count, dashboard_agent_listen_port=0, **place)
        cluster.wait_for_nodes()
        ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
        try:
            yield
        finally:
            ray.shutdown()
            cluster.shutdown()


class Sleeper(tune.Trainable):
    """A worker that sleeps through its trials, and reports when each began and ended by the machine's clock."""

    def setup(self, config: dict[str, Any], seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:  # noqa: ARG002
        self.epoch, self.began = 0, time.time()
        return True

    def step(self) -> dict[str, Any]:
        time.sleep(self.seconds / EPOCHS)
        self.epoch += 1
        values = {"val_acc": 0.5, "memory_bytes": 1.0, "began": self.began, "ended": time.time()}
        return {REPORT: EpochMetrics(self.epoch, EPOCHS, "sleep", values)}


def measure_busy(count: int, *, slots: int, seconds: float, rounds: int) -> Row:
    """Sleeping trials, `rounds` for each slot."""
    asleep = tune.with_parameters(Sleeper, seconds=seconds)
    with tempfile.TemporaryDirectory() as temp, connected_nodes(count, slots=slots):
        space = space_of(Path(temp), trials=slots * rounds)
        began = time.time()
        with patch.object(tune, "with_parameters", lambda actor, job: asleep):  # noqa: ARG005
            outcome = run_study(space, study_dir=Path(temp) / "study", executor=RayExecutor(slots=slots))
        wall = time.time() - began
    assert len(outcome.results) == slots * rounds
    steady, ramp_up = utilisation(outcome.results, slots)
    whole = sum(span(result)[1] - span(result)[0] for result in outcome.results) / (slots * wall)
    return {"part": "busy", "nodes": count, "slots": slots, "seconds per trial": seconds, "utilisation": steady,
            "utilisation with start and end": whole, "s until all slots began": ramp_up, "s in all": wall}  # fmt: skip


def span(result: TrialResult) -> tuple[float, float]:
    """When a sleeping trial began and ended."""
    return result.metrics["began"], result.metrics["ended"]


def utilisation(results: Sequence[TrialResult], slots: int) -> tuple[float, float]:
    """Part of the slots' time spent in trials from when the `slots`-th trial begins until the last one does, and how
    long it takes until the `slots`-th begins.
    """
    spans = [span(result) for result in results]
    starts = sorted(start for start, _ in spans)
    begin, end = starts[slots - 1], starts[-1]
    inside = sum(max(0.0, min(stop, end) - max(start, begin)) for start, stop in spans)
    return inside / (slots * (end - begin)), begin - starts[0]


def measure_ceiling(*, slots: int, trials: int) -> Row:
    """Trials that take no time: how many the driver can start, hear and end in a second."""
    asleep = tune.with_parameters(Sleeper, seconds=0.0)
    with tempfile.TemporaryDirectory() as temp, connected_nodes(1, slots=slots):
        space = space_of(Path(temp), trials=trials)
        with patch.object(tune, "with_parameters", lambda actor, job: asleep):  # noqa: ARG005
            outcome = run_study(space, study_dir=Path(temp) / "study", executor=RayExecutor(slots=slots))
    starts = sorted(span(result)[0] for result in outcome.results)[slots:]  # when all workers were there
    rate = (len(starts) - 1) / (starts[-1] - starts[0])
    return {"part": "ceiling", "slots": slots, "trials": trials, "trials per s": rate, "reports per s": rate * EPOCHS}


def measure_decisions(sampler: str, *, trials: int, at_once: int) -> list[Row]:
    """Rows for each eighth of the trials: processor time per trial and memory of the driver."""
    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as temp, ExitStack() as session:
        folder = StudyFolder(Path(temp))
        space = space_of(folder.path, trials=trials + at_once, sampler=sampler)
        job = Job(build_trainer=refuse, checkpoints=folder.checkpoints)
        record = session.enter_context(held(folder))
        begin_session(record, space)
        coordinator = Coordinator(space.study, Ledger(record, study=space.study, space=space.trial), job=job)
        running: list[tuple[Assignment, int]] = []
        asked, reported = [], []
        rows, ended, block = [], 0, trials // BLOCKS
        while ended < trials:
            while len(running) < at_once and (assignment := timed(asked, coordinator.next_trial)) is not None:
                coordinator.receive(assignment.number, Costs({"memory_bytes": float(chance.randint(100, 9999))}))
                running.append((assignment, 0))
            place = chance.randrange(len(running))
            assignment, epoch = running.pop(place)
            metrics = EpochMetrics(epoch + 1, EPOCHS, "train", {"val_acc": chance.random(), "train_loss": 1.0})
            if timed(reported, coordinator.receive, assignment.number, metrics):
                running.append((assignment, epoch + 1))
                continue
            ended += 1
            if ended % block == 0:
                rows.append({"part": "decide", "sampler": sampler, "finished": ended, "ms per ask": median(asked) * 1e3,
                             "ms per trial": (sum(asked) + sum(reported)) / block * 1e3,
                             "driver MB": resident_bytes() / 1e6})  # fmt: skip
                asked, reported = [], []
    return rows


def refuse(config: dict[str, Any]) -> Any:
    """Nothing trains where only decisions are measured."""
    raise AssertionError(config)


def timed(times: list[float], call: Any, *arguments: Any) -> Any:
    """Call, and add the processor time it took to `times`."""
    began = time.process_time()
    answer = call(*arguments)
    times.append(time.process_time() - began)
    return answer


def resident_bytes() -> int:
    """Memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure_training(count: int, *, slots: int, trials: int, epochs: int) -> Row:
    """Real trials."""
    with tempfile.TemporaryDirectory() as temp, connected_nodes(count, slots=slots):
        space = space_of(Path(temp), trials=trials, epochs=epochs)
        began = time.time()
        outcome = run_study(space, study_dir=Path(temp) / "study", executor=RayExecutor(slots=slots))
        wall = time.time() - began
    assert all(result.state is TrialState.COMPLETE for result in outcome.results), outcome.results
    best = max(result.metrics["val_acc"] for result in outcome.results)
    return {"part": "train", "nodes": count, "slots": slots, "trials": len(outcome.results), "best val_acc": best,
            "s in all": wall}  # fmt: skip


def targets_of(rows: Sequence[Row]) -> list[Target]:
    """What is held against what."""
    busy = [row for row in rows if row["part"] == "busy"]
    targets = [Target(f"utilisation, {row['slots']} slots in {row['nodes']} nodes", row["utilisation"], 0.95)
               for row in busy]  # fmt: skip
    for sampler in SAMPLERS:
        mine = [row for row in rows if row.get("sampler") == sampler]
        first, last = mine[1], mine[-1]  # the first eighth warms up
        growth = last["ms per trial"] / first["ms per trial"]
        targets.append(Target(f"{sampler}: decision time, last eighth over second", growth, 2.0, "lower"))
        targets.append(Target(f"{sampler}: ms per trial in the last eighth", last["ms per trial"], 500.0, "lower"))
        per_thousand = (last["driver MB"] - first["driver MB"]) / (last["finished"] - first["finished"]) * 1000
        targets.append(Target(f"{sampler}: driver MB per 1,000 trials", per_thousand, 20.0, "lower"))
    train = {row["nodes"]: row["s in all"] for row in rows if row["part"] == "train"}
    targets.append(Target("training time, 4 nodes over 1, same slots", train[4] / train[1], 1.25, "lower"))
    return targets


def show(rows: Sequence[Row]) -> None:
    """Rows as a table, a head for each part."""
    part = None
    for row in rows:
        cells = {name: value for name, value in row.items() if name != "part"}
        if row["part"] != part:
            part = row["part"]
            print(f"\n{part}: " + " | ".join(cells))
        print("  " + " | ".join(f"{value:.3f}" if isinstance(value, float) else str(value) for value in cells.values()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="8 slots, 400 trials: within five minutes on two cores")
    parser.add_argument("--json", type=Path, help="where the rows go as JSON")
    arguments = parser.parse_args()
    quick = arguments.quick
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    rows: list[Row] = []
    for sampler in SAMPLERS:
        rows += measure_decisions(sampler, trials=400 if quick else 2000, at_once=64)
    show(rows)
    for count in NODES:
        rows.append(measure_busy(count, slots=8 if quick else 64, seconds=10.0 if quick else 60.0, rounds=4))
        show(rows[-1:])
    rows.append(measure_ceiling(slots=8, trials=100 if quick else 400))
    show(rows[-1:])
    for count in NODES:
        rows.append(measure_training(count, slots=4, trials=8 if quick else 32, epochs=40))
        show(rows[-1:])
    targets = targets_of(rows)
    show_targets(targets)
    write_figures(arguments.json, rows, targets, packages=("ray", "optuna", "torch", "numpy"))


if __name__ == "__main__":
    main()
