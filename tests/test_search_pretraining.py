"""Pretraining is shared exactly where it is the same, computed once, and changes no result."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from search_fixtures import CountingTrainer, TinyTrainer, tiny

from bnnsearch.config.trial import TrialConfig
from bnnsearch.core.checkpoint import load_checkpoint, save_checkpoint
from bnnsearch.core.loop import STATE_FORMAT
from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.results import TrialState
from bnnsearch.study.cache import cache_entries, clear_cache
from bnnsearch.study.local import LocalExecutor
from bnnsearch.study.pretraining import SharedPretraining, pretrain_epochs, pretraining_key
from bnnsearch.study.study import run_study
from bnnsearch.study.worker import Assignment, Job, run_trial
from bnnsearch.trial import build_trainer

BNEW: dict[str, Any] = {
    "data": {"name": "digits"},
    "model": {"name": "mlp", "hidden": [16]},
    "method": {"name": "bnew", "pretrain_epochs": 3, "finetune_epochs": 1, "lambda_rate": 0.1},
    "optimizer": {"name": "adam", "lr": 0.01},
    "plan": {"epochs": 6},
    "seed": 5,
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """BNEW with one setting changed."""
    config = deepcopy(BNEW)
    *groups, key = path.split(".")
    inner = config
    for group in groups:
        inner = inner[group]
    inner[key] = value
    return config


@pytest.mark.parametrize(
    "other",
    [
        changed("method.lambda_rate", 0.2),
        changed("method.finetune_epochs", 2),
        changed("method", {"name": "ste", "pretrain_epochs": 3}),
        changed("plan.epochs", 9),
        changed("name", "left"),
        changed("model.activation", "hardtanh"),  # the default, written out
    ],
)
def test_what_the_pretraining_does_not_see_shares_it(other: dict[str, Any]) -> None:
    assert pretraining_key(other) == pretraining_key(BNEW) is not None


@pytest.mark.parametrize(
    "other",
    [
        changed("method.pretrain_epochs", 2),
        changed("model.hidden", [17]),
        changed("data.batch_size", 64),
        changed("optimizer.lr", 0.02),
        changed("seed", 6),
        changed("plan.label_smoothing", 0.1),
        changed("plan.restart", False),
        {**changed("method", {"name": "ste", "pretrain_epochs": 3}), "recu": {}},
        changed("precision", {}),
    ],
)
def test_what_the_pretraining_depends_on_keeps_it_apart(other: dict[str, Any]) -> None:
    assert pretraining_key(other) not in {pretraining_key(BNEW), None}


def test_a_schedule_over_the_whole_run_makes_its_length_matter() -> None:
    whole = changed("plan", {"epochs": 6, "restart": False})
    longer = changed("plan", {"epochs": 9, "restart": False})
    assert pretraining_key(whole) != pretraining_key(longer)


def test_without_pretraining_there_is_nothing_to_share() -> None:
    ste = changed("method", {"name": "ste"})
    assert (pretrain_epochs(ste), pretraining_key(ste)) == (0, None)
    assert (pretrain_epochs(BNEW), pretrain_epochs(changed("plan.epochs", 2))) == (3, 0)


def real(config: dict[str, Any]) -> Any:
    return build_trainer(TrialConfig.model_validate(config))


def without_speed(epochs: list[EpochMetrics]) -> list[tuple[Any, ...]]:
    return [
        (each.epoch, each.phase, {name: value for name, value in each.values.items() if name != "images_per_s"})
        for each in epochs
    ]


def epochs_of(job: Job, number: int, config: dict[str, Any]) -> list[EpochMetrics]:
    reports = run_trial(job, Assignment(number, config), own_process=False)
    found = []
    for report in reports:
        if isinstance(report, EpochMetrics):
            found.append(report)
            if report.epoch == report.epochs:
                reports.close()
                break
    return found


def test_a_shared_pretraining_changes_no_bit_of_the_result(tmp_path: Path) -> None:
    alone = epochs_of(Job(real, tmp_path), 0, BNEW)
    assert [each.epoch for each in alone] == [1, 2, 3, 4, 5, 6]

    sharing = Job(real, tmp_path, cache=tmp_path / "cache")
    first = epochs_of(sharing, 1, changed("method.lambda_rate", 0.5))
    second = epochs_of(sharing, 2, BNEW)

    assert without_speed(first[:3]) == without_speed(alone[:3])
    assert without_speed(second) == without_speed(alone[3:])


def test_two_trials_that_start_together_compute_it_once(tmp_path: Path) -> None:
    job = Job(partial(CountingTrainer, notes=tmp_path), tmp_path, cache=tmp_path / "cache")
    with ThreadPoolExecutor(4) as pool:
        reached = list(pool.map(lambda number: epochs_of(job, number, BNEW)[-1].epoch, range(4)))

    assert reached == [6] * 4
    trained = Counter(int(line.split(":")[1]) for line in (tmp_path / "epochs").read_text().splitlines())
    assert trained == {1: 1, 2: 1, 3: 1, 4: 4, 5: 4, 6: 4}


def test_a_trial_that_broke_off_in_its_pretraining_leaves_it_to_the_next(tmp_path: Path) -> None:
    job = Job(partial(CountingTrainer, notes=tmp_path), tmp_path, cache=tmp_path / "cache")
    reports = run_trial(job, Assignment(0, BNEW), own_process=False)
    assert [next(reports) for _ in range(3)][-1].epoch == 2  # type: ignore[union-attr]
    reports.close()

    assert [each.epoch for each in epochs_of(job, 1, BNEW)] == [1, 2, 3, 4, 5, 6]


def test_a_damaged_pretraining_is_computed_anew(tmp_path: Path) -> None:
    job = Job(TinyTrainer, tmp_path, cache=tmp_path / "cache")
    epochs_of(job, 0, BNEW)
    (state,) = (tmp_path / "cache").rglob("*.pt")
    state.write_bytes(state.read_bytes()[:-1])

    assert [each.epoch for each in epochs_of(job, 1, BNEW)] == [1, 2, 3, 4, 5, 6]
    assert [each.epoch for each in epochs_of(job, 2, BNEW)] == [4, 5, 6]


def test_a_pretraining_that_cannot_be_taken_up_is_computed_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = Job(real, tmp_path, cache=tmp_path / "cache")
    first = epochs_of(job, 0, BNEW)
    (path,) = (tmp_path / "cache").rglob("*.pt")
    whole = load_checkpoint(path)
    for number, part in enumerate(("format", "kept", "optimizers"), 1):
        save_checkpoint(path, {name: value for name, value in whole.items() if name != part})
        caplog.clear()
        anew = epochs_of(job, number, BNEW)  # nothing of the broken state is left in the trainer
        assert without_speed(anew) == without_speed(first)
        (line,) = [record.getMessage() for record in caplog.records if "computed anew" in record.getMessage()]
        assert path.name in line


def test_states_of_another_format_are_other_pretrainings(monkeypatch: pytest.MonkeyPatch) -> None:
    before = pretraining_key(BNEW)
    monkeypatch.setattr("bnnsearch.core.teacher.STATE_FORMAT", STATE_FORMAT + 1)
    assert pretraining_key(BNEW) != before


@pytest.mark.parametrize("part", ["format", "kept"])
def test_a_trial_whose_checkpoint_another_version_wrote_starts_anew(tmp_path: Path, part: str) -> None:
    job = Job(real, tmp_path, checkpoint_interval=0)
    first = epochs_of(job, 0, BNEW)
    saved = load_checkpoint(job.checkpoint(0))
    del saved["trainer"][part]
    save_checkpoint(job.checkpoint(0), saved)
    assert without_speed(epochs_of(job, 0, BNEW)) == without_speed(first)


def test_a_search_gives_trials_that_share_their_pretraining_one_seed(tmp_path: Path) -> None:
    space = tiny(
        tmp_path,
        "trial.method={name: bnew, pretrain_epochs: 2, finetune_epochs: 1}",
        "trial.optimizer.lr=0.5",
        "budget.trials=8",
    )
    build = partial(CountingTrainer, notes=tmp_path)
    outcome = run_study(space, study_dir=tmp_path / "study", executor=LocalExecutor(), build_trainer=build)

    assert {result.state for result in outcome.results} == {TrialState.COMPLETE}
    networks = {(result.config["model"]["hidden"][0], result.config["seed"]) for result in outcome.results}
    assert len(networks) == len({neurons for neurons, _ in networks}) < 8  # one seed per network
    lines = (tmp_path / "epochs").read_text().split()
    assert len(lines) == 2 * len(networks) + 2 * 8  # two of the four epochs are shared


def test_without_a_cache_to_write_to_nothing_is_shared(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    job = Job(TinyTrainer, tmp_path, cache=tmp_path / "file" / "cache")
    assert [[each.epoch for each in epochs_of(job, number, BNEW)] for number in range(2)] == [[1, 2, 3, 4, 5, 6]] * 2


def test_the_cache_is_listed_and_cleared_but_for_what_is_in_use(tmp_path: Path) -> None:
    job = Job(TinyTrainer, tmp_path, cache=tmp_path / "cache")
    epochs_of(job, 0, BNEW)
    epochs_of(job, 1, changed("optimizer.lr", 0.02))
    entries = cache_entries(tmp_path / "cache")
    assert [entry.kind for entry in entries] == ["pretrain", "pretrain"]

    in_use = SharedPretraining.of(BNEW, tmp_path / "cache")
    assert in_use is not None
    with in_use.held():
        assert [entry.path for entry in clear_cache(tmp_path / "cache")] != [in_use.path]
        assert [entry.path for entry in cache_entries(tmp_path / "cache")] == [in_use.path]
    clear_cache(tmp_path / "cache")
    assert cache_entries(tmp_path / "cache") == []
    assert cache_entries(tmp_path / "nowhere") == []
