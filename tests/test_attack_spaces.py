"""Mutated spaces and `--set` options: each is refused in printable lines, or is right; none hangs or raises else."""

import os
import random
import signal
import warnings
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest
from attacks import tries
from click.testing import CliRunner
from space_mutations import mutated_setting, mutated_space

from bnnsearch.cli import main
from bnnsearch.config.trial import TrialConfig
from bnnsearch.space import Space, SpaceError, load_space

CPU_SECONDS = 30
"""Of one mutation, at most; the largest shipped space takes a tenth of a second."""

SPACES = sorted(Path(__file__).parent.parent.glob("spaces/*.yaml"))

SMALL = """\
version: 1
name: small
objectives: [{metric: val_acc, mode: max}, {metric: bops, mode: min}]
constraints: [{metric: memory_bytes, max: 20000}]
sampler: {name: tpe, startup_trials: 2}
scheduler: {name: asha, grace_epochs: 1}
budget: {trials: 4, wall_time: 1h30m}
resources: {per_trial: {cpu: 1, memory: 1GB}, max_concurrent: 2}
tracking: {uri: "sqlite:///x.db"}
warm_start: []
trial:
  data: {name: digits, batch_size: 64, augment: [shift], val_fraction: 0.2}
  model: {name: mlp, hidden: [64, 64]}
  method:
    type: choice
    branches:
      ste: {}
      bnew: {pretrain_epochs: 1, finetune_epochs: 1}
  optimizer: {name: adam, lr: {type: loguniform, min: 1.0e-3, max: 1.0e-1}}
  plan: {epochs: {type: randint, min: 3, max: 6}}
"""


@contextmanager
def limited_processor_time():
    """Raise TimeoutError in what takes too long, however busy the machine is."""

    def over(number, frame):
        raise TimeoutError(f"more than {CPU_SECONDS} seconds of processor time")

    before = signal.signal(signal.SIGPROF, over)
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def assert_right(space: Space, copy: Path) -> None:
    """The space reads back from what a study keeps of it, and all that Optuna draws from it are configurations."""
    assert all("\n" not in line for line in space.describe())
    copy.write_text(space.text, encoding="utf-8")
    again = load_space(copy)
    assert again.study == space.study
    assert again.trial.defaults() == space.trial.defaults()
    assert again.trial.parameters() == space.trial.parameters() or again.trial.size() == space.trial.size()
    TrialConfig.model_validate(space.trial.defaults())
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(3):
        trial = study.ask()
        drawn = space.trial.sample(trial)
        config = TrialConfig.model_validate(drawn)
        assert space.trial.config_of(trial.params) == drawn
        assert space.trial.config_of(space.trial.params_of(config.model_dump(mode="json"))) == drawn
        study.tell(trial, 0.0)


def attack(path: Path, *overrides: str) -> bool:
    """Load the space; whether it was accepted."""
    try:
        space = load_space(path, overrides=overrides, begins=True)
    except SpaceError as error:
        lines = str(error).split("\n")
        assert len(lines) == len(error.problems)
        assert all(line.isprintable() for line in lines)
        assert all(line.startswith((str(path), "--set ")) for line in lines)
        return False
    assert_right(space, path.with_name("copy.yaml"))
    return True


@pytest.fixture(autouse=True)
def quiet(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def seeded(number: int) -> tuple[random.Random, str]:
    draw = random.Random(number)
    return draw, draw.choice([SMALL, SMALL, *(path.read_text(encoding="utf-8") for path in SPACES)])


@pytest.mark.attack
@pytest.mark.timeout(14_400)
def test_mutated_spaces(tmp_path):
    path, accepted = tmp_path / "space.yaml", 0
    for number in tries(120):
        draw, text = seeded(number)
        path.write_bytes(mutated_space(text, draw))
        try:
            with limited_processor_time():
                accepted += attack(path)
        except Exception as error:
            raise AssertionError(f"mutation {number} of a space: {path.read_bytes()!r}") from error
    assert 0 < accepted <= number


def paths_in(text: str, path: Path) -> list[str]:
    path.write_text(text, encoding="utf-8")
    space = load_space(path)
    named = [parameter.name for parameter in space.trial.parameters()]
    return [
        *space.study.model_dump(), "budget.trials", "budget.wall_time", "resources.per_trial.cpu",
        "resources.per_trial.memory",
        "scheduler.grace_epochs", "sampler.name", "objectives.0.metric", "tracking.uri", "storage.uri", "select.by",
        "trial", "trial.name", "trial.seed", "trial.data", "trial.data.root", "trial.data.batch_size",
        "trial.data.augment",
        "trial.model", "trial.model.name", "trial.model.hidden", "trial.method", "trial.method.name", "trial.optimizer",
        "trial.optimizer.lr", "trial.plan", "trial.plan.epochs", "trial.recu", "trial.precision", "trial.distill",
        *(f"trial.{name}" for name in named),
    ]  # fmt: skip


@pytest.mark.attack
@pytest.mark.timeout(14_400)
def test_mutated_settings(tmp_path):
    path, accepted = tmp_path / "space.yaml", 0
    known: dict[str, list[str]] = {}
    for number in tries(120):
        draw, text = seeded(number)
        names = known.setdefault(text, paths_in(text, path) if text not in known else [])
        path.write_text(text, encoding="utf-8")
        settings = [mutated_setting(names, draw) for _ in range(draw.choice([1, 1, 1, 2]))]
        try:
            with limited_processor_time():
                accepted += attack(path, *settings)
        except Exception as error:
            raise AssertionError(f"mutation {number}: --set {settings!r}") from error
    assert 0 < accepted <= number


@pytest.mark.attack
@pytest.mark.timeout(14_400)
def test_validate_and_run_say_the_same(tmp_path):
    """Through the command line: what `validate` refuses `run` refuses, in the same words."""
    path, refused = tmp_path / "space.yaml", 0
    for number in tries(20, full=500):
        draw, text = seeded(number)
        settings: list[str] = []
        if number % 2:
            path.write_text(text, encoding="utf-8")
            settings = [f"--set={mutated_setting(['name', 'trial.plan.epochs', 'warm_start', 'scheduler'], draw)}"]
        else:
            path.write_bytes(mutated_space(text, draw))
        validated = CliRunner().invoke(main, ["validate", str(path), *settings])
        assert validated.exit_code in (0, 2), validated.exception
        if validated.exit_code == 2:
            refused += 1
            for command in (["run"], ["run", "--dry-run"], ["run", "--executor", "local"]):
                run = CliRunner().invoke(main, [*command, str(path), *settings])
                assert (run.exit_code, run.output) == (2, validated.output)
    assert refused > 0
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("type: loguniform", "type: {a: 1}", "unknown distribution {'a': 1}"),
        ("type: loguniform", "type: [choice]", "unknown distribution ['choice']"),
        ("type: loguniform", "type: true", "unknown distribution true"),
        ("trials: 4", "trials: true", "budget: trials must not be true or false, but got true"),
        ("min: 3, max: 6", "min: true, max: 6", "randint takes whole numbers, but got true"),
        ("batch_size: 64", "batch_size: false", "trial.data: batch_size must not be true or false, but got false"),
        ("[64, 64]", "[64, true]", "trial.model: hidden must not be true or false, but got true"),
        ("version: 1", "version: true", "version must not be true or false, but got true"),
        ("1h30m", "yes", "budget.wall_time: a duration is a number"),
        ("warm_start: []", "warm_start: /dev/zero", "warm_start: must be a list, but got '/dev/zero'"),
        ("warm_start: []", "warm_start: [/dev/zero]", "warm_start.0: must name a configuration or a study's folder"),
        ("warm_start: []", "warm_start: [none.yaml]", "warm_start.0: must name a configuration or a study's folder"),
        ("name: small", 'name: "\\ud800"', "text holds no lone surrogates"),
        ("x.db", "\\0x.db", "text holds no NUL"),
        ('"sqlite:///x.db"', '"\\udcff"', "text holds no lone surrogates"),
        (
            *("grace_epochs: 1", "grace_epochs: 7"),
            "scheduler.grace_epochs: must be at most the epochs of the longest trial, 6",
        ),
        (
            *("asha, grace_epochs: 1", "median, grace_epochs: 100"),
            "scheduler.grace_epochs: must be at most the epochs of the longest trial, 6",
        ),
        ("min: 1.0e-3, max: 1.0e-1", "min: 0, max: 1.0e308, step: 1.0e-300", "at most 1000000000000000 steps"),
    ],
)  # fmt: skip
def test_odd_values_are_refused_where_they_stand(tmp_path, old, new, message):
    assert SMALL.count(old) == 1
    content = SMALL.replace("loguniform", "uniform") if "steps" in message else SMALL
    path = tmp_path / "space.yaml"
    path.write_text(content.replace(old, new))
    line = content[: content.index(old)].count("\n") + 1
    for command in (["validate"], ["run", "--executor", "local"]):
        done = CliRunner().invoke(main, [*command, str(path)])
        assert done.exit_code == 2
        assert any(each.startswith(f"{path}:{line}:") and message in each for each in done.output.splitlines()), (
            done.output
        )


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("name=caf\udce9", "text holds no lone surrogates, nor bytes that are not UTF-8"),
        ("trial.caf\udce9=1", "text holds no lone surrogates, nor bytes that are not UTF-8"),
        ("name=\ud800", "text holds no lone surrogates"),
        ("tracking.uri=/data #1/x.db", "a # at the start or after a space begins a comment in YAML"),
        ("description=#1", "a # at the start or after a space begins a comment in YAML"),
        ("description=[a, #b\n c]", "a # at the start or after a space begins a comment in YAML"),
        ("budget.trials=true", "budget: trials must not be true or false"),
        ("trial.method={type: {a: 1}}", "unknown distribution {'a': 1}"),
        ("warm_start=[/dev/zero]", "warm_start.0: must name a configuration or a study's folder"),
        ("scheduler.grace_epochs=100", "scheduler.grace_epochs: must be at most the epochs of the longest trial, 6"),
    ],
)
def test_odd_settings_are_refused(tmp_path, setting, message):
    path = tmp_path / "space.yaml"
    path.write_text(SMALL)
    for command in (["validate"], ["run", "--executor", "local"]):
        done = CliRunner().invoke(main, [*command, str(path), "--set", setting])
        assert done.exit_code == 2
        assert message in done.output
        assert done.output.startswith("--set ")


def test_a_variable_that_is_no_text_is_refused_where_it_stands(tmp_path, monkeypatch):
    monkeypatch.setenv("BNN_ODD", os.fsdecode(b"/data/caf\xe9"))
    path = tmp_path / "space.yaml"
    path.write_text(SMALL.replace("{name: digits,", "{name: mnist, root: '${BNN_ODD}',"))
    for command in (["validate"], ["run", "--dry-run"], ["run", "--executor", "local"]):
        done = CliRunner().invoke(main, [*command, str(path)])
        assert done.exit_code == 2, done.exception
        assert f"{path}:12:29: BNN_ODD: text holds no lone surrogates, nor bytes that are not UTF-8" in done.output


def test_a_hash_in_quotes_or_within_a_word_is_none_of_these(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text(SMALL)
    for value, read in (("'a #1'", "a #1"), ("a#1", "a#1"), ('"#1"', "#1"), ("'it''s #1'", "it's #1")):
        assert load_space(path, overrides=(f"description={value}",)).study.description == read


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/null", ".", "fifo", "dangling", "loop"])
def test_what_is_no_file_is_no_space(tmp_path, name):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    for command in (["validate"], ["run"], ["train"], ["run", "--dry-run"]):
        done = CliRunner().invoke(main, [*command, name])
        assert done.exit_code == 2, (command, done.output)
        assert "Traceback" not in done.output
        assert done.output.count("\n") <= 4  # click tells how the command is used


def test_more_configurations_than_a_float_can_count(tmp_path):
    path = tmp_path / "space.yaml"
    whole = "{type: randint, min: 0, max: 9007199254740991}"
    path.write_text(SMALL.replace("batch_size: 64", f"batch_size: 64, seed: {whole}") + f"  seed: {whole}\n")
    assert load_space(path).trial.size() is None  # the learning rate is continuous
    path.write_text(path.read_text().replace("{type: loguniform, min: 1.0e-3, max: 1.0e-1}", "1.0e-2"))
    assert load_space(path).trial.size() == 2 * 4 * 2**106
