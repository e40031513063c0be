"""Exit codes and messages of the commands, as a shell sees them."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bnnsearch.cli import main

ROOT = Path(__file__).parents[1]
QUICKSTART = str(ROOT / "spaces" / "digits_quickstart.yaml")


def invoke(*words: str) -> Result:
    return CliRunner().invoke(main, words)


def test_a_bad_space_is_bad_input_with_its_place(tmp_path: Path) -> None:
    space = tmp_path / "bad.yaml"
    space.write_text(Path(QUICKSTART).read_text().replace("name: tpe", "name: tqe"))
    ended = invoke("run", str(space), "--runs", str(tmp_path / "runs"))
    assert ended.exit_code == 2
    line = space.read_text().splitlines().index("sampler: {name: tqe, startup_trials: 8}") + 1
    assert ended.stderr.startswith(f"{space}:{line}:")
    assert "tqe" in ended.stderr
    assert "tpe" in ended.stderr
    assert not (tmp_path / "runs").exists()


def test_missing_data_is_found_before_the_search(tmp_path: Path) -> None:
    ended = invoke("run", str(ROOT / "spaces" / "mnist_bnew.yaml"), "--set", f"trial.data.root={tmp_path}",
                   "--runs", str(tmp_path / "runs"))  # fmt: skip
    assert ended.exit_code == 3
    assert str(tmp_path) in ended.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("command", ["status", "report", "export", "resume", "ui"])
def test_commands_about_a_study_say_where_there_is_none(tmp_path: Path, command: str) -> None:
    ended = invoke(command, "--runs", str(tmp_path))
    assert ended.exit_code == 2
    assert f"{tmp_path}: holds no study yet" in ended.stderr


def test_export_takes_one_way_to_choose() -> None:
    ended = invoke("export", "--knee", "--best", "val_acc")
    assert ended.exit_code == 2
    assert "at most one of --knee, --best, --trial and --run-id" in ended.stderr


def test_a_dry_run_says_what_would_be_done_and_does_nothing(tmp_path: Path) -> None:
    ended = invoke("run", QUICKSTART, "--dry-run", "--runs", str(tmp_path / "runs"))
    assert ended.exit_code == 0
    assert "nothing was trained" in ended.stdout
    assert "memory_bytes" in ended.stdout
    assert not (tmp_path / "runs").exists()


def test_the_schema_is_json() -> None:
    ended = invoke("schema")
    assert ended.exit_code == 0
    assert json.loads(ended.stdout)["$schema"].startswith("https://json-schema.org/")


def test_pack_wants_a_finished_run(tmp_path: Path) -> None:
    ended = invoke("pack", str(tmp_path))
    assert ended.exit_code == 2
    assert "holds no finished run" in ended.stderr


def test_a_file_that_is_no_packed_model_is_refused(tmp_path: Path) -> None:
    model = tmp_path / "model.bnn"
    model.write_bytes(b"not a model at all")
    ended = invoke("bench", str(model))
    assert ended.exit_code == 3
    assert str(model) in ended.stderr
