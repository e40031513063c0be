"""Optuna's own pictures and dashboard open the ledger of a study."""

import io
import json
import warnings
from typing import Any

import optuna
import pytest
from search_fixtures import TinyTrainer, tiny

from bnnsearch.folder import StudyFolder
from bnnsearch.study.local import LocalExecutor
from bnnsearch.study.study import run_study


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> optuna.storages.JournalStorage:
    folder = tmp_path_factory.mktemp("viewed")
    study = StudyFolder(folder / "study")
    run_study(tiny(folder, "budget.trials=8"), study_dir=study.path, executor=LocalExecutor(),
              build_trainer=TinyTrainer)  # fmt: skip
    return optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(study.journal)))


def test_optunas_pictures_show_the_study(storage: optuna.storages.JournalStorage) -> None:
    study = optuna.load_study(study_name="tiny", storage=storage)
    front = optuna.visualization.plot_pareto_front(study)
    shown = sum(len(trace.x) for trace in front.data)
    assert shown == len([trial for trial in study.trials if trial.state.is_finished()]) == 8
    assert len(front.data[-1].x) == len(study.best_trials)
    slices = optuna.visualization.plot_slice(study, target=_accuracy, target_name="val_acc")
    assert {len(trace.x) for trace in slices.data} == {8}


def _accuracy(trial: optuna.trial.FrozenTrial) -> float:
    return float(trial.values[0])


def test_optuna_dashboard_serves_the_study(storage: optuna.storages.JournalStorage) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own deprecations
        from optuna_dashboard import wsgi

        app = wsgi(storage)
    (summary,) = _get(app, "/api/studies")["study_summaries"]
    assert summary["study_name"] == "tiny"
    study = _get(app, f"/api/studies/{summary['study_id']}")
    assert [trial["state"] for trial in study["trials"]] == ["Complete"] * 8
    assert study["best_trials"]
    assert study["directions"] == ["maximize", "minimize"]


def _get(app: Any, path: str) -> Any:
    """What the dashboard's server answers, asked as a web server asks it."""
    status: list[str] = []
    environment = {
        "REQUEST_METHOD": "GET", "PATH_INFO": path, "QUERY_STRING": "", "SERVER_NAME": "localhost",
        "SERVER_PORT": "80", "wsgi.input": io.BytesIO(), "wsgi.errors": io.StringIO(), "wsgi.url_scheme": "http",
    }  # fmt: skip
    body = b"".join(app(environment, lambda line, *_: status.append(line)))
    assert status == ["200 OK"]
    return json.loads(body)
