"""A Ray of our own: what others on this machine can read of it and reach of it, and what is left of it."""

from __future__ import annotations

import multiprocessing
import os
import pwd
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import ray
from canaries import CANARIES, files_with

from bnnsearch.errors import EnvironmentProblem
from bnnsearch.study import own_ray as own_ray_module
from bnnsearch.study import private_folder as private_folder_module
from bnnsearch.study.private_folder import LONGEST, PREFIX, private_folder

SPACE = """
version: 1
name: long
seed: 7
objectives: [{metric: val_acc, mode: max}, {metric: memory_bytes, mode: min}]
sampler: {name: random}
budget: {trials: 2}
resources: {per_trial: {cpu: 1}, max_concurrent: 1}
checkpoint: {interval: 0}
trial:
  data: {name: digits}
  model: {name: mlp, hidden: [8]}
  method: {name: ste}
  optimizer: {name: adam, lr: {type: uniform, min: 0.001, max: 0.1}}
  plan: {epochs: 100000}
"""
LOOPBACK = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
PATIENCE = 280.0
"""Seconds; generous ends, for what is waited for comes much sooner on a machine that has time."""


def until(happens: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not happens():
        assert time.monotonic() < end, f"{what} did not happen"
        time.sleep(0.1)


@dataclass
class Search:
    """`bnnsearch run` on Ray, in a folder of its own, with canaries in its environment."""

    process: subprocess.Popen[str]
    home: Path
    private: Path
    """The folder in which the session's private folder appears."""

    @property
    def study(self) -> Path:
        return next(self.home.glob("runs/long/*"))

    @property
    def session(self) -> Path:
        return next(self.private.glob(f"{PREFIX}*"))

    def tree(self) -> list[psutil.Process]:
        top = psutil.Process(self.process.pid)
        return [top, *top.children(recursive=True)]

    def of(self, name: str) -> psutil.Process:
        return next(each for each in self.tree() if each.name() == name)

    def trains(self) -> bool:
        """Whether a trial trains now, which is past all that a start does."""
        assert self.process.poll() is None, self.said()
        return any(self.home.glob("runs/long/*/checkpoints/0.pt"))

    def said(self) -> str:
        return (self.home / "said").read_text()


@contextmanager
def search(home: Path, *more: str) -> Iterator[Search]:
    private = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))
    (home / "long.yaml").write_text(SPACE)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {**CANARIES, "TMPDIR": str(private), "HOME": str(home), "OMP_NUM_THREADS": "1"}
    with (home / "said").open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "bnnsearch", "run", "long.yaml", *more],
            cwd=home, env=environment, stdout=said, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
    try:
        yield Search(process, home, private)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait()
        subprocess.run(["rm", "-rf", str(private)], check=False)


def listeners(pids: set[int]) -> list[tuple[int, str, int]]:
    """Process, address and port of every TCP socket on which one of the processes listens."""
    owners = {}
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                if found := re.fullmatch(r"socket:\[(\d+)\]", str(descriptor.readlink())):
                    owners[found[1]] = pid
    heard = []
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == "0A" and inode in owners:
                digits, port = local.split(":")
                packed = b"".join(bytes.fromhex(digits[at : at + 8])[::-1] for at in range(0, len(digits), 8))
                heard.append((owners[inode], socket.inet_ntop(family, packed), int(port, 16)))
    return heard


@pytest.fixture(scope="module")
def stranger() -> Iterator[str | None]:
    """Another user of this machine; None where we are not root and can be nobody else."""
    if os.getuid() != 0 or shutil.which("useradd") is None:
        yield None
        return
    name = f"bnn{os.getpid()}"  # a run of the tests that was killed leaves its own behind
    subprocess.run(["useradd", "--system", "--no-create-home", "--shell", "/bin/sh", name], check=True)
    yield name
    subprocess.run(["userdel", name], check=True)


def as_user(name: str, *words: str) -> subprocess.CompletedProcess[str]:
    user = pwd.getpwnam(name)
    return subprocess.run(
        words, user=user.pw_uid, group=user.pw_gid, extra_groups=[], cwd="/", env={"PATH": os.environ["PATH"]},
        capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip


ASK = """
import http.client, os, sys, urllib.error, urllib.request
from ray._raylet import GcsClient
user, gcs, *ports = map(int, sys.argv[1:])
if user:
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
try:
    print("answered", GcsClient(address=f"127.0.0.1:{gcs}").internal_kv_keys(b"", None, timeout=20))
except BaseException as error:
    print(type(error).__name__, error)
for port in ports:
    for page in ("/", "/metrics", "/logs", "/nodes", "/api/jobs/", "/get_or_create_runtime_env"):
        for method in ("GET", "POST"):
            request = urllib.request.Request(f"http://127.0.0.1:{port}{page}", method=method)
            try:
                with urllib.request.urlopen(request, timeout=20) as answer:
                    print(f"answered {method} {port}{page}: {answer.read(80)!r}")
            except urllib.error.HTTPError as error:
                if error.code not in (401, 403, 404, 405):
                    print(f"answered {method} {port}{page}: {error.code}")
            except (OSError, http.client.HTTPException):  # it speaks no HTTP
                pass
"""
"""What user, 0 for ourselves, is told by the GCS, and by pages on ports; `/api/healthz`, that Ray lives, is left out.

Ray is imported before it becomes the user, who may not be able to read it.
"""


def asked(user: int, gcs: int, *ports: int, **environment: str) -> str:
    """What one who is told no more of Ray than ports and `environment` learns."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    told = subprocess.run(
        [sys.executable, "-c", ASK, str(user), str(gcs), *map(str, ports)],
        env={**clean, **environment}, cwd="/", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert told.stdout, told.stderr
    return told.stdout


def open_files(processes: Iterable[psutil.Process]) -> set[str]:
    """Files that the processes read, write or map, and what the kernel shows of each of them."""
    found = set()
    for process in processes:
        found |= {f"/proc/{process.pid}/{name}" for name in ("environ", "mem", "fd/0")}
        for link in Path(f"/proc/{process.pid}/fd").iterdir():
            with suppress(OSError):
                found.add(str(link.readlink()))
    return found


@pytest.mark.slow
def test_a_search_on_ray_is_private_while_it_runs_and_leaves_nothing(tmp_path: Path, stranger: str | None) -> None:
    with search(tmp_path) as running:
        until(running.trains, "training")
        token = (running.session / "token").read_text()
        secrets = [*CANARIES.values(), token]

        assert stat.S_IMODE(running.session.stat().st_mode) == 0o700
        assert stat.S_IMODE((running.session / "token").stat().st_mode) == 0o600
        assert not (tmp_path / ".ray").exists()
        assert (running.session / own_ray_module.RAY_FOLDER).is_dir()
        (running.session / "token").rename(tmp_path.parent / "token")  # apart from it, the token is nowhere
        assert files_with(running.session, secrets) == []
        (tmp_path.parent / "token").rename(running.session / "token")
        assert files_with(tmp_path, secrets) == []
        words = [word for each in running.tree() for word in each.cmdline()]
        assert not [word for word in words if any(secret in word for secret in secrets)]

        heard = listeners({each.pid for each in running.tree()})
        assert len(heard) >= 5  # GCS, raylet, agents, driver, worker: they are found at all
        assert [each for each in heard if each[1] not in LOOPBACK] == []
        (gcs,) = {port for pid, _, port in heard if pid == running.of("gcs_server").pid}
        ports = [port for _, _, port in heard]
        ours = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(running.session / "token")}
        assert asked(0, gcs, **ours).startswith("answered")
        user = 0 if stranger is None else pwd.getpwnam(stranger).pw_uid
        wrong = asked(user, gcs, *ports, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="0" * 64)
        assert "answered" not in wrong
        assert "AuthenticationError" in wrong
        assert "answered" not in asked(user, gcs, *ports, RAY_AUTH_MODE="disabled")
        if stranger is not None:
            for command in (["ls"], ["find"], ["cat", f"{running.session}/token"]):
                tried = as_user(stranger, *command, str(running.session))
                assert (tried.returncode != 0, tried.stdout.replace(f"{running.session}\n", "")) == (True, "")
            held = {each for each in open_files(running.tree()) if not each.startswith((sys.base_prefix, sys.prefix))}
            assert len(held) > 20
            read = as_user(
                stranger, "sh", "-c", 'for each; do head -c 1 "$each" >/dev/null && echo "$each"; done', "", *held
            )
            kernel = ("/dev/", "/proc/", "/sys/")  # the machine's own, such as its memory's counters, which Ray reads
            assert [each for each in read.stdout.split() if not each.startswith(kernel)] == []

        pids = [each.pid for each in running.tree()]
        os.killpg(running.process.pid, signal.SIGHUP)  # as when the terminal is closed
        assert running.process.wait(PATIENCE) == 143
        said = running.said().splitlines()
        assert sum(line.startswith("stopping: ") for line in said) == 1
        assert said[-1] == f"  bnnsearch resume {running.study.relative_to(tmp_path)}"
        until(lambda: not any(map(psutil.pid_exists, pids)), "the end of Ray")
        assert list(running.private.glob(f"{PREFIX}*")) == []
        assert files_with(tmp_path, secrets) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", own_ray_module.VITAL)
def test_a_search_whose_ray_dies_says_so_and_can_be_resumed(tmp_path: Path, name: str) -> None:
    with search(tmp_path) as running:
        until(running.trains, "training")
        running.of(name).kill()
        assert running.process.wait(PATIENCE) == 3
        *_, problem, resume = running.said().splitlines()
        assert problem.startswith(f"bnnsearch: Ray has died: its {name} ended with SIGKILL")
        assert resume == f"  bnnsearch resume {running.study.relative_to(tmp_path)}"
        assert "Traceback" not in running.said()
        assert list(running.private.glob(f"{PREFIX}*")) == []


def test_a_dead_ray_holds_nobody_for_longer_than_is_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = own_ray_module.WATCH_SECONDS, own_ray_module.GRACE_SECONDS, own_ray_module.KILL_SECONDS
    assert sum(seconds) < 15
    waited: list[float] = []
    told = threading.Event()
    problems: list[str] = []

    class Over(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waited.append(timeout or 0.0)
            return super().wait(0.01)

    def give_up(problem: str) -> None:
        problems.append(problem)
        told.set()

    vital = subprocess.Popen(["sleep", "1000"])
    node = SimpleNamespace(all_processes={"gcs_server": [SimpleNamespace(process=vital)]})
    monkeypatch.setattr(own_ray_module.ray._private.worker, "_global_node", node)
    monkeypatch.setattr(own_ray_module, "threading", SimpleNamespace(Event=Over, Thread=threading.Thread))
    with own_ray_module.Watch(give_up):  # whoever entered it never asks: Ray holds it
        vital.kill()
        assert told.wait(PATIENCE)
    assert problems == ["Ray has died: its gcs_server ended with SIGKILL"]
    assert set(waited[:-1]) == {own_ray_module.WATCH_SECONDS}
    assert waited[-1] == own_ray_module.GRACE_SECONDS


def test_what_is_nobody_s_child_is_ended_with_its_folder(tmp_path: Path) -> None:
    start = '"$0" -c "import time; time.sleep(1000)" "$1" >/dev/null 2>&1 & echo $!'
    orphans = {}
    for name, token in (("ours", "ours/token"), ("a reader's", "ours/other"), ("theirs", "theirs/token")):
        folder = tmp_path / token.partition("/")[0]
        shell = ["sh", "-c", start, sys.executable, f"--log_dir={folder}/r/logs"]
        environment = {**os.environ, "RAY_AUTH_TOKEN_PATH": str(tmp_path / token)}
        started = subprocess.run(shell, env=environment, capture_output=True, text=True, check=True)
        orphans[name] = psutil.Process(int(started.stdout))
    assert not set(psutil.Process().children(recursive=True)) & set(orphans.values())
    own_ray_module._kill(tmp_path / "ours")
    until(lambda: not _lives(orphans["ours"]), "the orphan's end")
    for name in ("a reader's", "theirs"):
        assert _lives(orphans[name])
        orphans[name].kill()


def _lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


@pytest.mark.slow
def test_what_a_killed_driver_leaves_is_gone_with_the_next(tmp_path: Path) -> None:
    with search(tmp_path) as running:
        until(running.trains, "training")
        left, pids = running.session, [each.pid for each in running.tree()]
        running.process.kill()
        running.process.wait()
        until(lambda: not any(map(psutil.pid_exists, pids)), "the end of Ray without its driver")
        assert left.exists()
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("RAY_TMPDIR", str(running.private))
            with private_folder() as next_one:
                assert list(running.private.glob(f"{PREFIX}*")) == [next_one]


@pytest.mark.slow
def test_a_ray_that_does_not_start_is_tried_twice_and_the_way_out_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CANARIES, "RAY_gcs_storage", "nonsense")  # its GCS ends at once
    with search(tmp_path) as running:
        assert running.process.wait(PATIENCE) == 3
        *_, again, problem, resume = running.said().splitlines()
        assert again == "Ray did not start (its gcs_server died as it started); trying once more"
        assert problem.startswith(
            "bnnsearch: Ray does not start: its gcs_server died as it started; "
            "`--executor local` searches without Ray; "
        )
        assert resume == f"  bnnsearch resume {running.study.relative_to(tmp_path)}"
        assert list(running.private.glob(f"{PREFIX}*")) == []


@pytest.mark.slow
def test_a_machine_on_which_ray_takes_longer_than_its_own_patience_is_waited_for() -> None:
    # in a process of its own: the one of the tests may have a Ray already
    process = multiprocessing.get_context("spawn").Process(target=_start_slowly)
    process.start()
    process.join()
    assert process.exitcode == 0


def _start_slowly() -> None:
    own_ray_module.SLOW_SECONDS = 0.0
    said: list[str] = []

    def hold(found: Callable[[psutil.Process], bool], seconds: float) -> None:
        held: list[psutil.Process] = []
        while not held:
            held = [each for each in psutil.Process().children(recursive=True) if found(each)]
        for each in held:
            each.suspend()
        time.sleep(seconds)
        for each in held:
            each.resume()

    def agent(process: psutil.Process) -> bool:
        with suppress(psutil.Error):
            return any(word.endswith(("/dashboard/agent.py", "/agent/main.py")) for word in process.cmdline()[1:3])
        return False

    def hold_all() -> None:
        hold(lambda each: each.name() == "raylet", 40.0)  # Ray's own patience is 30 s
        hold(agent, 20.0)  # and its node's 15 s

    holding = threading.Thread(target=hold_all)
    holding.start()
    with own_ray_module.own_ray(1, said.append) as watch:
        holding.join()
        watch.check()
        assert ray.get(ray.remote(lambda: 7).remote()) == 7
    assert said == ["Ray takes long to start on this machine; waiting up to 5 minutes"]


def test_a_private_folder_is_short_its_owners_alone_and_gone_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("long" * 20)
    long.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(long))
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with private_folder() as folder, private_folder() as other:  # one that lives is left alone
        assert folder != other
        assert len(bytes(folder)) <= LONGEST
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / "below").mkdir()
        (folder / "below/file").touch()
        with socket.socket(socket.AF_UNIX) as longest:
            session = folder / own_ray_module.RAY_FOLDER / "session_2026-11-26_02-59-10_842174_4194304/sockets"
            session.mkdir(parents=True)
            longest.bind(str(session / "plasma_store"))
    assert not folder.exists()
    assert not other.exists()
    with private_folder() as folder:
        shutil.rmtree(folder)  # someone cleans /tmp


def test_no_place_for_a_private_folder_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_folder_module, "PLACES", (str(tmp_path / "nowhere"), "/" + "long" * 30))
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(EnvironmentProblem, match=r"a writable folder .* at most 21 bytes; TMPDIR is .*missing"):
        private_folder().__enter__()
