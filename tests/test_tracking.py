# ruff: noqa: F811  # fixtures are imported by name
"""Tracking against a real MLflow on SQLite: what is recorded, read back, kept while the store is away, and resumed."""

import json
import shutil
import threading

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST
from record_fixtures import SPACE, record_past
from tracking_study import FRONT, blank_store, folder, make_study, play, runs_by_trial, start, train  # noqa: F401  # two are fixtures

from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.errors import EnvironmentProblem
from bnnsearch.folder import StudyFolder
from bnnsearch.pareto import ParetoFront
from bnnsearch.past import read_past
from bnnsearch.record import held
from bnnsearch.results import TrialResult, TrialState
from bnnsearch.tracking import live
from bnnsearch.tracking.describe import flattened
from bnnsearch.tracking.ids import trial_run_id
from bnnsearch.tracking.readback import read_trials
from bnnsearch.tracking.report import write_report
from bnnsearch.tracking.store import check_store, store_of
from bnnsearch.tracking.tracker import Tracker, deliver_rest
from bnnsearch.tracking.updates import Update, merged


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, blank_store):
    """A study of all outcomes, recorded in an embedded store."""
    home = tmp_path_factory.mktemp("recorded")
    shutil.copy(blank_store, home)
    folder = StudyFolder(home / "runs" / "tiny" / "20260101-000000")
    study = make_study(tracking={"uri": f"sqlite:///{home / 'mlflow.db'}"})
    with Tracker(study, folder) as tracker:
        play(tracker, folder, range(7))
    assert tracker.undelivered == 0
    return study, folder, MlflowClient(tracker.store.uri)


def test_a_client_recomputes_the_same_front(recorded):
    study, folder, client = recorded
    results = read_trials("tiny", "20260101-000000", uri=client.tracking_uri)
    assert ParetoFront.of(results, study.objectives).numbers == FRONT
    assert ParetoFront.of(read_past(folder).results, study.objectives).numbers == FRONT
    ours = {result.number: (dict(result.metrics), dict(result.violations)) for result in read_past(folder).results}
    assert {result.number: (dict(result.metrics), dict(result.violations)) for result in results} == ours


def test_each_trial_is_a_flat_run_with_all_its_parameters(recorded):
    _, _, client = recorded
    runs = runs_by_trial(client)
    assert set(runs) == {"report", *map(str, range(7))}
    run = runs["3"]
    assert run.data.params == {"data.name": "digits", "model.name": "mlp", "model.hidden": "[64, 4]", "seed": "3"}
    assert "mlflow.parentRunId" not in run.data.tags
    assert run.info.run_name == "trial 3"
    assert run.inputs.dataset_inputs[0].dataset.name == "digits"
    history = client.get_metric_history(run.info.run_id, "val_acc")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.95 / 3), (2, 0.95 / 2), (3, 0.95)]


def test_the_run_of_a_trial_is_known_without_asking(recorded):
    study, folder, client = recorded
    assert trial_run_id(folder, store_of(study), 3) == runs_by_trial(client)["3"].info.run_id
    assert trial_run_id(folder, store_of(study), 99) is None


def test_the_report_is_there_while_the_search_runs(folder, monkeypatch):
    monkeypatch.setattr(live, "SHORTEST_PAUSE", 0.05)
    written = threading.Event()
    monkeypatch.setattr(live, "write_report", lambda *study: (write_report(*study), written.set())[0])
    with Tracker(make_study(), folder) as tracker:
        play(tracker, folder, [0])
        written.wait()
        assert json.loads((folder.report / "front.json").read_text())["knee"] == 0


def test_tags_tell_state_front_and_reason(recorded):
    _, _, client = recorded
    runs = runs_by_trial(client)
    on_front = {number for number, run in runs.items() if run.data.tags.get("pareto") == "true"}
    assert on_front == set(map(str, FRONT))
    assert [runs[str(number)].info.status for number in range(7)] == [
        "FINISHED", "FINISHED", "KILLED", "FINISHED", "FAILED", "FINISHED", "FINISHED",
    ]  # fmt: skip
    assert runs["2"].data.tags["state"] == "pruned"
    assert runs["4"].data.tags["reason"] == "because"
    assert runs["5"].data.tags["feasible"] == "false"
    assert {run.data.tags["search_id"] for run in runs.values()} == {"20260101-000000"}


def test_the_report_run_has_the_front_and_its_series(recorded):
    study, folder, client = recorded
    run = runs_by_trial(client)["report"]
    assert run.info.status == "FINISHED"
    assert run.data.params["objectives"] == json.dumps([each.model_dump() for each in study.objectives])
    names = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    assert {"front.json", "front.csv", "report.html", "pareto.png"} <= names
    sizes = client.get_metric_history(run.info.run_id, "front_size")
    assert [(metric.step, metric.value) for metric in sizes] == [
        (1, 1), (2, 2), (3, 2), (4, 2), (5, 2), (6, 2), (7, 3),
    ]  # fmt: skip
    assert run.data.metrics["best_val_acc"] == 0.95
    volume = ParetoFront.of(read_past(folder).results, study.objectives).hypervolume
    assert run.data.metrics["hypervolume"] == pytest.approx(volume)
    front = json.loads((folder.report / "front.json").read_text())
    assert {trial["trial"] for trial in front["trials"]} == FRONT


def test_a_resumed_study_goes_on_in_the_same_runs(folder):
    study = make_study()
    with Tracker(study, folder) as tracker:
        play(tracker, folder, range(2))
        start(tracker, folder, 2, {"seed": 2}, {})
        train(tracker, folder, 2, EpochMetrics(1, 3, "train", {"val_acc": 0.33, "train_loss": 1.0}))
    client = MlflowClient(tracker.store.uri)
    before = runs_by_trial(client)
    assert (before["2"].info.status, before["2"].data.tags["state"]) == ("KILLED", "interrupted")

    with Tracker(make_study(budget={"trials": 9}), folder) as tracker:
        with held(folder) as record:
            record.begin_session(name="tiny", seed=0, space=SPACE)
        play(tracker, folder, [2, 3])
    after = runs_by_trial(client)
    assert {number: after[number].info.run_id for number in before} == {
        number: run.info.run_id for number, run in before.items()
    }
    assert (after["2"].info.status, after["2"].data.tags["state"]) == ("KILLED", "pruned")
    steps = [metric.step for metric in client.get_metric_history(after["2"].info.run_id, "train_loss")]
    assert sorted(steps) == [1, 2, 3]
    assert after["report"].info.status == "FINISHED"
    assert after["report"].data.tags["budget.trials"] == "9"


def test_a_driver_that_died_leaves_no_run_running(folder):
    study = make_study()
    dead = Tracker(study, folder)
    dead.__enter__()
    play(dead, folder, [0])
    start(dead, folder, 1, {"seed": 1}, {})
    start(dead, folder, 3, {"seed": 3}, {})
    record_past(folder, [TrialResult(3, TrialState.COMPLETE, {}, {}, {"val_acc": 0.95, "memory_bytes": 150.0})])
    dead._writer.close(30)  # all is delivered, nothing is ended

    assert deliver_rest(study, folder).complete
    runs = runs_by_trial(MlflowClient(dead.store.uri))
    assert {number: run.info.status for number, run in runs.items()} == {
        "report": "FINISHED", "0": "FINISHED", "1": "KILLED", "3": "FINISHED",
    }  # fmt: skip
    assert {number for number, run in runs.items() if run.data.tags.get("pareto") == "true"} == {"0", "3"}


def test_two_studies_in_one_store_do_not_mix(tmp_path, folder):
    folders = [StudyFolder(tmp_path / name / "20260101-000000") for name in ("a", "b")]  # begun in the same second
    with Tracker(make_study(), folders[0]) as first, Tracker(make_study(), folders[1]) as second:
        play(first, folders[0], [0, 1])
        play(second, folders[1], [0])
    client = MlflowClient(first.store.uri)
    found = client.search_runs([client.get_experiment_by_name("tiny").experiment_id])
    assert sorted(run.data.tags.get("trial", "report") for run in found) == ["0", "0", "1", "report", "report"]


def test_a_data_set_that_another_search_names_at_the_same_moment_loses_nothing(folder, monkeypatch):
    """MLflow looks a data set up and inserts it; of two that find nothing there, one meets the other's row."""
    named, met = MlflowClient.log_inputs, []

    def meeting(client, *arguments):
        if not met:
            met.append(arguments)
            raise MlflowException("UNIQUE constraint failed: datasets.name", error_code=BAD_REQUEST)
        return named(client, *arguments)

    monkeypatch.setattr(MlflowClient, "log_inputs", meeting)
    with Tracker(make_study(), folder) as tracker:
        play(tracker, folder, [0])
    assert met
    assert (tracker.undelivered, tracker.refused, tracker.complete) == (0, 0, True)
    run = runs_by_trial(MlflowClient(tracker.store.uri))["0"]
    assert run.inputs.dataset_inputs[0].dataset.name == "digits"


def test_what_is_not_finite_is_left_out(folder):
    with Tracker(make_study(), folder) as tracker:
        start(tracker, folder, 0, {"seed": 0}, {})
        train(tracker, folder, 0, EpochMetrics(1, 3, "train", {"val_acc": 0.1, "train_loss": float("inf")}))
    run = runs_by_trial(MlflowClient(tracker.store.uri))["0"]
    assert run.data.metrics == {"val_acc": 0.1}


def test_nothing_is_written_to_the_terminal(folder, capfd):
    with Tracker(make_study(), folder) as tracker:
        play(tracker, folder, [0])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("http://127.0.0.1:1", "no tracking server answers there"),
        ("sqlite:////proc/none/mlflow.db", "the tracking database cannot be written"),
        ("not a uri", "not a tracking URI"),
    ],
)
def test_a_store_that_cannot_be_used_is_an_environment_problem(folder, uri, message):
    with pytest.raises(EnvironmentProblem, match=message):
        Tracker(make_study(tracking={"uri": uri}), folder)


def test_a_server_that_is_not_mlflow_is_told_apart(http_server):
    study = make_study(tracking={"uri": http_server})
    with pytest.raises(EnvironmentProblem, match="is not an MLflow server"):
        check_store(store_of(study))


@pytest.mark.parametrize("http_server", [401], indirect=True)
def test_a_server_that_refuses_us_is_told_before_the_search(folder, http_server):
    with (
        pytest.raises(EnvironmentProblem, match=r"cannot be used \(.*401"),
        Tracker(make_study(tracking={"uri": http_server}), folder),
    ):
        pass


@pytest.fixture
def http_server(request):
    """An HTTP server that answers everything with a page, by default with success."""
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Page(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(getattr(request, "param", 200))
            self.end_headers()
            self.wfile.write(b"<html>hello</html>")

        def do_POST(self):
            self.do_GET()

        def log_message(self, *args): ...

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_uri_in_messages_hides_credentials(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:1")
    with pytest.raises(EnvironmentProblem) as problem:
        check_store(store_of(make_study()))
    assert "secret" not in str(problem.value)
    assert "http://***@127.0.0.1:1" in str(problem.value)


def test_updates_merge_as_if_delivered_one_after_the_other():
    first = Update("1", started=5, tags={"state": "running", "a": "1"}, metrics=(("x", 1.0, 1, 5),))
    second = Update("1", ended=("FINISHED", 9), tags={"state": "complete"}, metrics=(("x", 2.0, 2, 9),))
    again = Update("1", started=12)
    assert merged([first, Update("2"), second]) == [
        Update("1", 5, ("FINISHED", 9), first.metrics + second.metrics, tags={"state": "complete", "a": "1"}),
        Update("2"),
    ]
    assert merged([first, second, again])[0].ended is None


def test_parameters_are_flattened_as_in_the_yaml():
    tree = {"model": {"name": "mlp", "hidden": [64, 64]}, "seed": None, "plan": {"compile": False}, "recu": {}}
    assert flattened(tree) == {
        "model.name": "mlp", "model.hidden": "[64, 64]", "seed": "null", "plan.compile": "false", "recu": "{}",
    }  # fmt: skip
