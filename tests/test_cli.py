"""Exit codes and messages of the commands, as a shell sees them."""

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from bnnsearch.cli import COMMANDS, main

ROOT = Path(__file__).parents[1]
QUICKSTART = str(ROOT / "spaces" / "digits_quickstart.yaml")
TRIAL = "{data: {name: digits}, model: {name: mlp, hidden: [8]}, method: {name: ste}, plan: {epochs: 1}, seed: 1}"


def invoke(*words: str) -> Result:
    return CliRunner().invoke(main, words, prog_name="bnnsearch")


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


@pytest.mark.parametrize("space", sorted((ROOT / "spaces").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_space_is_dry_runnable_without_its_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, space: Path
) -> None:
    monkeypatch.setenv("BNN_DATA", str(tmp_path))
    ended = invoke("run", str(space), "--dry-run", "--runs", str(tmp_path / "runs"))
    assert ended.exit_code == 0, ended.output
    assert "nothing was trained" in ended.stdout
    assert ("the data: " in ended.stdout) == ("digits" not in space.stem)
    if "evolution" not in space.stem:
        assert "  memory_bytes " in ended.stdout
    header = [line for line in space.read_text().splitlines()[1:] if line.startswith("#")]
    assert sum(" Cost: " in line for line in header) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_knows_the_published_costs_without_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ReActNet-A: 4817 M binary and 11.86 M real multiply-accumulates, 29.34 M parameters, on any machine."""
    monkeypatch.setenv("BNN_DATA", str(tmp_path))
    told = invoke("run", str(ROOT / "spaces" / "imagenet_reactnet_bnew.yaml"), "--dry-run").stdout.splitlines()
    assert {"  params 29.34M", "  bops 4.817G", "  flops 11.86M"} <= set(told)


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


def each_command() -> list[click.Command]:
    found = [main.get_command(click.Context(main), name) for name in COMMANDS]
    inner = [each for group in found if isinstance(group, click.Group) for each in group.commands.values()]
    return [each for each in (*found, *inner) if each is not None and not isinstance(each, click.Group)]


def test_every_command_says_what_it_does_with_an_example() -> None:
    assert len(each_command()) == len(COMMANDS) + 2
    for command in each_command():
        assert "Example: " in (command.help or ""), command.name
        for option in command.params:
            assert not isinstance(option, click.Option) or option.help, (command.name, option.name)


@pytest.mark.parametrize("flag", ["--json", "--seed", "--device", "--runs", "--set", "--executor", "--cluster"])
def test_a_flag_of_several_commands_is_the_same_in_each(flag: str) -> None:
    had = [option for command in each_command() for option in command.params if flag in option.opts]
    assert len(had) > 1
    told = [(option.opts, option.help, str(option.type)) for option in had if isinstance(option, click.Option)]
    assert told == [told[0]] * len(had)


def test_what_is_written_is_named_by_output_everywhere() -> None:
    writes = {command.name for command in each_command() for each in command.params if "--output" in each.opts}
    assert writes == {"init", "schema", "report", "export", "train", "pack"}
    for command in each_command():
        assert all(each.opts == ["-o", "--output", "--out"] for each in command.params if each.name == "out")


def test_a_seed_is_that_of_the_study(tmp_path: Path) -> None:
    ended = invoke("run", QUICKSTART, "--dry-run", "--json", "--seed", "12345", "--runs", str(tmp_path / "runs"))
    assert ended.exit_code == 0, ended.output
    told = json.loads(ended.stdout)
    assert told["event"] == "dry_run"
    assert told["config"]["seed"] == 12345
    assert told["costs"]["memory_bytes"] > 0


def test_checked_spaces_and_shipped_files_are_told_as_json() -> None:
    told = json.loads(invoke("validate", QUICKSTART, "--json").stdout)
    assert told["event"] == "valid"
    assert {each["name"] for each in told["parameters"]} >= {"method"}
    listed = [json.loads(line) for line in invoke("init", "--json").stdout.splitlines()]
    assert {"digits_quickstart.yaml", "aws-spot.yaml"} <= {each["name"] for each in listed}


def test_a_run_trained_with_a_seed_is_packed_timed_and_predicts_as_json(tmp_path: Path) -> None:
    origin = "provenance: {study: small, search_id: s, trial: 5, expected: {val_acc: 0.875}}"
    (tmp_path / "trial.yaml").write_text(f"{TRIAL[:-1]}, {origin}}}")
    run, model = str(tmp_path / "trained"), str(tmp_path / "model.bnn")
    trained = invoke("train", str(tmp_path / "trial.yaml"), "-o", run, "--seed", "3", "--threads", "1", "--no-track",
                     "--json")  # fmt: skip
    assert trained.exit_code == 0, trained.output
    epoch, ended = map(json.loads, trained.stdout.splitlines())
    assert (epoch["event"], ended["event"]) == ("epoch", "trained")
    assert "seed 3: 1 epochs" in trained.stderr
    assert "; the search had 0.8750 (trial 5 of small)" in trained.stderr
    packed = json.loads(invoke("pack", run, "--output", model, "--json").stdout)
    assert packed["bytes"] == Path(model).stat().st_size
    timed = json.loads(invoke("bench", model, "--threads", "1", "--json").stdout)
    assert 0 < timed["median_ms"] <= timed["p90_ms"] * 2
    assert timed["float32_ms"] > 0
    assert {"processor", "instructions", "threads"} <= set(timed)
    for network in (str(tmp_path / "trial.yaml"), model):  # 64 x 8 signs, 8 x 10 real weights
        *layers, whole = map(json.loads, invoke("summary", network, "--json").stdout.splitlines())
        assert whole["macs"] == {"binary": 512, "integer": 0, "float32": 80}
        assert whole["binary_weights"] == 512
        assert sum(layer["bytes"] for layer in layers) == whole["bytes"]
        assert "512 binary, 80 float32" in invoke("summary", network).stdout
    Image.new("L", (8, 8)).save(tmp_path / "digit.png")
    found = json.loads(invoke("predict", model, str(tmp_path / "digit.png"), "--json").stdout)
    assert len(found["scores"]) == 10
    (tmp_path / "broken.png").write_bytes(b"no image")
    all_of_them = invoke("predict", model, str(tmp_path / "digit.png"), str(tmp_path), "--json")
    assert all_of_them.exit_code == 3
    told = [json.loads(line) for line in all_of_them.stdout.splitlines()]
    assert [each["event"] for each in told].count("predicted") == 2
    assert [Path(each["file"]).name for each in told if each["event"] == "unread"] == ["broken.png"]
    assert "broken.png: expected an image" in all_of_them.stderr


def test_a_shell_completes_commands_and_shipped_files(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "_BNNSEARCH_COMPLETE=bash_complete" in invoke("completion", "bash").stdout
    monkeypatch.setenv("_BNNSEARCH_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_CWORD", "1")
    monkeypatch.setenv("COMP_WORDS", "bnnsearch va")
    assert invoke().stdout.split() == ["plain,validate"]
    monkeypatch.setenv("COMP_CWORD", "2")
    monkeypatch.setenv("COMP_WORDS", "bnnsearch init digits_q")
    assert invoke().stdout.split() == ["plain,digits_quickstart.yaml"]
