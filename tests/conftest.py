"""What holds for all tests."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from bnnsearch import native

if TYPE_CHECKING:
    from bnnsearch.study.executor import Executor

os.environ["PYTHONPATH"] = str(Path(__file__).parent)  # the processes that tests start find the fixtures
# Networks of tests are too small to share; threads that wait for one another on a busy machine take 30 times as long.
os.environ["OMP_NUM_THREADS"] = "1"
# What is compared to the last digit is trained in float32: without instructions for bfloat16 `dtype: auto` takes that.
os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX512_CORE_VNNI"
os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"  # as in study/ray.py, but before a test module imports Ray first

# The commands that are printed are `bnnsearch ...`, however the tests were started.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.fixture(scope="session")
def small_ray() -> Iterator[None]:
    """One Ray of two cores for all tests."""
    from bnnsearch.study.own_ray import environment, own_ray

    with environment({"AWS_SECRET_ACCESS_KEY": "canary"}), own_ray(2, print):
        yield


@pytest.fixture(params=["local", pytest.param("ray", marks=pytest.mark.full)])
def executor(request: pytest.FixtureRequest) -> Executor:
    """Each of the executors; Ray only where `full` is asked for."""
    from bnnsearch.study.local import LocalExecutor
    from bnnsearch.study.ray import RayExecutor

    if request.param == "local":
        return LocalExecutor()
    request.getfixturevalue("small_ray")
    return RayExecutor()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests share no pretraining with one another or with the user's own studies."""
    monkeypatch.setenv("BNNSEARCH_CACHE", str(tmp_path / "cache"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """After the attacks in full form: what was tried, and what failed."""
    from attacks import FULL, TRIED

    if not FULL:
        return
    ended = [each for kind in ("passed", "failed", "error") for each in terminalreporter.stats.get(kind, ())]
    ran = [each for each in ended if isinstance(each, pytest.TestReport) and "attack" in each.keywords]
    if not ran:
        return
    tests = Counter(each.nodeid.partition("[")[0] for each in ran if each.when == "call")
    failed = Counter(each.nodeid.partition("[")[0] for each in ran if each.failed)
    tried = {test: max(count, TRIED[test]) for test, count in tests.items()}
    terminalreporter.section("attacks")
    for test, count in sorted(tried.items()):
        terminalreporter.write_line(f"{count:>9,} tries {failed[test]:>3} failed  {test}")
    terminalreporter.write_line(f"{sum(tried.values()):>9,} tries {failed.total():>3} failed")


@pytest.fixture(scope="module", params=native.variants())
def instruction_set(request: pytest.FixtureRequest) -> Iterator[None]:
    """All kernels as they are compiled for one instruction set."""
    from bnnsearch.evolve import kernels as evolution
    from bnnsearch.packed import kernels as packed

    with pytest.MonkeyPatch.context() as patch:
        for kernels in (evolution, packed):
            for name in kernels.SIGNATURES:
                patch.setattr(kernels, name, kernels.bind(request.param, name))
        yield
