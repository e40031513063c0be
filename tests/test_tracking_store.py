# ruff: noqa: F811  # fixtures are imported by name
"""The embedded store under faults: killed migrations, damaged files, odd paths, deleted runs; and servers that drip."""

import json
import os
import shutil
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest
from attacks import FULL, counted
from click.testing import CliRunner
from mlflow import MlflowClient
from record_fixtures import SPACE, record_past
from tracking_study import (  # noqa: F401  # two are fixtures
    FRONT,
    blank_store,
    folder,
    make_study,
    play,
    runs_by_trial,
    start,
)

from bnnsearch import cli
from bnnsearch.errors import EnvironmentProblem
from bnnsearch.folder import StudyFolder
from bnnsearch.record import held, original
from bnnsearch.results import TrialResult, TrialState
from bnnsearch.tracking.database import database_uri, has_runs, make_ready
from bnnsearch.tracking.ids import CHECK, FILE, study_store, trial_run_id
from bnnsearch.tracking.production import production_store
from bnnsearch.tracking.store import Store, check_access, check_store, connect, mend_store, store_of
from bnnsearch.tracking.tracker import Tracker, deliver_rest, is_complete

TESTS = Path(__file__).parent


def statuses(store):
    """Each run of the only study in a store and how it ended, as a new client sees it."""
    return {name: run.info.status for name, run in runs_by_trial(MlflowClient(store.uri)).items()}


ENDED = {
    "report": "FINISHED", "0": "FINISHED", "1": "FINISHED", "2": "KILLED", "3": "FINISHED", "4": "FAILED",
    "5": "FINISHED", "6": "FINISHED",
}  # fmt: skip


def kill_migrations(home, way, first, step, last):
    command = [sys.executable, TESTS / "migration_killer.py", home, way, str(first), str(step), str(last)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.attack
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_store_whose_migration_was_killed_is_made_anew(tmp_path):
    """At several statements of MLflow's chain of migrations; in the full form at every eleventh of 1700.

    A later search there loses no run.
    """
    killed = kill_migrations(tmp_path, "theirs", 1, 11 if FULL else 500, 9999)
    assert len(killed) >= (140 if FULL else 3)
    mended = 0
    for statement in counted(killed):
        path, folder = tmp_path / f"theirs-{statement}.db", StudyFolder(tmp_path / f"runs/tiny/{statement}")
        with Tracker(make_study(tracking={"uri": database_uri(path)}), folder) as tracker:
            play(tracker, folder, [0, 3], epochs=1)
        mended += tracker.notice is not None
        assert (tracker.complete, tracker.undelivered, tracker.refused) == (True, 0, 0)
        assert statuses(tracker.store) == {name: ENDED[name] for name in ("report", "0", "3")}
        assert make_ready(path) is None
    assert mended >= len(killed) - 1  # before its first table there is nothing to mend


@pytest.mark.attack
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_our_own_making_of_a_store_is_killed_without_a_trace(tmp_path):
    """The deaths follow one another in one folder, each among what the one before it left; the last process lives."""
    killed = list(counted(kill_migrations(tmp_path, "ours", 0, 11 if FULL else 700, 9999)))
    assert len(killed) >= (140 if FULL else 3)
    path = tmp_path / "ours.db"
    assert make_ready(path) is None
    connect(Store(database_uri(path), "after"))
    assert {each.name for each in tmp_path.iterdir()} == {"ours.db", ".ours.db.lock"}


def cut_off(path):
    """Leave what a killed migration leaves: the copy of a table, half filled."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE _alembic_tmp_runs AS SELECT * FROM runs LIMIT 2")
        database.execute("UPDATE alembic_version SET version_num = '2b4d017a5e9b'")
        database.commit()


def only_copy(path):
    """The other side of the same moment: the table is gone, its copy not renamed yet."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("ALTER TABLE runs RENAME TO _alembic_tmp_runs")
        database.commit()


def torn(path):
    """A page in the middle is overwritten."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2 // 4096 * 4096)
        file.write(os.urandom(4096))


def shortened(path):
    os.truncate(path, path.stat().st_size * 3 // 4)


def header_lost(path):
    with path.open("r+b") as file:
        file.write(bytes(100))


def emptied(path):
    path.write_bytes(b"")


def deleted(path):
    path.unlink()


DAMAGES = [cut_off, only_copy, torn, shortened, header_lost, emptied, deleted]


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_store_has_every_trial_again(folder, damage):
    study = make_study()
    with Tracker(study, folder) as tracker:
        play(tracker, folder, range(5))
    database = tracker.store.database
    with Tracker(make_study(name="other"), StudyFolder(folder.path.parent / "other")) as other:
        play(other, StudyFolder(folder.path.parent / "other"), [0])
    damage(database)
    before = database.read_bytes() if database.exists() else b""
    with Tracker(study, folder) as tracker:
        play(tracker, folder, [5, 6])
    assert statuses(tracker.store) == ENDED
    runs = runs_by_trial(MlflowClient(tracker.store.uri))
    assert {number for number, run in runs.items() if run.data.tags.get("pareto") == "true"} == set(map(str, FRONT))
    for number in range(7):
        history = MlflowClient(tracker.store.uri).get_metric_history(runs[str(number)].info.run_id, "train_loss")
        assert {metric.step for metric in history} == {1, 2, 3}
        assert runs[str(number)].data.params["seed"] == str(number)
    if before:
        assert tracker.notice.startswith(f"{database}: ")
        assert "\n" not in tracker.notice
        assert (database.parent / "mlflow.db.broken").read_bytes() == before
    else:
        assert tracker.notice is None
    if damage in (cut_off, only_copy):
        assert set(runs_by_trial(MlflowClient(tracker.store.uri), "other")) == {"report", "0"}


def test_a_report_delivers_what_a_lost_store_had(folder):
    with Tracker(make_study(), folder) as tracker:
        play(tracker, folder, range(3))
    assert is_complete(folder, tracker.store)
    tracker.store.database.unlink()
    assert not is_complete(folder, tracker.store)
    sent = deliver_rest(make_study(), folder)
    assert (sent.complete, sent.undelivered, sent.refused) == (True, 0, 0)
    assert statuses(sent.store) == {name: ENDED[name] for name in ("report", "0", "1", "2")}


def test_what_is_no_store_is_refused_and_left_alone(tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("not a database" * 100)
    with pytest.raises(EnvironmentProblem, match=r"notes\.txt: the tracking database cannot be written"):
        check_store(Store(database_uri(text), "x"))
    with pytest.raises(EnvironmentProblem, match=r"notes\.txt: is not a database"):
        make_ready(text)
    theirs = tmp_path / "theirs.db"
    with closing(sqlite3.connect(theirs)) as database:
        database.execute("CREATE TABLE customers (name TEXT)")
    with pytest.raises(EnvironmentProblem, match=r"theirs\.db: holds customers and is no store of MLflow's"):
        make_ready(theirs)
    with pytest.raises(EnvironmentProblem, match="what is recorded in memory would be lost"):
        check_store(store_of(make_study(tracking={"uri": "sqlite:///:memory:"})))
    assert sorted(each.name for each in tmp_path.iterdir()) == ["notes.txt", "theirs.db"]


@pytest.mark.parametrize("kind", ["FIFO", "device", "link to a device"])
def test_what_is_no_file_is_no_store_and_left_alone(tmp_path, kind):
    """As root a store would else take the place of /dev/null, for the whole machine."""
    path = there = tmp_path / "x.db"
    if kind.startswith("link"):
        there = tmp_path / "device"
        path.symlink_to(there)
    try:
        os.mkfifo(there) if kind == "FIFO" else os.mknod(there, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root makes devices")
    before = there.stat()
    with pytest.raises(EnvironmentProblem, match=rf"x\.db: cannot be used: a {kind.split()[-1]}, not a file"):
        check_store(Store(database_uri(path), "x"))
    with pytest.raises(EnvironmentProblem, match="not a file"):
        make_ready(path)
    assert (there.stat().st_mode, there.stat().st_ino) == (before.st_mode, before.st_ino)


@pytest.mark.parametrize("uri", ["mysql://127.0.0.1:1/x", "SQLITE:///x.db", "mysql+pymysql://127.0.0.1:1/x"])
def test_a_database_without_its_driver_is_refused_before_anything_trains(uri, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(EnvironmentProblem, match="cannot be used") as told:
        check_access(store_of(make_study()))
    assert len(told.value.lines) == 1
    with pytest.raises(EnvironmentProblem, match="cannot be used"):
        production_store(None)


def test_a_store_of_a_newer_mlflow_is_refused(folder):
    path = Path("mlflow.db").absolute()
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
        database.commit()
    before = path.read_bytes()
    with pytest.raises(EnvironmentProblem, match="a newer MLflow made it"):
        make_ready(path)
    assert path.read_bytes() == before


@pytest.mark.slow
def test_searches_that_start_at_once_make_one_store(tmp_path):
    program = (
        "import sys\n"
        "from bnnsearch.tracking.store import Store, connect, import_mlflow\n"
        "import_mlflow()\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "client, experiment = connect(Store(sys.argv[1], 'one'))\n"
        "client.create_run(experiment)\n"
    )
    uri = database_uri(tmp_path / "mlflow.db")
    started = [
        subprocess.Popen([sys.executable, "-c", program, uri], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for process in started:
        assert process.stdout.readline() == "ready\n"
    for process in started:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.wait() for process in started] == [0] * 4
    for process in started:
        process.stdin.close()
        process.stdout.close()
    client = MlflowClient(uri)
    assert len(client.search_runs([client.get_experiment_by_name("one").experiment_id])) == 4


@pytest.mark.parametrize(
    "name", ["a b", "50%", "a%20b", "a%2Fb", "what?", "a?b=c", "c#1", "zäh 東京", "it's", 'a"b', "a&b;c"]
)
def test_the_store_lies_where_the_folder_says(tmp_path, blank_store, monkeypatch, name):
    home = tmp_path / name
    home.mkdir()
    shutil.copy(blank_store, home)
    monkeypatch.chdir(home)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = StudyFolder(home / "runs" / "20260101-000000")
    with Tracker(make_study(), folder) as tracker:
        play(tracker, folder, [0])
    assert tracker.complete
    assert tracker.store.database == home / "mlflow.db"
    assert statuses(tracker.store) == {"report": "FINISHED", "0": "FINISHED"}
    run = runs_by_trial(MlflowClient(tracker.store.uri))["report"]
    assert (home / "mlartifacts" / run.info.run_id / "artifacts" / "report.html").exists()
    assert "report.html" in {file.path for file in MlflowClient(tracker.store.uri).list_artifacts(run.info.run_id)}
    assert [each.name for each in tmp_path.iterdir()] == [name]


def test_a_sqlite_uri_is_read_as_sqlalchemy_reads_it(tmp_path):
    def database(uri):
        return store_of(make_study(tracking={"uri": uri})).database

    (tmp_path / "a b").mkdir()
    (tmp_path / "c%20d").mkdir()
    (tmp_path / "e?f").mkdir()
    assert database(f"sqlite:///{tmp_path}/a%20b/x.db") == tmp_path / "a b" / "x.db"
    assert database(f"sqlite:///{tmp_path}/c%2520d/x.db") == tmp_path / "c%20d" / "x.db"
    assert database(f"sqlite:///{tmp_path}/c%20d/x.db") == tmp_path / "c%20d" / "x.db"  # only so it is there
    assert database(f"sqlite:///{tmp_path}/e?f/x.db") == tmp_path / "e?f" / "x.db"
    assert database(f"sqlite:///{tmp_path}/a%20b/x.db?timeout=9") == tmp_path / "a b" / "x.db"
    assert store_of(make_study(tracking={"uri": f"sqlite:///{tmp_path}/x.db?timeout=9"})).uri.endswith("x.db?timeout=9")


def test_a_study_goes_on_in_the_store_it_began_in(folder, tmp_path, monkeypatch):
    with Tracker(make_study(), folder) as tracker:
        play(tracker, folder, [0])
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{elsewhere}/another.db")
    assert study_store(make_study(), folder) == tracker.store
    with Tracker(make_study(), folder) as again:
        play(again, folder, [1])
    assert set(statuses(tracker.store)) == {"report", "0", "1"}
    assert list(elsewhere.iterdir()) == []


def test_a_study_whose_space_names_another_store_goes_on_there_with_all_its_trials(
    folder, tmp_path, blank_store, monkeypatch
):
    with Tracker(make_study(), folder) as tracker:
        play(tracker, folder, [0, 1])
    (tmp_path / "there").mkdir()
    shutil.copy(blank_store, tmp_path / "there")
    moved = make_study(tracking={"uri": "sqlite:///there/mlflow.db"})
    with Tracker(moved, folder) as again:
        play(again, folder, [2])
    assert again.store.database == tmp_path / "there/mlflow.db"
    assert set(statuses(again.store)) == {"report", "0", "1", "2"}
    assert set(statuses(tracker.store)) == {"report", "0", "1"}
    monkeypatch.chdir("/")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///another.db")
    assert study_store(moved, folder) == again.store


def test_a_study_that_moved_with_its_store_finds_it(folder, tmp_path, monkeypatch):
    with Tracker(make_study(), folder) as tracker:
        play(tracker, folder, [0])
    moved = tmp_path / "moved"
    moved.mkdir()
    (tmp_path / "runs").rename(moved / "runs")
    (tmp_path / "mlflow.db").rename(moved / "mlflow.db")
    monkeypatch.chdir("/")
    there = StudyFolder(moved / "runs" / "tiny" / folder.path.name)
    with Tracker(make_study(), there) as again:
        play(again, there, [1])
    assert again.store.database == moved / "mlflow.db"
    assert set(statuses(again.store)) == {"report", "0", "1"}
    assert tracker.store.database.exists() is False


def test_a_copy_of_a_study_has_runs_of_its_own(folder, tmp_path):
    """Both are searched in, and the copy is deleted: the runs of the one are never those of the other."""
    with Tracker(make_study(), folder) as tracker:
        play(tracker, folder, [0, 1])
    client = MlflowClient(tracker.store.uri)
    experiment = client.get_experiment_by_name("tiny").experiment_id

    def runs():
        return {run.info.run_id: run.data.to_dictionary() for run in client.search_runs([experiment])}

    before = runs()
    copy = StudyFolder(shutil.copytree(folder.path, tmp_path / "runs/tiny/copy"))
    assert (original(copy), original(folder)) == (folder.path, None)
    copy.space.write_text(SPACE)
    reported = CliRunner().invoke(cli.main, ["report", str(copy.path)])
    assert reported.exit_code == 0, reported.output
    assert runs() == before

    with held(copy) as record:
        record.begin_session(name="tiny", seed=0, space=SPACE)
    assert original(copy) is None
    with Tracker(make_study(), copy) as again:
        play(again, copy, [3])
    assert (again.complete, again.undelivered, again.refused) == (True, 0, 0)
    assert {run: data for run, data in runs().items() if run in before} == before
    assert len(runs()) == 3 + 4

    second = StudyFolder(shutil.copytree(folder.path, tmp_path / "runs/tiny/second"))
    second.space.write_text(SPACE)
    removed = CliRunner().invoke(cli.main, ["rm", "--yes", str(second.path)])
    assert removed.exit_code == 0, removed.output
    assert f"its runs are those of {folder.path}, and stay" in removed.output
    assert len(runs()) == 3 + 4
    removed = CliRunner().invoke(cli.main, ["rm", "--yes", str(copy.path)])
    assert removed.exit_code == 0, removed.output
    assert runs() == before


def test_a_study_whose_record_lost_its_session_stays_in_its_runs(folder):
    """The identity is in no other event."""
    with Tracker(make_study(), folder) as tracker:
        play(tracker, folder, [0, 1])
    before = {name: run.info.run_id for name, run in runs_by_trial(MlflowClient(tracker.store.uri)).items()}
    content = bytearray(folder.record.read_bytes())
    content[content.index(b"identity")] ^= 1
    folder.record.write_bytes(content)
    with held(folder) as record:
        record.begin_session(name="tiny", seed=0, space=SPACE)
    with Tracker(make_study(), folder) as again:
        pass
    assert (again.complete, again.undelivered, again.refused) == (True, 0, 0)
    assert {name: run.info.run_id for name, run in runs_by_trial(MlflowClient(tracker.store.uri)).items()} == before


def test_a_server_s_password_is_not_remembered(folder, monkeypatch, http_mlflow):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", http_mlflow.replace("//", "//user:9f3k7q1zsecret@"))
    with suppress(EnvironmentProblem), Tracker(make_study(), folder):
        pass
    for file in folder.path.rglob("*"):
        assert not file.is_file() or b"9f3k7q1zsecret" not in file.read_bytes()
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with pytest.raises(EnvironmentProblem, match=r"recorded in http://\*\*\*@.*set MLFLOW_TRACKING_URI"):
        study_store(make_study(), folder)


@pytest.mark.parametrize("victim", ["0", "1", "report"])
def test_one_deleted_run_does_not_stop_the_others(folder, victim):
    with Tracker(make_study(), folder) as tracker:
        play(tracker, folder, [0, 1])
    client = MlflowClient(tracker.store.uri)
    client.delete_run(runs_by_trial(client)[victim].info.run_id)
    with Tracker(make_study(), folder) as again:
        play(again, folder, [2, 3, 4, 5, 6])
    assert (again.complete, again.undelivered, again.refused) == (True, 0, 0)
    assert statuses(again.store) == {name: status for name, status in ENDED.items() if name != victim}


def test_a_run_deleted_while_the_search_runs_does_not_stop_the_others(folder):
    with Tracker(make_study(), folder) as tracker:
        play(tracker, folder, [0])
        while trial_run_id(folder, tracker.store, 0) is None:
            time.sleep(0.1)
        client = MlflowClient(tracker.store.uri)
        while "0" not in runs_by_trial(client):  # its tags come after its id
            time.sleep(0.1)
        client.delete_run(runs_by_trial(client)["0"].info.run_id)
        play(tracker, folder, [1, 3])
    assert (tracker.complete, tracker.undelivered, tracker.refused) == (True, 0, 0)
    assert set(statuses(tracker.store)) == {"report", "1", "3"}


@pytest.fixture
def http_mlflow():
    """A server that answers every question as MLflow answers a search for experiments that finds none."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Empty(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(b"{}")

        def do_POST(self):
            self.do_GET()

        def log_message(self, *args): ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Empty) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(params=["status", "headers", "body", "nothing"])
def dripping(request):
    """A server that sends a byte every half second and never ends: from the first one on, or in a later part."""
    over = threading.Event()
    heads = {
        "status": b"",
        "headers": b"HTTP/1.1 200 OK\r\n",
        "body": b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
        "nothing": b"",
    }

    def serve(connection):
        with connection, suppress(OSError):
            connection.recv(65536)
            connection.sendall(heads[request.param])
            drops = b"HTTP/1.1 200 OK\r\nX-" if request.param == "status" else b"X-"
            for place in range(10_000):
                if over.wait(0.5):
                    return
                if request.param != "nothing":
                    connection.sendall(drops[place : place + 1] or b"x")

    def accept():
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        over.set()
        listening.shutdown(socket.SHUT_RDWR)
    thread.join()


def test_a_server_that_drips_is_given_up(dripping):
    with pytest.raises(EnvironmentProblem, match="no tracking server answers there"):
        check_store(Store(dripping, "x"))  # which would drip for more than an hour
    with pytest.raises(EnvironmentProblem):
        check_access(Store(dripping, "x"))


def test_report_says_with_its_exit_code_that_nothing_was_delivered(folder, monkeypatch):
    with Tracker(make_study(), folder) as tracker:
        play(tracker, folder, [0])
    folder.space.write_text(SPACE)
    known = {**json.loads((folder.path / FILE).read_text()), "marks": {}}
    del known[CHECK]
    (folder.path / FILE).write_text(json.dumps({**known, "begun": {"uri": "http://127.0.0.1:1", "path": None}}))
    done = CliRunner().invoke(cli.main, ["report", str(folder.path)])
    assert done.exit_code == 3
    assert "http://127.0.0.1:1: no tracking server answers there" in done.output
    assert str(folder.report / "report.html") in done.output

    monkeypatch.setattr("bnnsearch.tracking.runs.StudyRuns.find", lambda *_: 1 / 0)  # it goes away at the last moment
    (folder.path / FILE).write_text(json.dumps({**known, "begun": {"uri": tracker.store.shown, "path": "x"}}))
    done = CliRunner().invoke(cli.main, ["report", str(folder.path)])
    assert done.exit_code == 3
    assert "could not be brought up to date" in done.output
    monkeypatch.undo()
    done = CliRunner().invoke(cli.main, ["report", str(folder.path)])
    assert done.exit_code == 0, done.output


def test_a_reason_with_the_name_of_a_file_that_is_not_utf_8_is_delivered(folder):
    with Tracker(make_study(), folder) as tracker:
        start(tracker, folder, 0, {"seed": 0, "data": {"name": "caf\udce9"}}, {"data.name": "caf\udce9"})
        result = TrialResult(0, TrialState.FAILED, {"seed": 0}, {}, {}, reason="caf\udce9: no such file")
        record_past(folder, [result])
        tracker.trial_finished(result)
    assert (tracker.complete, tracker.undelivered, tracker.refused) == (True, 0, 0)
    run = runs_by_trial(MlflowClient(tracker.store.uri))["0"]
    assert (run.info.status, run.data.tags["reason"]) == ("FAILED", "caf\\udce9: no such file")


def test_runs_are_looked_up_without_mlflow(folder):
    with Tracker(make_study(), folder) as tracker:
        play(tracker, folder, [0])
    known = {run.info.run_id for run in runs_by_trial(MlflowClient(tracker.store.uri)).values()}
    assert has_runs(tracker.store.database, known)
    assert not has_runs(tracker.store.database, known | {"f" * 32})
    assert not has_runs(tracker.store.database.with_name("none.db"), known)
    assert mend_store(tracker.store) is None
