"""Studies of the format before the record: made into one when they are taken up again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from search_fixtures import TinyTrainer, tiny

from bnnsearch.errors import EnvironmentProblem
from bnnsearch.folder import StudyFolder
from bnnsearch.past import read_past
from bnnsearch.record import held
from bnnsearch.results import TrialResult, TrialState
from bnnsearch.study.local import LocalExecutor
from bnnsearch.study.migration import needs_migration
from bnnsearch.study.study import StudyOutcome, resume_study, run_study

OVERRIDES = ("resources.max_concurrent=1", "budget.trials=6", "sampler={name: tpe, startup_trials: 2}")
WIDTHS = '{"name": "CategoricalDistribution", "attributes": {"choices": ["[1]", "[2]", "[3]"]}}'
RATES = '{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.001, "high": 1.0, "log": false}}'


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrialResult, ...]:
    folder = tmp_path_factory.mktemp("undisturbed")
    space = tiny(folder, *OVERRIDES)
    return run_study(space, study_dir=folder / "study", executor=LocalExecutor(), build_trainer=TinyTrainer).results


def earlier(tmp_path: Path, ended: tuple[TrialResult, ...], *more: dict[str, Any]) -> StudyFolder:
    """A study as bnnsearch 0.1.0 before the record left it: the ended trials, then more lines of Optuna's journal."""
    folder = StudyFolder(tmp_path / "study")
    folder.path.mkdir()
    folder.space.write_text(tiny(tmp_path, *OVERRIDES).text)
    logs: list[dict[str, Any]] = [{"op_code": 0, "worker_id": "a-1", "study_name": "tiny", "directions": [2, 1]}]
    for result in ended:
        logs += drawn(result.number, result.params)
        values = [result.metrics["val_acc"], result.metrics["memory_bytes"]]
        logs.append({"op_code": 6, "worker_id": "a-1", "trial_id": result.number, "state": 1, "values": values,
                     "datetime_complete": "2026-01-01T00:00:00+00:00"})  # fmt: skip
    folder.journal.write_text("".join(json.dumps(log) + "\n" for log in [*logs, *more]))
    with folder.results.open("w") as lines:
        for each in ended:
            fields = {name: getattr(each, name) for name in TrialResult.__slots__}
            lines.write(json.dumps(fields) + "\n")
    (folder.path / "epochs.jsonl").write_text(
        '{"number": 0, "epoch": 1, "epochs": 4, "phase": "train", "values": {"val_acc": 0.5}}\n{"number": 0, "ep'
    )
    return folder


def drawn(number: int, params: Any) -> list[dict[str, Any]]:
    """The journal of a trial whose parameters are drawn one by one."""
    width = ["[1]", "[2]", "[3]"].index(params["model.hidden"])
    own = {"worker_id": "a-1", "trial_id": number}
    return [
        {"op_code": 4, "worker_id": "a-1", "study_id": 0, "datetime_start": "2026-01-01T00:00:00+00:00"},
        {"op_code": 5, **own, "param_name": "model.hidden", "param_value_internal": width, "distribution": WIDTHS},
        {"op_code": 5, **own, "param_name": "optimizer.lr", "param_value_internal": params["optimizer.lr"],
         "distribution": RATES},
    ]  # fmt: skip


def finish(folder: StudyFolder) -> StudyOutcome:
    return resume_study(folder.path, executor=LocalExecutor(), build_trainer=TinyTrainer)


def known(results: tuple[TrialResult, ...]) -> list[Any]:
    return [(each.number, each.state, each.params, each.metrics, each.config) for each in results]


@pytest.mark.parametrize("lines", [0, 1, 2, 3], ids=["between trials", "not drawn", "half drawn", "drawn"])
def test_a_study_goes_on_wherever_its_driver_died_in_drawing_a_trial(
    tmp_path: Path, undisturbed: tuple[TrialResult, ...], lines: int
) -> None:
    folder = earlier(tmp_path, undisturbed[:3], *drawn(3, undisturbed[3].params)[:lines])
    assert read_past(folder).results == undisturbed[:3]
    outcome = finish(folder)
    assert known(outcome.results) == known(undisturbed)
    past = read_past(folder, epochs=True)
    assert past.results == outcome.results
    assert past.history[0][0].values == {"val_acc": 0.5}
    assert finish(folder).results == outcome.results


def test_a_damaged_journal_costs_what_ran(tmp_path: Path, undisturbed: tuple[TrialResult, ...]) -> None:
    folder = earlier(tmp_path, undisturbed[:3], *drawn(3, undisturbed[3].params))
    folder.journal.write_text(folder.journal.read_text().replace('"op_code"', '"op_kode"', 3))
    assert known(finish(folder).results) == known(undisturbed)


def test_a_damaged_result_is_named(tmp_path: Path, undisturbed: tuple[TrialResult, ...]) -> None:
    folder = earlier(tmp_path, undisturbed[:3])
    folder.results.write_text(folder.results.read_text().replace('"metrics"', '"metriks"', 1))
    with pytest.raises(EnvironmentProblem, match=r"results\.jsonl:1: not a trial result; delete the line"):
        finish(folder)
    with pytest.raises(EnvironmentProblem, match=r"results\.jsonl:1: not a trial result"):
        read_past(folder)


def test_a_migration_that_was_killed_is_done_again(tmp_path: Path, undisturbed: tuple[TrialResult, ...]) -> None:
    folder = earlier(tmp_path, undisturbed[:3])
    results, journal = folder.results.read_bytes(), folder.journal.read_bytes()
    assert known(finish(folder).results) == known(undisturbed)
    lines = folder.record.read_bytes().splitlines(keepends=True)
    migrated = json.loads(lines[0].split(b" ", 3)[3])["migrated"]
    for kept in range(1, migrated + 1):
        folder.results.write_bytes(results)
        folder.journal.write_bytes(journal)
        folder.record.write_bytes(b"".join(lines[:kept]))
        with held(folder) as record:
            assert needs_migration(record, folder)
    assert known(finish(folder).results) == known(undisturbed)


def test_trials_in_a_database_are_refused_by_the_format(tmp_path: Path, undisturbed: tuple[TrialResult, ...]) -> None:
    folder = earlier(tmp_path, undisturbed[:1])
    folder.space.write_text(folder.space.read_text() + "storage: {uri: 'sqlite:///x.db'}\n")
    with pytest.raises(EnvironmentProblem, match=r"a study of the format before study\.record whose trials are in a"):
        finish(folder)
    assert read_past(folder).results[0].state is TrialState.COMPLETE
