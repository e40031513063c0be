"""The native library: what is in it, which variant runs, and what is said where it does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from bnnsearch import native
from bnnsearch.cli import main
from bnnsearch.errors import EnvironmentProblem
from bnnsearch.evolve import kernels as evolution
from bnnsearch.packed import kernels as packed

EVOLVED = """
data: {name: digits}
model: {name: xor_mlp, hidden: [16], bits_per_label: 4}
method: {name: inertia}
plan: {epochs: 1}
seed: 1
"""


def test_every_variant_has_every_kernel() -> None:
    assert native.variants()[-1] == "portable"
    for variant in native.variants():
        for kernels in (evolution, packed):
            for name in kernels.SIGNATURES:
                assert kernels.bind(variant, name) is not None


@pytest.fixture
def fresh() -> None:
    """Asked again, now and after the test."""
    for asked in (native.library, native.variants, native.chosen):
        asked.cache_clear()


@pytest.mark.usefixtures("fresh")
def test_the_environment_chooses_a_variant(monkeypatch: pytest.MonkeyPatch) -> None:
    assert native.chosen() == native.variants()[0]
    native.chosen.cache_clear()
    monkeypatch.setenv("BNNSEARCH_VARIANT", "portable")
    assert native.chosen() == "portable"
    native.chosen.cache_clear()


@pytest.mark.usefixtures("fresh")
def test_a_library_that_does_not_load_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "library.so"
    broken.write_bytes(b"no library")
    monkeypatch.setattr(native, "FILE", broken)
    with pytest.raises(EnvironmentProblem, match=r"needs the native library.*library\.so.*reinstall-package") as told:
        native.library()
    assert len(told.value.lines) == 1


@pytest.mark.parametrize(
    "command", [("train", "evolved.yaml"), ("train", "trained.yaml"), ("validate", "trained.yaml")]
)
def test_a_variant_that_does_not_run_here_ends_every_command_with_3_and_one_line(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "evolved.yaml").write_text(EVOLVED)
    (tmp_path / "trained.yaml").write_text("data: digits\nmodel: {name: cnn, channels: [16, 32]}\nplan: {epochs: 1}\n")
    ran = subprocess.run(
        [sys.executable, "-m", "bnnsearch", *command],
        cwd=tmp_path, env={**os.environ, "BNNSEARCH_VARIANT": "vax"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 3
    told = ran.stderr.splitlines()
    assert len(told) == 1
    assert "BNNSEARCH_VARIANT: 'vax' does not run here; what does: " in told[0]


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("name", ["digits_mixed", "digits_latency"])
def test_a_search_that_evolves_or_measures_does_not_begin_without_the_library(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "library.so").write_bytes(b"no library")
    monkeypatch.setattr(native, "FILE", tmp_path / "library.so")
    monkeypatch.chdir(tmp_path)
    space = str(Path(__file__).parents[1] / "spaces" / f"{name}.yaml")
    ended = CliRunner().invoke(main, ["run", space, "--executor", "local"])
    assert ended.exit_code == 3
    assert len(ended.stderr.splitlines()) == 1
    assert "needs the native library" in ended.stderr
    assert not list(tmp_path.glob("runs/*/*"))
