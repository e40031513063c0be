"""Production training of one configuration: every epoch, a checkpoint after each, the test set read once at the end.

A folder holds one run: `trial.json` (what is trained), `checkpoint.pt` (the last epoch), `epochs.jsonl` (its history)
and, once it has ended, `result.json`. Called again on the same folder it goes on where the checkpoint stands. Under
`torchrun` the processes share the work, and the first of them writes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from bnnsearch.config.guests import GuestError, keep_guests, use_of
from bnnsearch.config.trial import AnyTrial, trial_of
from bnnsearch.core.checkpoint import CHECKPOINT, check_classes, load_checkpoint, misfit, save_checkpoint, take_up
from bnnsearch.core.distributed import share, wait_for_all
from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.errors import EnvironmentProblem, InputError, printable
from bnnsearch.files import lock, read_regular, write_first
from bnnsearch.folder import TEACHERS, cache_folder
from bnnsearch.trial import build_trainer, class_names

HISTORY = "epochs.jsonl"
RESULT = "result.json"
TRIAL = "trial.json"


@dataclass(frozen=True, slots=True)
class Trained:
    """The outcome of a production run: the last epoch's metrics, costs, and the one reading of the test set.

    Attributes:
        classes: their names, by label; left out by older versions.
    """

    epochs: int
    metrics: dict[str, float]
    costs: dict[str, float]
    test: dict[str, float]
    classes: Sequence[str] = ()


def train(
    config: AnyTrial, out: Path, *, device: str = "cpu", on_epoch: Callable[[EpochMetrics], None] = lambda _: None
) -> Trained:
    """Train `config` to the end of its plan in the folder `out`, going on from its checkpoint where there is one.

    Args:
        config: the training run; a seed that is not set is 0.
        out: the run's folder; made where missing. Processes on several machines must all see it.
        device: torch device, such as `cpu` or `cuda`.
        on_epoch: told after every epoch, the checkpoint being on disk already; and of those of its teachers.

    Raises:
        InputError: `out` holds a run of another configuration, or one that another process trains; or the processes
            cannot share the batches.
        DataError: the classes are no longer those that the run began with.
        EnvironmentProblem: the checkpoint is damaged, or another version wrote it.
    """
    config = seeded(config)
    rank, processes = share()
    _check_shares(config, processes)
    if rank > 0:
        return _trained(config, out, device, on_epoch)
    out.mkdir(parents=True, exist_ok=True)
    _claim(config, out)
    with _alone(out):
        return _trained(config, out, device, on_epoch)


def _trained(config: AnyTrial, out: Path, device: str, on_epoch: Callable[[EpochMetrics], None]) -> Trained:
    rank, processes = share()
    wait_for_all()
    finished = out / RESULT
    if finished.exists():
        return read_result(out)
    # one process shares them with searches; several must all see the folder
    kept = (cache_folder() if processes == 1 else out) / TEACHERS
    trainer = build_trainer(config, device=device, kept=kept, on_epoch=on_epoch)
    classes = class_names(config, device=device)
    last = _take_up(trainer.load_state_dict, out, classes)
    for metrics in trainer.fit():
        if rank == 0:
            state = {
                "config": config.model_dump(mode="json"),
                "trainer": trainer.state_dict(),
                "metrics": asdict(metrics),
                "classes": list(classes),
            }
            with (out / HISTORY).open("a") as history:  # before the checkpoint: an epoch that is repeated counts once
                history.write("\n" * (history.tell() > 0) + json.dumps(asdict(metrics)))  # ends what a full disk tore
            save_checkpoint(out / CHECKPOINT, state)
        last = metrics
        on_epoch(metrics)
    assert last is not None, "a plan has at least one epoch"
    trained = Trained(last.epoch, dict(last.values), trainer.costs(), trainer.test(), classes)
    if rank == 0:
        partial = finished.with_suffix(".partial")  # whole or not at all: its presence says that the run has ended
        partial.write_text(json.dumps(asdict(trained), indent=2) + "\n")
        partial.replace(finished)
    return trained


def validated(
    config: AnyTrial, *, device: str = "cpu", on_epoch: Callable[[EpochMetrics], None] = lambda _: None
) -> dict[str, float]:
    """Train `config` to its end in memory alone: the last epoch's metrics, and the costs. The test set is not read."""
    trainer = build_trainer(config, device=device, kept=cache_folder() / TEACHERS, on_epoch=on_epoch)
    last: dict[str, float] = {}
    for metrics in trainer.fit():
        last = dict(metrics.values)
        on_epoch(metrics)
    return trainer.costs() | last  # what was spent, where the plan knew only a bound


def seeded(config: AnyTrial, *, offset: int = 0) -> AnyTrial:
    """`config` with the seed that is `offset` after its own; its own, where not set, is 0."""
    return config.model_copy(update={"seed": (config.seed or 0) + offset})


def read_epochs(out: Path) -> list[EpochMetrics]:
    """The history of the run in `out`; an epoch that was repeated after a crash counts once, a torn line not at all."""
    epochs = {}
    for line in (out / HISTORY).read_text(errors="replace").splitlines():
        with suppress(ValueError, TypeError):
            metrics = EpochMetrics(**json.loads(line))
            epochs[metrics.epoch] = metrics
    return list(epochs.values())


def read_result(out: Path) -> Trained:
    """The outcome of the finished run in `out`.

    Raises:
        EnvironmentProblem: the file is damaged.
    """
    fields = _read_json(out / RESULT)
    try:
        return Trained(**fields | {"classes": tuple(fields.get("classes", ()))})
    except TypeError as error:
        raise EnvironmentProblem(f"{printable(out / RESULT)}: damaged: it is not the result of a run") from error


def read_trial(out: Path) -> AnyTrial:
    """What the run in `out` trains; its guests are brought into this process.

    Raises:
        EnvironmentProblem: the file is damaged, or what it uses cannot be used.
    """
    tree = _read_json(out / TRIAL)
    try:
        use_of(tree, out)
        return trial_of(tree)
    except GuestError as error:
        raise EnvironmentProblem(f"{printable(out / TRIAL)}: {error}") from error
    except ValidationError as error:
        raise EnvironmentProblem(f"{printable(out / TRIAL)}: damaged: it is not the configuration of a run") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_regular(path))
    except OSError as error:
        raise EnvironmentProblem(f"{printable(path)}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise EnvironmentProblem(f"{printable(path)}: damaged: it is not JSON") from error
    if not isinstance(content, dict):
        raise EnvironmentProblem(f"{printable(path)}: damaged: it is not a JSON object")
    return content


def best_device() -> str:
    """`cuda` where there is one, else `cpu`."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _check_shares(config: AnyTrial, processes: int) -> None:
    if processes == 1:
        return
    if config.trains_alone is not None:
        raise InputError(f"{config.trains_alone} trains in one process, but was started in {processes}")
    if config.batch_size is not None and config.batch_size % processes:
        raise InputError(
            f"data.batch_size must be a multiple of the number of processes, but is {config.batch_size} "
            f"with {processes} processes"
        )


def _claim(config: AnyTrial, out: Path) -> None:
    written, wanted = out / TRIAL, config.model_dump(mode="json")
    write_first(written, f"{json.dumps(wanted, indent=2)}\n".encode())  # what is locked must not be replaced
    if _read_json(written) != wanted:
        raise InputError(f"{out}: holds a run of another configuration ({written}); name another folder with --out")
    keep_guests(config.use, out)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keep other processes from training in `out`: an older checkpoint would take the place of a newer one."""
    if (out / RESULT).exists():  # nothing is written
        yield
        return
    with (out / TRIAL).open("r+") as file:
        try:
            lock(file, wait=0)
        except BlockingIOError:
            raise InputError(f"{out}: another process trains in it") from None
        yield


def _take_up(load: Callable[[dict[str, Any]], None], out: Path, classes: Sequence[str]) -> EpochMetrics | None:
    if not (out / CHECKPOINT).exists():
        return None
    saved = read_run(load, out, classes)
    try:
        return EpochMetrics(**saved["metrics"])
    except (KeyError, TypeError) as error:
        raise EnvironmentProblem(f"{printable(out / CHECKPOINT)}: not the checkpoint of a run: no metrics") from error


def read_run(load: Callable[[dict[str, Any]], None], out: Path, classes: Sequence[str]) -> dict[str, Any]:
    """Let a trainer's `load_state_dict` take up the checkpoint of the run in `out`; what else it holds.

    Raises:
        DataError: the classes are no longer those that were trained on.
        EnvironmentProblem: the checkpoint is missing or damaged, or another version wrote it.
    """
    path = out / CHECKPOINT
    try:
        saved = load_checkpoint(path)
    except OSError as error:
        raise EnvironmentProblem(f"{printable(path)}: {error.strerror}; expected a checkpoint") from error
    except ValueError as error:
        raise EnvironmentProblem(f"{error}; remove it to train anew") from error
    try:
        check_classes(saved, classes, path)
        take_up(load, saved, path)
    except EnvironmentProblem:
        raise
    except RuntimeError as error:  # the configuration is the same: it is the network that was another
        problem = "another version of bnnsearch trained another network"
        raise EnvironmentProblem(f"{printable(path)}: {problem}: {misfit(error)}; train anew") from error
    except Exception as error:  # values of a right digest that do not fit, of any type in any place
        raise EnvironmentProblem(f"{printable(path)}: not the checkpoint of a run ({misfit(error)})") from error
    return saved
