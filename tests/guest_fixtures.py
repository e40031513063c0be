"""The example of a guest's package, installed for a test and forgotten after it; commands that use guests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from bnnsearch.cli import main
from bnnsearch.config import families, guests
from bnnsearch.config.metrics import METRICS
from bnnsearch.folder import StudyFolder, find_study_folder

EXAMPLE = Path(__file__).parent.parent / "examples" / "guest"


@pytest.fixture(autouse=True)
def nobody() -> Iterator[None]:
    """No test sees another's guests, nor what an earlier one, of any file, found installed."""
    known = dict(METRICS)
    forget()
    yield
    forget()
    METRICS.clear()
    METRICS.update(known)


def forget() -> None:
    """As if no guest had been looked for."""
    families.GUESTS.clear()
    guests._LOADED.clear()
    families._installed.cache_clear()
    families._asked.clear()


def call(*words: str, code: int = 0) -> str:
    """What a command prints, its exit code being `code`."""
    done = CliRunner().invoke(main, words)
    assert done.exit_code == code, done.output
    return done.output


def study() -> StudyFolder:
    """The newest study below the folder `runs`."""
    return find_study_folder(None, Path("runs"))


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example of a guest's package, as it is installed."""
    folder = tmp_path_factory.mktemp("site")
    words = ["uv", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), str(EXAMPLE)]
    subprocess.run([*words, "--python", sys.executable], check=True)
    return folder


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package can be imported here; processes that this one starts do not see it."""
    monkeypatch.syspath_prepend(str(site))
    yield
    for name in [each for each in sys.modules if each.partition(".")[0] == "guest_bnn"]:
        del sys.modules[name]
