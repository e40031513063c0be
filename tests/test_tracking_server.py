# ruff: noqa: F811  # fixtures are imported by name
"""Against real MLflow servers on loopback ports: one that dies in the middle of a search, and the one `ui` starts."""

import base64
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest
from canaries import CANARIES, files_with
from matplotlib.image import imread
from mlflow import MlflowClient
from tracking_study import FRONT, blank_store, folder, make_study, play, runs_by_trial  # noqa: F401  # two are fixtures

from bnnsearch.errors import EnvironmentProblem
from bnnsearch.pareto import ParetoFront
from bnnsearch.past import read_past
from bnnsearch.tracking.preset import view_of
from bnnsearch.tracking.readback import read_trials
from bnnsearch.tracking.store import store_of
from bnnsearch.tracking.tracker import Tracker, deliver_rest, is_complete
from bnnsearch.tracking.ui import serve


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """An MLflow server that can be killed and started again on the same port and store."""

    def __init__(self, home, port):
        self.uri = f"http://127.0.0.1:{port}"
        self._home = home
        self._command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
        self._command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{home / 'mlflow.db'}"]
        self._command += ["--artifacts-destination", str(home / "artifacts")]

    def start(self):
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self._home / "server.log").open("a") as log:
            self._process = subprocess.Popen(
                self._command, env=environment, stdout=log, stderr=log, cwd=self._home, start_new_session=True
            )
        while (code := self._process.poll()) is None:
            try:
                with urllib.request.urlopen(self.uri + "/health", timeout=10):
                    return
            except OSError:
                time.sleep(0.2)
        raise AssertionError(f"the server ended with {code}: {(self._home / 'server.log').read_text()[-500:]}")

    def kill(self):
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@pytest.fixture
def server(tmp_path, port, folder):
    server = Server(tmp_path, port)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.mark.slow
def test_a_server_that_dies_in_the_middle_of_a_search_loses_nothing(server, folder):
    study = make_study(tracking={"uri": server.uri})
    with Tracker(study, folder) as tracker:
        play(tracker, folder, [0, 1])
        pause = threading.Event()
        while len(tracker._feed):
            pause.wait(0.2)  # until the first trials are on the server
        server.kill()
        play(tracker, folder, [2, 3, 4])
        assert len(tracker._feed)
        server.start()
        play(tracker, folder, [5, 6])
    if tracker.undelivered:  # the server was too slow for the end of the search
        assert deliver_rest(study, folder).complete
    assert is_complete(folder, tracker.store)

    results = read_trials("tiny", folder.search_id, uri=server.uri)
    ours = read_past(folder).results
    assert [dict(result.metrics) for result in results] == [dict(result.metrics) for result in ours]
    assert ParetoFront.of(results, study.objectives).numbers == FRONT
    client = MlflowClient(server.uri)
    runs = runs_by_trial(client)
    for number in range(7):
        history = client.get_metric_history(runs[str(number)].info.run_id, "train_loss")
        assert sorted(metric.step for metric in history) == [1, 2, 3]
    assert all(run.info.status != "RUNNING" for run in runs.values())
    assert "report.html" in {artifact.path for artifact in client.list_artifacts(runs["report"].info.run_id)}


@pytest.mark.slow
def test_what_a_dead_server_did_not_get_is_delivered_later(server, folder):
    study = make_study(tracking={"uri": server.uri})
    with Tracker(study, folder) as tracker:
        play(tracker, folder, [0])
        server.kill()
        play(tracker, folder, [1, 3])
    assert tracker.undelivered > 0
    with pytest.raises(EnvironmentProblem, match="no tracking server answers there"):
        deliver_rest(study, folder)
    server.start()
    assert deliver_rest(study, folder).complete
    runs = runs_by_trial(MlflowClient(server.uri))
    assert {number: run.info.status for number, run in runs.items()} == dict.fromkeys(
        ["report", "0", "1", "3"], "FINISHED"
    )


@pytest.mark.slow
def test_ui_serves_the_store_and_ends_with_us(folder, port):
    study = make_study()
    with Tracker(study, folder) as tracker:
        play(tracker, folder, [0])
    program = (
        "import sys; from bnnsearch.config.study import StudyConfig; from bnnsearch.tracking.ui import serve;"
        "from bnnsearch.tracking.store import store_of;"
        "serve(store_of(StudyConfig.model_validate_json(sys.argv[1])), port=int(sys.argv[2]))"
    )
    command = [sys.executable, "-c", program, study.model_dump_json(), str(port)]
    ui = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = ui.stdout.readline()
        identifier = MlflowClient(store_of(study).uri).get_experiment_by_name("tiny").experiment_id
        link = f"http://127.0.0.1:{port}/#/experiments/{identifier}/runs?workflowType=machine_learning"
        assert line == f"MLflow shows the trials at {link}\n"
        with urllib.request.urlopen(link) as page:
            assert b"<title>MLflow</title>" in page.read()
        runs = runs_by_trial(MlflowClient(f"http://127.0.0.1:{port}"))
        assert set(runs) == {"report", "0"}
    finally:
        ui.send_signal(signal.SIGTERM)
        _, errors = ui.communicate()
    assert (ui.returncode, errors) == (0, "")
    with socket.socket() as probe, pytest.raises(ConnectionRefusedError):
        probe.connect(("127.0.0.1", port))


class Guard(BaseHTTPRequestHandler):
    """Passes on to an MLflow server what has the right user and password, and nothing else."""

    uri = ""
    right = ""
    refused = 0
    passed = 0

    def do_GET(self):
        if self.headers.get("Authorization") != self.right:
            type(self).refused += 1
            self.send_error(401)
            return
        type(self).passed += 1
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or None
        kept = {name: value for name, value in self.headers.items() if name.lower() in ("content-type", "accept")}
        request = urllib.request.Request(self.uri + self.path, body, kept, method=self.command)
        try:
            answer = urllib.request.urlopen(request)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            content = answer.read()
            self.send_response(answer.status)
        self.send_header("Content-Type", answer.headers.get("Content-Type", "text/plain"))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815  # the names are those of http.server

    def log_message(self, *args): ...


@pytest.fixture
def guard(server):
    """The server again, on another port, for the user `bnn` with the password `canary7uri` only."""
    right = f"Basic {base64.b64encode(b'bnn:canary7uri').decode()}"
    handler = type("OurGuard", (Guard,), {"uri": server.uri, "right": right})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as door:
        thread = threading.Thread(target=door.serve_forever)
        thread.start()
        yield door
        door.shutdown()
        thread.join()


SPACE = """
version: 1
name: tiny
objectives: [{metric: val_acc, mode: max}, {metric: memory_bytes, mode: min}]
sampler: {name: random}
budget: {trials: 2}
resources: {max_concurrent: 1}
tracking: {uri: "${BNN_CANARY}"}
trial:
  data: {name: digits}
  model: {name: mlp, hidden: [8]}
  method: {name: ste}
  optimizer: {name: adam, lr: {type: uniform, min: 0.001, max: 0.1}}
  plan: {epochs: 2}
"""


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["local", pytest.param("ray", marks=pytest.mark.full)])
@pytest.mark.parametrize("way", ["uri", pytest.param("variables", marks=pytest.mark.full)])
def test_a_server_s_password_is_nowhere_that_a_search_writes(tmp_path, guard, executor, way):
    secrets = [*CANARIES.values(), "canary7uri", base64.b64encode(b"bnn:canary7uri").decode()]
    home, private = tmp_path / "home", tempfile.mkdtemp(prefix="t", dir="/tmp")
    home.mkdir()
    server = f"127.0.0.1:{guard.server_port}"
    environment = {
        **os.environ,
        **CANARIES,
        "HOME": str(home),
        "TMPDIR": private,
        "BNNSEARCH_CACHE": str(home / "cache"),
    }
    if way == "uri":
        environment["BNN_CANARY"] = f"http://bnn:canary7uri@{server}"
        del environment["MLFLOW_TRACKING_PASSWORD"]
    else:
        environment |= {"MLFLOW_TRACKING_USERNAME": "bnn", "MLFLOW_TRACKING_PASSWORD": "canary7uri"}
        environment["BNN_CANARY"] = f"http://{server}"
    (home / "tiny.yaml").write_text(SPACE)

    def told(*words, code=0):
        done = subprocess.run(
            [sys.executable, "-m", "bnnsearch", *words],
            cwd=home, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        assert not [secret for secret in secrets if secret in done.stdout + done.stderr]

    told("run", "tiny.yaml", "--executor", executor)
    told("resume", "--executor", executor, "--trials", "3")
    told("report")
    told("export")
    passed, handler = guard.RequestHandlerClass.passed, guard.RequestHandlerClass
    assert passed > 10
    handler.right = "another"  # the password was changed
    told("resume", "--executor", executor, "--trials", "4", code=3)
    assert handler.passed == passed
    assert handler.refused
    handler.right = f"Basic {base64.b64encode(b'bnn:canary7uri').decode()}"
    runs = runs_by_trial(MlflowClient(handler.uri))
    assert {"0", "1", "2"} <= set(runs)
    assert files_with(tmp_path, secrets) == []  # the search's folder, and the server's database, artifacts and log
    assert files_with(Path(private), secrets) == []
    shutil.rmtree(private)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs the browser chromium")
def test_a_browser_shows_trials_charts_and_report(folder, server):
    study = make_study(tracking={"uri": server.uri})
    with Tracker(study, folder) as tracker:
        play(tracker, folder, range(7))
    assert tracker.undelivered == 0
    lines = []
    serve(store_of(study), announce=lines.append)
    link = lines[0].rpartition(" ")[2]
    table = browse(link, folder.path)
    assert all(f">trial {number}<" in table for number in range(7))
    assert ">val_acc<" in browse(f"{link}&compareRunsMode=CHART", folder.path)
    runs = runs_by_trial(MlflowClient(server.uri))
    report = runs["report"].info
    trials = quote(json.dumps([run.info.run_id for name, run in runs.items() if name != "report"]))
    compared = browse(
        f"{server.uri}/#/compare-runs?runs={trials}&experiments=[%22{report.experiment_id}%22]", folder.path
    )
    assert "Parallel Coordinates Plot" in compared
    assert 'data-unformatted="seed"' in compared
    artifacts = f"{server.uri}/#/experiments/{report.experiment_id}/runs/{report.run_id}/artifacts/report.html"
    pane = browse(f"{artifacts}?workflowType=machine_learning", folder.path)
    assert ">pareto.png<" in pane
    assert re.search(
        r'<iframe[^>]*src="blob:[^>]*sandbox="allow-scripts"|<iframe[^>]*sandbox="allow-scripts"[^>]*src="blob:', pane
    )
    # last, for the browser keeps a filter for the pages to come
    view = view_of(folder.search_id, study, read_past(folder).results)
    serve(store_of(study), announce=lines.append, view=view)
    link = lines[-1].rpartition(" ")[2]
    table = browse(link, folder.path)
    assert all(f">trial {number}<" in table for number in range(7))
    columns = set(re.findall(r'ag-header-cell[^>]*col-id="([^"]*`)"', table))
    assert {"metrics.`val_acc`", "metrics.`memory_bytes`", "params.`model.hidden`"} < columns
    assert "metrics.`train_loss`" not in columns
    charts = re.sub("<[^>]+>", " ", browse(f"{link}&compareRunsMode=CHART", folder.path))
    for words in ("Search tiny", "memory_bytes vs. val_acc", "Parallel Coordinates"):
        assert words in charts, words
    serve(store_of(study), announce=lines.append, view=view_of("another", study, []))
    assert ">trial 0<" not in browse(lines[-1].rpartition(" ")[2], folder.path)


def browse(url, home):
    """The page as a browser has built it, scripts run; on its screenshot there is something to see."""
    shot = home / "page.png"
    shot.unlink(missing_ok=True)
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    flags += [
        "--window-size=1600,1200",
        f"--user-data-dir={home / 'profile'}",
        "--virtual-time-budget=60000",
        f"--screenshot={shot}",
        "--dump-dom",
    ]
    page = subprocess.run(["chromium", *flags, url], capture_output=True, text=True, check=True).stdout
    pixels = imread(shot)
    assert pixels.shape[:2] == (1200, 1600)
    assert pixels[..., :3].std() > 0.05, f"{url} is blank"
    return page


def test_ui_refuses_a_port_that_is_taken(folder):
    with Tracker(make_study(), folder), socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(EnvironmentProblem, match=rf"cannot listen on 127.0.0.1:{port} \(Address already in use\)"):
            serve(store_of(make_study()), port=port)


def test_ui_refuses_other_addresses_without_authentication(folder, monkeypatch):
    monkeypatch.delenv("MLFLOW_AUTH_ADMIN_PASSWORD", raising=False)
    monkeypatch.delenv("MLFLOW_SERVER_ALLOWED_HOSTS", raising=False)
    both = "MLFLOW_AUTH_ADMIN_PASSWORD and MLFLOW_SERVER_ALLOWED_HOSTS"
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org"):
        with pytest.raises(EnvironmentProblem, match=both):
            serve(store_of(make_study()), host=host)


def test_ui_without_a_store_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(EnvironmentProblem, match="there is no tracking store yet"):
        serve(store_of(make_study()))
    assert not (tmp_path / "mlflow.db").exists()
