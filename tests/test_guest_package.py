"""The example of a guest's package in a fresh environment, from a space to a packed network, as its user goes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from cluster_fixtures import local_cluster, token_file
from guest_fixtures import EXAMPLE

from bnnsearch.folder import StudyFolder
from bnnsearch.packed.model import PackedModel
from bnnsearch.past import read_past
from bnnsearch.results import TrialState

pytestmark = pytest.mark.system
CHECKOUT = EXAMPLE.parent.parent
MANY = ("--set", "budget.trials=1000")
"""More than end before the search has heard that it is interrupted."""


class User:
    """Somebody in a folder, with an environment in which bnnsearch is installed.

    Args:
        python: the environment's.
        home: the folder.
        more: variables of the environment.
    """

    def __init__(self, python: Path, home: Path, **more: str) -> None:
        self._python, self.home = python, home
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self._environment = {**kept, "BNNSEARCH_CACHE": str(home / "cache"), **more}

    def call(self, *words: str, code: int = 0) -> str:
        """What a command prints, its exit code being `code`."""
        done = subprocess.run(
            self._command(words), cwd=self.home, env=self._environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def interrupt(self, *words: str) -> StudyFolder:
        """The study of a search that is interrupted when a first trial has ended."""
        with subprocess.Popen(
            self._command([*words, "--json"]), cwd=self.home, env=self._environment, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            assert process.stdout is not None
            heard = []
            for line in process.stdout:
                heard.append(line)
                if json.loads(line)["event"] == "trial_finished":
                    process.send_signal(signal.SIGINT)
                    break
            _, said = process.communicate()
        assert process.returncode == 130, "".join(heard) + said
        (study,) = (self.home / "runs").glob("*/*")
        return StudyFolder(study)

    def _command(self, words: Sequence[str]) -> list[str]:
        return [str(self._python), "-m", "bnnsearch", *words]


def resume(user: User, folder: StudyFolder) -> None:
    """Go on with a search for a few trials more."""
    ended = len(read_past(folder).results)
    user.call("resume", "--trials", str(ended + 3))
    results = read_past(folder).results
    assert [each.number for each in results] == list(range(len(results)))
    assert len(results) >= ended + 3
    assert {each.state for each in results} <= {TrialState.COMPLETE, TrialState.PRUNED}


def go_on_to_a_packed_network(user: User, folder: StudyFolder) -> None:
    """Export, train and pack: what is written on the way finds its guests; a packed network needs none."""
    user.call("export", str(folder.path), "-o", "best.yaml", "--no-register")
    user.call("train", "best.yaml", "-o", "trained", "--no-track")
    user.call("pack", "trained", "-o", "model.bnn")
    model = PackedModel.load(user.home / "model.bnn")
    labels = model.predict(np.zeros((3, *model.shape), dtype=np.uint8))
    assert len(labels) == 3
    assert not [each for each in sys.modules if each.startswith("guest_bnn")]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment with this checkout and the example in it, and nothing else."""
    folder = tmp_path_factory.mktemp("fresh")
    subprocess.run(["uv", "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
    python = folder / "bin" / "python"
    install = ["uv", "pip", "install", "--quiet", "--python", str(python)]
    subprocess.run([*install, str(CHECKOUT), str(EXAMPLE)], check=True)
    return python


@pytest.mark.parametrize("space", ["space.yaml", "own_code.yaml"])
def test_on_one_machine(fresh: Path, space: str, tmp_path: Path) -> None:
    user = User(fresh, tmp_path)
    folder = user.interrupt("run", str(EXAMPLE / space), *MANY)
    resume(user, folder)
    go_on_to_a_packed_network(user, folder)


@pytest.mark.parametrize("space", ["space.yaml", "own_code.yaml"])
def test_on_a_cluster_of_two_nodes_that_lack_the_package(fresh: Path, space: str, tmp_path: Path) -> None:
    """The cluster's Python is that of the tests, in which the guests are not installed: they travel."""
    token = token_file(tmp_path)
    user = User(fresh, tmp_path, RAY_AUTH_TOKEN_PATH=str(token))
    with local_cluster(nodes=3, token=token) as cluster:  # the head has no slots
        address = cluster.address_file(tmp_path, storage=tmp_path / "shared")
        folder = user.interrupt("run", str(EXAMPLE / space), *MANY, "--cluster", str(address))
        user.call("stop")
        resume(user, folder)
    go_on_to_a_packed_network(user, folder)
