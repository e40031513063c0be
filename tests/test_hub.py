"""Samplers of OptunaHub, from a folder laid out like its registry: nothing comes from the network."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from search_fixtures import TinyTrainer, tiny

from bnnsearch.config.sampler import HubConfig
from bnnsearch.errors import EnvironmentProblem, InputError
from bnnsearch.space import SpaceError
from bnnsearch.study import hub
from bnnsearch.study.local import LocalExecutor
from bnnsearch.study.study import resume_study, run_study
from bnnsearch.testing import check_sampler

CODE = """
import optuna

class Shy(optuna.samplers.RandomSampler):
    def __init__(self, most=1.0, seed=None):
        super().__init__(seed=seed)
        self._most = most

    def sample_independent(self, study, trial, name, distribution):
        drawn = super().sample_independent(study, trial, name, distribution)
        return min(drawn, self._most) if isinstance(drawn, float) else drawn
"""


@pytest.fixture(autouse=True)
def registry(tmp_path: Path) -> Path:
    """A registry with one package."""
    pytest.importorskip("optunahub")
    package = tmp_path / "registry/samplers/shy"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(CODE + '\n__all__ = ["Shy"]\n')
    hub._package.cache_clear()
    return tmp_path / "registry"


def sampler(registry: Path, **more: str) -> str:
    told = {"name": "hub", "package": "samplers/shy", "local": str(registry)} | more
    return f"sampler={{{', '.join(f'{key}: {value}' for key, value in told.items())}}}"


def test_it_keeps_the_contract_of_samplers(registry: Path) -> None:
    check_sampler(HubConfig(package="samplers/shy", local=str(registry)))


def test_it_suggests_and_goes_on_after_a_resume(tmp_path: Path, registry: Path) -> None:
    def drawn(folder: Path, *, before: int) -> list[object]:
        space = tiny(folder, f"budget.trials={before}", sampler(registry, settings="{most: 0.25}"))
        executor = LocalExecutor()
        run_study(space, study_dir=folder / "study", executor=executor, build_trainer=TinyTrainer)
        done = resume_study(folder / "study", executor=executor, trials=8, build_trainer=TinyTrainer)
        return [result.params["optimizer.lr"] for result in done.results]

    whole = drawn(tmp_path / "a", before=8)
    assert drawn(tmp_path / "b", before=3) == whole
    assert max(whole) == 0.25
    assert len(set(whole)) > 1


@pytest.mark.parametrize(
    ("more", "kind", "message"),
    [
        ({"package": "samplers/absent"}, EnvironmentProblem, "sampler.package samplers/absent cannot be loaded from"),
        ({"sampler": "Bold"}, InputError, "must be a sampler of samplers/shy, but got Bold; allowed: Shy"),
        ({"settings": "{least: 1}"}, InputError, "sampler.settings: Shy of samplers/shy does not take them"),
    ],
)
def test_what_cannot_be_loaded_is_refused_before_a_search_begins(
    tmp_path: Path, registry: Path, more: dict[str, str], kind: type[Exception], message: str
) -> None:
    space = tiny(tmp_path, sampler(registry, **more))
    with pytest.raises(kind, match=message):
        run_study(space, study_dir=tmp_path / "study", executor=LocalExecutor(), build_trainer=TinyTrainer)
    assert not (tmp_path / "study").exists()


def test_a_package_that_is_not_installed_is_named(
    tmp_path: Path, registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optunahub", None)
    space = tiny(tmp_path, sampler(registry))
    with pytest.raises(EnvironmentProblem, match=r"needs the package optunahub: pip install 'bnnsearch\[hub\]'"):
        run_study(space, study_dir=tmp_path / "study", executor=LocalExecutor(), build_trainer=TinyTrainer)


def test_only_samplers_and_one_place_are_named(tmp_path: Path, registry: Path) -> None:
    with pytest.raises(SpaceError, match="ref is of the network's registry"):
        tiny(tmp_path, sampler(registry, ref="main"))
    with pytest.raises(SpaceError, match="package"):
        tiny(tmp_path, sampler(registry, package="../else"))
