"""Commands whose output, folder or disk fails under them, and signals: one line, the right code, and how to go on."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, chdir, contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from record_fixtures import record_past

from bnnsearch.cli import main
from bnnsearch.export import load_trial
from bnnsearch.folder import StudyFolder
from bnnsearch.past import read_past
from bnnsearch.results import TrialResult, TrialState

SPACE = """
version: 1
name: brief
seed: 7
objectives: [{metric: val_acc, mode: max}, {metric: memory_bytes, mode: min}]
sampler: {name: random}
budget: {trials: 3}
trial:
  data: {name: digits}
  model: {name: mlp, hidden: {type: choice, values: [[8], [16]]}}
  method: {name: ste}
  optimizer: {name: adam, lr: {type: uniform, min: 0.001, max: 0.1}}
  plan: {epochs: 1}
"""
COMMANDS = {
    "run": "run brief.yaml --executor local",
    "run --json": "run brief.yaml --executor local --json",
    "dry run": "run brief.yaml --dry-run",
    "resume": "resume runs/brief/* --executor local --trials 9",
    "status": "status",
    "report": "report",
    "export": "export runs/brief/* --no-register",
    "train": "train best.yaml --no-track -o again",
    "pack": "pack trained",
    "predict": "predict model.bnn digit.png",
    "bench": "bench model.bnn",
    "validate": "validate brief.yaml",
    "schema": "schema",
    "ui": "ui",
    "cache": "cache",
    "help": "--help",
    "version": "--version",
}


def command(text: str) -> int:
    """The command's exit code, in this process."""
    words = [str(min(Path().glob(word))) if "*" in word else word for word in text.split()]
    with pytest.raises(SystemExit) as ended:
        main(words)
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a search, what was exported of it, trained and packed."""
    folder = tmp_path_factory.mktemp("finished")
    with chdir(folder), pytest.MonkeyPatch.context() as environment:
        environment.setenv("BNNSEARCH_CACHE", str(folder / "cache"))
        Path("brief.yaml").write_text(SPACE)
        Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save("digit.png")
        for each in ("run brief.yaml --executor local", "export --no-register", "train best.yaml --no-track", "pack"):
            assert command(each) == 0
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def full() -> Iterator[int]:
    """A file that never takes anything."""
    descriptor = os.open("/dev/full", os.O_WRONLY)
    yield descriptor
    os.close(descriptor)


@contextmanager
def left() -> Iterator[int]:
    """A pipe whose reader has left."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize("broken", [(full, errno.ENOSPC), (left, errno.EPIPE)], ids=["full", "left"])
def test_output_that_cannot_be_written_is_said_in_one_line(
    finished: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    broken: tuple[Callable[[], AbstractContextManager[int]], int],
    words: str,
) -> None:
    monkeypatch.chdir(finished)
    before = set(psutil.Process().children())  # the tests' own Ray may be among them
    breaks, reason = broken
    if words == "ui":
        words = f"ui --port {free_port()}"
    with breaks() as descriptor, os.fdopen(os.dup(descriptor), "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        assert command(words) == 3
    said = capfd.readouterr().err.splitlines()
    problem, *resume = [line for line in said if not line.startswith(("warning: ", "searching ", "training "))]
    assert problem.startswith(f"bnnsearch: standard output cannot be written: {os.strerror(reason)}")
    assert [line[:18] for line in resume] == (["  bnnsearch resume"] if "saved. To go on" in problem else [])
    assert set(psutil.Process().children()) <= before


def test_what_goes_to_no_one_at_all_ends_well(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard output was closed by whoever called: `>&-`."""
    monkeypatch.chdir(finished)
    monkeypatch.setattr(sys, "stdout", None)
    assert command("status") == 0


def test_nobody_is_asked_where_there_is_no_standard_input(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(finished)
    monkeypatch.setattr(sys, "stdin", None)  # `<&-`
    assert command("rm runs/brief/*") == 2
    assert capfd.readouterr().err == "there is nobody to ask; --yes deletes without asking\n"
    assert command("status") == 0


def test_a_study_is_deleted_by_a_link_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = TrialResult(0, TrialState.FAILED, {}, {}, {})
    record_past(StudyFolder(tmp_path / "runs/tiny/study"), [ended])
    (tmp_path / "link").symlink_to("runs/tiny/study")
    assert command("rm --yes --keep-mlflow link") == 0, capfd.readouterr().err
    assert not any(path.name in {"link", "study"} for path in tmp_path.rglob("*"))


@pytest.mark.parametrize("words", ["export --no-register -o {}", "pack trained -o {}"])
def test_an_output_never_takes_the_place_of_what_is_no_file(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], words: str
) -> None:
    """As root it could: /dev/null would be a file from then on, for everybody."""
    monkeypatch.chdir(finished)
    fifo, link = tmp_path / "fifo", tmp_path / "link"
    os.mkfifo(fifo)
    link.symlink_to(fifo)
    for place in (fifo, link):
        assert command(words.format(place)) == 3
        problem = capfd.readouterr().err.splitlines()
        assert len(problem) == 1
        assert "a FIFO, not a file" in problem[0]
        assert fifo.is_fifo() and link.is_symlink()
    assert {each.name for each in tmp_path.iterdir()} == {"fifo", "link"}


def test_a_user_without_a_home_is_told_what_to_set(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """As in a container that runs under a number which /etc/passwd does not have."""
    for name in ("HOME", "BNNSEARCH_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    assert command("cache") == 3
    assert capfd.readouterr().err == (
        "bnnsearch: this user has no home folder; set HOME, or BNNSEARCH_CACHE to a folder\n"
    )


def shell(line: str, home: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """A line of bash in which `bnnsearch` is ours; the exit code is that of the first command of a pipe."""
    setting = f'bnnsearch() {{ "{sys.executable}" -m bnnsearch "$@"; }}; {line}; exit ${{PIPESTATUS[0]}}'
    environment = {**os.environ, "BNNSEARCH_CACHE": str(home / "cache"), "OMP_NUM_THREADS": "1", **more}
    return subprocess.run(
        ["bash", "-c", setting], cwd=home, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_an_export_is_in_utf_8_in_every_locale(tmp_path: Path) -> None:
    """And it has the rights that the umask leaves."""
    config = {"data": {"name": "mnist", "root": "caf\xe9 \u6771"}, "model": {"name": "mlp"}, "method": {"name": "ste"}}
    ended = TrialResult(0, TrialState.COMPLETE, config, {}, {"val_acc": 0.5, "memory_bytes": 9.0})
    record_past(StudyFolder(tmp_path / "study"), [ended])
    c_locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = shell("umask 077; bnnsearch export study --no-register", tmp_path, **c_locale)
    assert done.returncode == 0, done.stderr
    assert load_trial(tmp_path / "best.yaml")[0].data.root == "caf\xe9 \u6771"
    assert (tmp_path / "best.yaml").stat().st_mode & 0o777 == 0o600


@pytest.mark.slow
def test_a_reader_that_leaves_stops_a_search_that_can_be_resumed(tmp_path: Path) -> None:
    (tmp_path / "brief.yaml").write_text(SPACE)
    ended = shell("bnnsearch run brief.yaml --executor local | head -2", tmp_path)
    (study,) = tmp_path.glob("runs/brief/*")
    problem, resume = ended.stderr.splitlines()
    assert problem.startswith("bnnsearch: standard output cannot be written: Broken pipe; everything so far is saved")
    assert resume == f"  bnnsearch resume {study.relative_to(tmp_path)}"
    assert ended.returncode == 3
    assert len(ended.stdout.splitlines()) == 2  # where it searches, and what it does first

    again = shell(f"{resume} --executor local", tmp_path)
    assert again.returncode == 0
    assert "3 of 3 finished trials" in again.stdout.replace("2 of 3", "3 of 3").replace("1 of 3", "3 of 3")


@contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[Path]:
    """A file system of its own at `folder/disk`."""
    disk = folder / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root may mount, and not everywhere")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@contextmanager
def long_search(home: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    """A search that trains for as long as it is let, once its first epoch is over."""
    (home / "brief.yaml").write_text(SPACE.replace("epochs: 1}", "epochs: 100000}"))
    with subprocess.Popen(
        [sys.executable, "-m", "bnnsearch", "run", "brief.yaml", "--executor", "local", *more],
        cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            while not any(b'"epoch"' in record.read_bytes() for record in home.glob("runs/brief/*/study.record")):
                assert process.poll() is None
                time.sleep(0.1)
            yield process
        finally:
            with suppress(ProcessLookupError):
                process.kill()


def last_lines(process: subprocess.Popen[str]) -> tuple[int, list[str], list[str]]:
    said, problems = process.communicate()
    assert "Traceback" not in problems, problems[-6000:]
    return process.returncode, said.splitlines(), problems.splitlines()


@pytest.mark.slow
def test_a_full_disk_ends_a_search_with_what_to_do(tmp_path: Path) -> None:
    with small_disk(tmp_path, 8) as disk, long_search(disk) as process:
        with (disk / "filler").open("wb", buffering=0) as filler, suppress(OSError):
            while True:
                filler.write(b"\0" * 65536)
        code, _, problems = last_lines(process)
        (study,) = disk.glob("runs/brief/*")
        assert code == 3
        assert problems[-2].startswith("bnnsearch: No space left on device: ")
        assert problems[-1] == f"  bnnsearch resume {study.relative_to(disk)}"


def test_a_training_that_found_no_room_to_begin_begins_where_there_is_some(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(finished)
    with small_disk(tmp_path, 1) as disk:
        (disk / "filler").write_bytes(bytes(2**20))
        words = f"train best.yaml --no-track -o {disk / 'trained'}"
        assert command(words) == 3
        assert capfd.readouterr().err == (
            f"bnnsearch: {disk / 'trained'}: No space left on device; the same command goes on\n"
        )
        (disk / "filler").unlink()
        assert command(words) == 0


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("status runs/brief/*", 0),
        ("report runs/brief/*", 3),
        ("resume runs/brief/* --executor local --trials 9", 3),
        ("run brief.yaml --executor local", 3),
        ("export runs/brief/* --no-register", 3),
        ("train best.yaml --no-track -o again", 3),
        ("pack trained", 3),
    ],
)
def test_a_folder_that_is_read_only_is_said_in_one_line(
    finished: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], words: str, code: int
) -> None:
    with small_disk(tmp_path, 64) as disk:
        shutil.copytree(finished, disk / "home", ignore=shutil.ignore_patterns("cache"))
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with chdir(disk / "home"):
            assert command(words) == code
        problems = capfd.readouterr().err.splitlines()
        assert len(problems) == (code > 0)
        assert not code or "Read-only file system" in problems[0] or "cannot be written" in problems[0]


@pytest.mark.slow
@pytest.mark.parametrize("words", [["rm", "-rf"], ["mv", "-t", ".."]], ids=["deleted", "moved"])
def test_a_folder_that_is_there_no_more_ends_a_search_in_one_line(tmp_path: Path, words: list[str]) -> None:
    with long_search(tmp_path) as process:
        (study,) = tmp_path.glob("runs/brief/*")
        subprocess.run([*words, str(study)], cwd=study.parent, check=True)
        code, _, problems = last_lines(process)
        assert (code, len(problems)) == (3, 1)
        assert problems[0].startswith("bnnsearch: No such file or directory: ")
        assert not study.exists()
        assert read_past(StudyFolder(study.parent.parent / study.name)).text if words[0] == "mv" else True


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)], ids=str
)
def test_a_signal_is_answered_at_once_and_ends_with_the_resume_line(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    with long_search(tmp_path) as process:
        process.send_signal(number)
        ended, said, problems = last_lines(process)
        (study,) = tmp_path.glob("runs/brief/*")
        assert (ended, problems) == (code, [])
        _, stopping, stopped, resume = (line for line in said if not line.endswith(" ..."))
        assert stopping.startswith("stopping: ")
        assert stopped.startswith("stopped; everything so far is saved")
        assert resume == f"  bnnsearch resume {study.relative_to(tmp_path)}"


@pytest.mark.slow
def test_a_ui_that_is_killed_leaves_no_server_behind(finished: Path) -> None:
    port = free_port()
    proxied = {**os.environ, "http_proxy": "http://127.0.0.1:1"}  # which does not reach this machine's servers
    proxied = {name: value for name, value in proxied.items() if name.lower() != "no_proxy"}
    with subprocess.Popen(
        [sys.executable, "-m", "bnnsearch", "ui", "--port", str(port)],
        cwd=finished, env=proxied, stdout=subprocess.PIPE, text=True,
    ) as ui:  # fmt: skip
        assert ui.stdout is not None
        assert str(port) in ui.stdout.readline()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as answer:
            assert answer.status == 200
        server = psutil.Process(ui.pid).children(recursive=True)
        assert len(server) >= 2
        ui.kill()
    while any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in server):
        time.sleep(0.1)
