"""Files to start from: listed, copied with their comments, and in the wheel as in a checkout."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from bnnsearch.cli import main
from bnnsearch.shipped import shipped

ROOT = Path(__file__).parent.parent


def test_all_are_listed_with_what_they_are() -> None:
    listed = CliRunner().invoke(main, ["init"]).output.splitlines()
    files = [each for folder in ("spaces", "clusters") for each in (ROOT / folder).iterdir() if each.suffix != ".json"]
    assert len(listed) == len(files)
    for file in files:
        (line,) = (line for line in listed if line.split()[1] == file.name)
        assert len(line.split(maxsplit=2)[2]) > 10
        assert len(line) < 180


@pytest.mark.parametrize("name", ["digits_quickstart", "digits_quickstart.yaml", "slurm"])
def test_one_is_copied_and_never_over_another(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["init", name])
    assert done.exit_code == 0
    (path,) = tmp_path.iterdir()
    (source,) = (ROOT / each for each in (f"spaces/{path.name}", f"clusters/{path.name}") if (ROOT / each).exists())
    assert path.read_bytes() == source.read_bytes()
    path.write_text("mine")
    again = CliRunner().invoke(main, ["init", name])
    assert (again.exit_code, path.read_text()) == (2, "mine")
    assert f"{path.name}: is there already; name another file with -o" in again.output
    assert CliRunner().invoke(main, ["init", name, "-o", "a b.yaml"]).output.count("'a b.yaml'") == 1


def test_a_name_that_is_none_is_told_what_there_is() -> None:
    done = CliRunner().invoke(main, ["init", "nothing"])
    assert done.exit_code == 2
    assert "there is no file nothing; there are: cifar100_bnew.yaml, " in done.output


@pytest.mark.slow
def test_the_wheel_has_them_and_works_from_an_empty_folder(tmp_path: Path) -> None:
    subprocess.run(["uv", "build", "--quiet", "--wheel", "--out-dir", str(tmp_path), str(ROOT)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    site, home = tmp_path / "site", tmp_path / "home"
    zipfile.ZipFile(wheel).extractall(site)
    home.mkdir()
    assert {f"{each.folder}/{each.name}" for each in shipped()} == {
        path.relative_to(site / "bnnsearch" / "shipped").as_posix()
        for path in (site / "bnnsearch" / "shipped").rglob("*")
        if path.is_file() and path.suffix != ".json"
    }
    environment = {"PYTHONPATH": f"{site}:{sysconfig.get_path('purelib')}", "PATH": "/usr/bin:/bin", "HOME": str(home)}
    isolated = [sys.executable, "-S", "-m", "bnnsearch"]  # no .pth: not the checkout
    commands = (
        ["init", "digits_quickstart"],
        ["validate", "digits_quickstart.yaml"],
        ["run", "digits_quickstart.yaml", "--executor", "local", "--set", "budget.trials=1"],
        ["export", "-o", "best.yaml", "--no-register"],
    )
    for words in commands:
        done = subprocess.run(
            [*isolated, *words], cwd=home, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (words, done.stderr)
    assert (home / "best.yaml").exists()
