"""Text from outside, evil on purpose, through every command: nothing of it speaks to a terminal, a log or a page."""

import json
import logging
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from record_fixtures import record_past
from rich.console import Console

from bnnsearch.cli import main
from bnnsearch.errors import InputError, printable
from bnnsearch.folder import StudyFolder
from bnnsearch.logs import PrintableFormatter
from bnnsearch.results import TrialResult, TrialState
from bnnsearch.space import SpaceError, load_space
from bnnsearch.study.session import logging_to
from bnnsearch.study.worker import one_line
from bnnsearch.terminal.progress import StudyProgress
from bnnsearch.terminal.views import LiveView, PlainView
from bnnsearch.tracking.page import escape, table

EVIL = {
    "ESC": "a\x1b[31mb",
    "OSC": "a\x1b]0;title\x07b",
    "8-bit CSI": "a\x9b31mb",
    "CR": "good\rbad",
    "LF": "first\nsecond: ok",
    "bidi override": "abc\u202egnp.exe",
    "bidi isolate": "abc\u2066def",
    "next line": "a\u0085b",
    "line separator": "a\u2028b",
    "zero width": "pay\u200bpal",
    "backspace": "no\b\byes",
    "lone surrogate": "caf\udce9",
    "markup": "[red]b[/red][link=x]",
    "closing markup": "[/nothing]",
    "emoji": ":warning: b",
    "HTML": "<script>alert(1)</script>",
    "script": "東京",
}
evil = pytest.mark.parametrize("text", EVIL.values(), ids=EVIL)

SPACE = """
version: 1
name: tiny
objectives: [{{metric: val_acc, mode: max}}, {{metric: memory_bytes, mode: min}}]
budget: {{trials: 4}}
trial:
  data: {{name: image_folder, root: {{type: choice, values: [plain, {root}]}}}}
  model: {{name: mlp, hidden: [8]}}
  method: {{name: ste}}
"""


def assert_clean(output: str, text: str) -> None:
    """Nothing but printable characters and line ends, and no line is made of what was quoted."""
    assert all(line.isprintable() for line in output.split("\n")), repr(output)
    if "\n" in text:
        assert not re.search(rf"^{re.escape(text.partition(chr(10))[2])}", output, re.MULTILINE)


def invoke(*arguments: str | Path, text: str, codes: tuple[int, ...] = (2, 3)) -> str:
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), (arguments, done.exception)
    assert done.exit_code in codes, (arguments, done.exit_code, done.output)
    assert_clean(done.output, text)
    return done.output


@pytest.fixture(autouse=True)
def somewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "500")  # so that nothing is folded
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    logging.captureWarnings(False)


@evil
def test_names_on_the_command_line(text, tmp_path):
    """Every command is given the text in each of its places."""
    for command in (
        ["run", text],
        ["run", "x.yaml", "--executor", text],
        ["run", "x.yaml", "--cluster", text],
        ["validate", text],
        ["resume", text],
        ["resume", "--runs", text],
        ["resume", "--trials", text],
        ["status", text],
        ["report", text],
        ["report", text, "other"],
        ["export", text],
        ["export", "--run-id", text],
        ["export", "--best", text],
        ["train", text],
        ["pack", text],
        ["predict", text, "image.png"],
        ["bench", text],
        ["bench", "m.bnn", "--batch", text],
        ["ui", text],
        ["ui", "--port", text],
        ["logs", text],
        ["stop", text],
        ["down", text],
        ["cluster", "up", text],
        ["cluster", "status", text],
        ["cluster", "down", text],
        ["cluster", text],
        [text],
        ["status", f"--{text}"],
    ):
        invoke(*command, text=text)


@evil
def test_keys_values_and_settings_of_a_space(text, tmp_path):
    quoted = json.dumps(text)
    path = tmp_path / "space.yaml"
    good = SPACE.format(root="other")
    for content in (
        f"{good}\n{quoted}: 1\n",
        good.replace("name: tiny", f"name: {quoted}"),
        good.replace("name: ste", f"name: {quoted}"),
        good.replace("name: ste", f"name: ste, {quoted}: 1"),
        good.replace("type: choice", f"type: {quoted}"),
        good.replace("{name: ste}", f"{{type: choice, branches: {{{quoted}: {{}}}}}}"),
        good.replace("trials: 4", f"trials: {quoted}"),
        good.replace("trials: 4", f"trials: 4, wall_time: {quoted}"),
        good.replace("values: [plain, other]", f"values: [plain, {quoted}, {quoted}]"),
        good.replace("root: {", f"root: {{default: {quoted}, "),
        f"{good}warm_start: [{quoted}]\n",
        f"{good}{quoted}",
        f"{good}? [{quoted}]\n",
    ):
        path.write_bytes(content.encode("utf-8", "surrogatepass"))
        for command in (["validate", path], ["run", path, "--executor", "local", "--dry-run"]):
            output = invoke(*command, text=text, codes=(0, 2, 3))
            assert "Traceback" not in output
    path.write_text(good)
    for setting in (
        text, f"{text}=1", f"trial.{text}=1", f"name={text}", f"name={quoted}", f"trial.method.name={text}",
        f"trial.method={{{text}: 1}}", f"budget.trials={text}",
    ):  # fmt: skip
        invoke("validate", path, "--set", setting, text=text, codes=(0, 2))


@evil
def test_a_space_error_is_one_printable_line_per_problem(text, tmp_path):
    path = tmp_path / "space.yaml"
    path.write_bytes(f"{SPACE.format(root='x')}\n{json.dumps(text)}: 1\n".encode())
    with pytest.raises(SpaceError) as raised:
        load_space(path)
    lines = str(raised.value).split("\n")
    assert len(lines) == len(raised.value.problems)
    assert all(line.isprintable() for line in lines)
    assert InputError(f"a {text}").lines == (printable(f"a {text}"),)


@pytest.fixture
def study(tmp_path):
    """A study whose parameters, reasons and folder hold the text; nothing was trained for it."""

    def make(text: str) -> StudyFolder:
        which = next(name for name, each in EVIL.items() if each == text)
        folder = StudyFolder(tmp_path / "runs" / printable(text).replace("/", "_") / "20260101-000000")
        folder.path.mkdir(parents=True)
        folder.space.write_text(SPACE.format(root=json.dumps(printable(text))))
        for number, state in enumerate(
            [TrialState.COMPLETE, TrialState.COMPLETE, TrialState.FAILED, TrialState.PRUNED]
        ):
            result = TrialResult(
                number=number,
                state=state,
                config={
                    "data": {"name": "image_folder", "root": printable(text) if "surrogate" in which else text},
                    "model": {"name": "mlp", "hidden": [8]},
                    "method": {"name": "ste"},
                    "seed": number,
                },
                params={"data.root": text, f"key.{text}": number, "other": f"{text}{number}"},
                metrics={"val_acc": 0.5 + number / 10, "memory_bytes": 100.0 + number},
                epochs=3,
                seconds=1.0,
                reason=None if state is TrialState.COMPLETE else f"{text} failed",
            )
            record_past(folder, [result], space=folder.space.read_text(encoding="utf-8"))
        return folder

    return make


@pytest.mark.slow
@evil
def test_what_a_study_holds(text, study, tmp_path):
    folder = study(text)
    status = invoke("status", folder.path, text=text, codes=(0,))
    shown = printable(text)
    assert f"1 x {shown} failed" in status
    if "[" in text or ":" in text:
        assert f"root={shown.replace(' ', '')}" in status  # markup is text, not colour; :warning: is no picture
    invoke("status", folder.path, "--json", text=text, codes=(0,))
    invoke("report", folder.path, text=text, codes=(0,))
    html = (folder.report / "report.html").read_text(encoding="utf-8")
    body = re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)
    assert all(line.isprintable() for line in body.split("\n"))
    assert "alert(1)" not in re.sub(r"&lt;script&gt;alert\(1\)", "", body)
    assert f"{escape(text)} failed" in body
    invoke("report", folder.path, folder.path, text=text, codes=(0,))
    invoke("export", folder.path, "--no-register", "--best", "val_acc", text=text, codes=(0, 2, 3))
    invoke("export", folder.path, "--where", f"{text}<=1", text=text)
    with socket.create_server(("127.0.0.1", 0)) as taken:  # so that it ends with a line instead of serving
        invoke("ui", folder.path, "--port", str(taken.getsockname()[1]), text=text, codes=(3,))


@evil
def test_what_a_running_search_shows(text, study, tmp_path):
    folder = study(text)
    loaded = load_space(folder.space).study
    with (tmp_path / "screen").open("w", encoding="utf-8") as file:
        console = Console(file=file, force_terminal=True, color_system=None, width=500)
        from bnnsearch.past import read_past

        results = list(read_past(folder).results)
        progress = StudyProgress(loaded, results)
        console.print(LiveView(progress, console).render())
        plain = PlainView(progress, console)
        for result in results:
            plain.trial_finished(result)
    output = (tmp_path / "screen").read_text(encoding="utf-8")
    assert_clean(output, text)
    assert f"{printable(text)} failed" in output


@evil
def test_logs_and_reasons(text, tmp_path):
    with logging_to(tmp_path / "search.log"):
        logging.getLogger("bnnsearch.x").warning("%s said %s", "it", text)
        try:
            raise ValueError(text)
        except ValueError:
            logging.getLogger("bnnsearch.x").exception("%s", text)
    lines = (tmp_path / "search.log").read_text(encoding="utf-8").split("\n")
    assert all(line.isprintable() for line in lines)
    assert len([line for line in lines if re.match(r"\d{4}-\d\d-\d\d ", line)]) == 2
    assert any(line.startswith("Traceback") for line in lines)
    assert one_line(ValueError(text)).isprintable()
    assert table(text, [text], [[text]]).replace("\n", " ").isprintable()
    assert PrintableFormatter().format(logging.makeLogRecord({"msg": text})).isprintable()


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_a_real_terminal_gets_nothing_that_it_cannot_show(encoding, tmp_path):
    """Bytes that are no UTF-8 as an argument, and a name that the terminal's encoding does not have."""
    folder = tmp_path / "東京"
    folder.mkdir()
    (folder / "space.yaml").write_text(SPACE.format(root='"東京"'))
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    for arguments, code in (
        ([b"validate", b"caf\xe9\x1b[31m.yaml"], 2),
        ([b"validate", b"--set", b"name=caf\xe9", os.fsencode(folder / "space.yaml")], 2),
        ([b"validate", os.fsencode(folder / "space.yaml")], 0),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "bnnsearch", *arguments], capture_output=True, env=environment, check=False
        )
        assert done.returncode == code, done
        assert b"Traceback" not in done.stderr
        assert b"\x1b" not in done.stdout + done.stderr
