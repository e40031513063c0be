"""Spaces: every distribution, sampling and its inverse, options and variables, and how fast a space is checked."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnnsearch.config.trial import TrialConfig
from bnnsearch.space import SearchSpace, Space, SpaceError, load_space
from bnnsearch.space.parser import Parser
from bnnsearch.space.reader import read_tree
from bnnsearch.space.tree import Scalar
from bnnsearch.space.writer import write_yaml

SPACES = Path(__file__).parent.parent / "spaces"

HEAD = """
version: 1
name: small
objectives: [{metric: val_acc, mode: max}]
budget: {trials: 4}
"""

EVERYTHING = (
    HEAD
    + """
trial:
  data: {name: digits, batch_size: {type: lograndint, min: 16, max: 256, step: 16, default: 64}}
  model:
    name: mlp
    hidden: {type: choice, values: [[64], [128, 64], [256]], default: [128, 64]}
    activation: {type: choice, values: [hardtanh, rprelu]}
    shift: {type: uniform, min: -0.3, max: 0.3, step: 0.1, default: 0.0}
  method:
    type: choice
    default: ste
    branches:
      bnew:
        pretrain_epochs: {type: randint, min: 2, max: 6, step: 2}
        finetune_epochs: 2
        lambda_rate: {type: loguniform, min: 1.0e-3, max: 1.0, default: 0.01}
      ste: {}
  optimizer:
    type: choice
    branches:
      adam:
        lr: {type: loguniform, min: 1.0e-4, max: 1.0e-1}
        betas: {type: range, min: 0.5, max: 0.999, default: [0.9, 0.99]}
      sgd:
        lr: 0.1
        momentum: {type: uniform, min: 0.0, max: 0.9}
        nesterov: {type: choice, values: [false, true]}
  plan:
    epochs: {type: randint, min: 9, max: 20}
    schedule: {type: choice, values: [{name: linear}, {name: cosine}]}
"""
)

ROOTED = (
    HEAD
    + """
trial:
  type: choice
  branches:
    plain:
      data: {name: digits}
      model: {name: mlp, hidden: [64]}
      method: {name: ste}
      plan: {epochs: {type: randint, min: 1, max: 4}}
    phased:
      data: {name: digits}
      model: {name: mlp, hidden: [32]}
      method: {name: bnew, pretrain_epochs: 2, finetune_epochs: 1}
      plan: {epochs: 6}
"""
)


class Dice:
    """Suggests at random, with a good share of both bounds, and keeps what it was asked for and said."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.said: dict[str, Scalar] = {}

    def _say(self, name: str, value: Any) -> Any:
        assert name not in self.said, f"{name} asked for twice"
        self.said[name] = value
        return value

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        edge = self._random.choice([low, high, None, None])
        if edge is not None:
            return self._say(name, edge)
        if step is not None:
            return self._say(name, low + step * self._random.randint(0, round((high - low) / step)))
        if log:
            return self._say(name, math.exp(self._random.uniform(math.log(low), math.log(high))))
        return self._say(name, self._random.uniform(low, high))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        assert not (log and step != 1), "Optuna refuses both"
        return self._say(name, self._random.choice([low, high, self._random.randrange(low, high + 1, step)]))

    def suggest_categorical(self, name: str, choices: Sequence[Scalar]) -> Scalar:
        assert all(isinstance(choice, str | int | float | None) for choice in choices)
        return self._say(name, self._random.choice(choices))


class Edge(Dice):
    """Suggests always one end."""

    def __init__(self, pick: Callable[[float, float], float]) -> None:
        super().__init__(0)
        self._pick = pick

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return self._say(name, self._pick(low, high))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return self._say(name, self._pick(low, high))


def leaf(text: str) -> SearchSpace:
    """The space of a lone setting `x`."""
    parser = Parser()
    node = parser.node(read_tree(f"x: {text}".encode(), "lone.yaml"))
    if parser.problems:
        raise SpaceError(parser.problems)
    return SearchSpace(node)


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Space]:
    def load(text: str, *overrides: str) -> Space:
        path = tmp_path / "space.yaml"
        path.write_text(text, encoding="utf-8")
        return load_space(path, overrides=overrides)

    return load


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> SearchSpace:
    path = tmp_path_factory.mktemp("spaces") / "everything.yaml"
    path.write_text(EVERYTHING, encoding="utf-8")
    return load_space(path).trial


@pytest.mark.parametrize(
    ("text", "default", "size", "lowest", "highest"),
    [
        ("{type: uniform, min: -1, max: 3}", 1.0, None, -1.0, 3.0),
        ("{type: uniform, min: 0.1, max: 0.7, step: 0.2}", 0.3, 4, 0.1, 0.7),
        ("{type: uniform, min: 0, max: 1, default: 0.25}", 0.25, None, 0.0, 1.0),
        ("{type: loguniform, min: 0.01, max: 1}", 0.1, None, 0.01, 1.0),
        ("{type: loguniform, min: 0.5, max: 8, step: 0.5}", 2.0, 16, 0.5, 8.0),
        ("{type: randint, min: 2, max: 5}", 4, 4, 2, 5),
        ("{type: randint, min: 10, max: 40, step: 15, default: 40}", 40, 3, 10, 40),
        ("{type: lograndint, min: 1, max: 100}", 10, 100, 1, 100),
        ("{type: lograndint, min: 8, max: 64, step: 8}", 24, 8, 8, 64),
        # 3, 5, 7 make six ordered pairs
        ("{type: range, min: 3, max: 7, step: 2}", [3, 7], 6, [3, 3], [7, 7]),
        ("{type: range, min: 0.8, max: 1.0, default: [0.9, 0.95]}", [0.9, 0.95], None, [0.8, 0.8], [1.0, 1.0]),
        ("{type: range, min: 0.0, max: 0.3, step: 0.1}", [0.0, 0.3], 10, [0.0, 0.0], [0.3, 0.3]),
    ],
)
def test_a_number_has_a_default_a_size_and_inclusive_bounds(
    text: str, default: object, size: int | None, lowest: object, highest: object
) -> None:
    space = leaf(text)
    assert space.defaults() == {"x": pytest.approx(default, rel=1e-12)}
    assert space.size() == size
    assert space.sample(Edge(min)) == {"x": lowest}
    assert space.sample(Edge(max)) == {"x": highest}


def test_whole_numbers_stay_whole_and_decimals_exact() -> None:
    assert type(leaf("{type: lograndint, min: 8, max: 64, step: 8}").sample(Dice(3))["x"]) is int
    drawn = {leaf("{type: uniform, min: 0.1, max: 0.9, step: 0.1}").sample(Dice(seed))["x"] for seed in range(300)}
    assert drawn == {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9}


def test_a_choice_of_what_is_not_scalar_is_drawn_by_its_json_text() -> None:
    space = leaf("{type: choice, values: [[1, 2], '[1,2]', {a: 1}, 3]}")
    (parameter,) = space.parameters()
    assert parameter.distribution.describe() == 'choice of [1,2], "[1,2]", {"a":1}, 3'
    drawn = {}
    for seed in range(60):
        dice = Dice(seed)
        value = space.sample(dice)["x"]
        drawn[dice.said["x"]] = value
    assert drawn == {"[1,2]": [1, 2], '"[1,2]"': "[1,2]", '{"a":1}': {"a": 1}, "3": 3}


def test_a_choice_of_scalars_is_drawn_as_it_is() -> None:
    space = leaf("{type: choice, values: [null, true, 2.5, text]}")
    seen = [space.sample(dice)["x"] for dice in map(Dice, range(60))]
    assert {None, True, 2.5, "text"} == set(seen)


numbers = st.integers(-500, 500)


@given(numbers, st.integers(0, 40), st.integers(1, 50), st.integers(0, 2**32))
def test_steps_lie_on_the_grid_as_written(low: int, steps: int, step: int, seed: int) -> None:
    # hundredths, written as decimals, so that floating point is what is tested
    first, last = Fraction(low, 100), Fraction(low + steps * step, 100)
    text = f"{{type: uniform, min: {float(first)}, max: {float(last)}, step: {step / 100}}}"
    value = leaf(text).sample(Dice(seed))["x"]
    taken = (Fraction(str(value)) - first) / Fraction(step, 100)
    assert taken.denominator == 1
    assert 0 <= taken <= steps


@given(numbers, st.integers(0, 400), st.integers(0, 2**32), st.sampled_from(["uniform", "randint"]))
def test_draws_stay_within_bounds(low: int, extent: int, seed: int, kind: str) -> None:
    value = leaf(f"{{type: {kind}, min: {low}, max: {low + extent}}}").sample(Dice(seed))["x"]
    assert low <= value <= low + extent
    assert isinstance(value, int if kind == "randint" else float)


@given(st.integers(1, 500), st.integers(0, 400), st.integers(0, 2**32), st.sampled_from(["loguniform", "lograndint"]))
def test_logarithmic_draws_stay_within_bounds(low: int, extent: int, seed: int, kind: str) -> None:
    value = leaf(f"{{type: {kind}, min: {low}, max: {low + extent}}}").sample(Dice(seed))["x"]
    assert low <= value <= low + extent


@given(numbers, st.integers(0, 30), st.integers(1, 9), st.integers(0, 2**32))
def test_a_range_is_ordered_and_each_end_is_a_draw(low: int, steps: int, step: int, seed: int) -> None:
    dice = Dice(seed)
    lo, hi = leaf(f"{{type: range, min: {low}, max: {low + steps * step}, step: {step}}}").sample(dice)["x"]
    assert low <= lo <= hi <= low + steps * step
    assert sorted([dice.said["x.lo"], dice.said["x.hi"]]) == [lo, hi]


@given(st.integers(0, 2**32))
def test_a_draw_is_valid_and_asks_only_for_the_branches_taken(everything: SearchSpace, seed: int) -> None:
    dice = Dice(seed)
    config = everything.sample(dice)
    TrialConfig.model_validate(config)
    assert dice.said["method"] == config["method"]["name"]
    present = {
        parameter.name
        for parameter in everything.parameters()
        if all(dice.said.get(name) == branch for name, branch in parameter.condition.items())
    }
    pairs = {name for name in present if name.endswith("betas")}
    assert set(dice.said) == present - pairs | {f"{name}{end}" for name in pairs for end in (".lo", ".hi")}


@given(st.integers(0, 2**32))
def test_params_of_is_the_inverse_of_sample(everything: SearchSpace, seed: int) -> None:
    config = everything.sample(Dice(seed))
    params = everything.params_of(config)
    assert everything.config_of(params) == config
    # as `best.yaml` holds it: every default written out, and the seed of that trial
    written = TrialConfig.model_validate({**config, "seed": 7}).model_dump(mode="json")
    assert everything.params_of(written) == params


@given(st.integers(0, 2**32))
def test_optuna_draws_the_parameters_that_params_of_finds(everything: SearchSpace, seed: int) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed % 1000))
    trial = study.ask()
    config = everything.sample(trial)
    TrialConfig.model_validate(config)
    params = everything.params_of(config)
    assert params.keys() == trial.params.keys()
    repeated = optuna.create_study()
    repeated.enqueue_trial(params)
    assert everything.sample(repeated.ask()) == config


def test_names_are_dotted_paths_with_the_branch_in_them(everything: SearchSpace) -> None:
    names = {parameter.name: dict(parameter.condition) for parameter in everything.parameters()}
    assert names["method.bnew.lambda_rate"] == {"method": "bnew"}
    assert names["optimizer.adam.lr"] == {"optimizer": "adam"}
    assert names["optimizer"] == {}
    assert names["plan.epochs"] == {}


def test_defaults_are_the_given_ones(everything: SearchSpace) -> None:
    assert everything.defaults() == {
        "data": {"name": "digits", "batch_size": 64},
        "model": {"name": "mlp", "hidden": [128, 64], "activation": "hardtanh", "shift": 0.0},
        "method": {"name": "ste"},
        "optimizer": {"name": "adam", "lr": pytest.approx(10**-2.5), "betas": [0.9, 0.99]},
        "plan": {"epochs": 14, "schedule": {"name": "linear"}},
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"data": {"name": "digits", "batch_size": 512}},
            "batch_size must be in lograndint [16, 256] step 16, but got 512",
        ),
        (
            {"data": {"name": "digits", "batch_size": 40}},
            "batch_size must be in lograndint [16, 256] step 16, but got 40",
        ),
        ({"data": {"name": "digits", "batch_size": 64, "seed": 5}}, "data.seed is 0 in the space, but got 5"),
        ({"method": {"name": "bop"}}, "method.name must be one of bnew, ste, but got 'bop'"),
        ({"optimizer": {"name": "sgd", "lr": 0.2}}, "optimizer.lr is 0.1 in the space, but got 0.2"),
        ({"plan": {"epochs": 10, "schedule": {"name": "constant"}}}, "plan.schedule must be in choice of"),
        ({"model": {"name": "mlp", "hidden": [64, 64]}}, "model.hidden must be in choice of [64], [128,64], [256]"),
    ],
)
def test_params_of_refuses_what_lies_outside(everything: SearchSpace, change: dict[str, Any], message: str) -> None:
    inside = everything.defaults()
    with pytest.raises(ValueError) as raised:
        everything.params_of({**inside, **change})
    assert message in str(raised.value)


def test_params_of_knows_a_value_by_what_it_means(load: Callable[..., Space]) -> None:
    """A short name, and a mapping that leaves defaults out, are written out in `best.yaml`."""
    augment = "{type: choice, values: [[], [crop, flip], [{name: crop, padding: 2}]]}"
    space = load(EVERYTHING, f"trial.data.augment={augment}").trial
    for wanted in ([], ["crop", "flip"], [{"name": "crop", "padding": 2}]):
        config = {**space.defaults(), "data": {"name": "digits", "batch_size": 64, "augment": wanted}}
        written = TrialConfig.model_validate(config).model_dump(mode="json")
        params = space.params_of(written)
        assert TrialConfig.model_validate(space.config_of(params)) == TrialConfig.model_validate(config)


def test_branches_at_the_root_become_the_name_of_the_trial(load: Callable[..., Space]) -> None:
    space = load(ROOTED).trial
    assert space.size() == 5
    assert {parameter.name: dict(parameter.condition) for parameter in space.parameters()} == {
        "trial": {},
        "plain.plan.epochs": {"trial": "plain"},
    }
    for seed in range(20):
        dice = Dice(seed)
        config = space.sample(dice)
        assert TrialConfig.model_validate(config).name == dice.said["trial"]
        assert space.params_of(config) == dice.said


def test_size_multiplies_groups_and_adds_branches(load: Callable[..., Space]) -> None:
    text = HEAD + (
        "trial:\n"
        "  data: {name: digits, batch_size: {type: choice, values: [16, 32, 64]}}\n"
        "  model: {name: mlp, hidden: [8]}\n"
        "  method:\n"
        "    type: choice\n"
        "    branches:\n"
        "      ste: {clip: {type: choice, values: [true, false]}}\n"
        "      bnew: {pretrain_epochs: {type: randint, min: 1, max: 5}, finetune_epochs: 1}\n"
    )
    assert load(text).trial.size() == 3 * (2 + 5)


def test_options_replace_and_add(load: Callable[..., Space]) -> None:
    space = load(
        EVERYTHING,
        "budget.trials=9",
        "budget.wall_time=1h30m",
        "trial.method.bnew.finetune_epochs=1",
        "trial.data.seed=3",
    )
    assert (space.study.budget.trials, space.study.budget.wall_time) == (9, 5400.0)
    config = next(
        config for config in map(space.trial.sample, map(Dice, range(20))) if config["method"]["name"] == "bnew"
    )
    assert config["method"]["finetune_epochs"] == 1
    assert config["data"]["seed"] == 3


def test_options_can_fix_what_was_searched(load: Callable[..., Space]) -> None:
    space = load(EVERYTHING, "trial.method={name: ste}", "trial.model.hidden=[32]")
    assert "method" not in {parameter.name for parameter in space.trial.parameters()}
    assert space.trial.defaults()["model"]["hidden"] == [32]


def test_the_text_of_a_space_with_options_loads_to_the_same_space(load: Callable[..., Space]) -> None:
    space = load(EVERYTHING, "budget.trials=9", "name=other")
    again = load(space.text)
    assert again.study == space.study
    assert [again.trial.sample(Dice(seed)) for seed in range(9)] == [
        space.trial.sample(Dice(seed)) for seed in range(9)
    ]


def test_the_text_of_a_space_without_options_is_the_file(load: Callable[..., Space]) -> None:
    assert load(EVERYTHING).text == EVERYTHING


plain_text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
scalars = st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.recursive(scalars | plain_text, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(plain_text, inner))
)
def test_written_yaml_reads_back(value: object) -> None:
    assert read_tree(write_yaml({"x": value}).encode(), "value.yaml").plain == {"x": value}


def test_yaml_is_read_by_version_1_2() -> None:
    text = b"[1e-4, 1.5E3, 0x1F, 0o17, 017, on, No, 2001-01-01, 1_000, '1', ~, null, TRUE, -.5, 12:30]"
    assert read_tree(text, "x").plain == [
        *(1e-4, 1500.0, 31, 15, 17, "on", "No", "2001-01-01", "1_000", "1", None, None, True, -0.5, "12:30")
    ]


def test_an_alias_repeats_its_anchor(load: Callable[..., Space]) -> None:
    text = ROOTED.replace("phased:\n      data: {name: digits}", "phased:\n      data: *digits")
    text = text.replace("data: {name: digits}", "data: &digits {name: digits, batch_size: 32}", 1)
    config = load(text, "trial.default=phased").trial.defaults()
    assert config["data"] == {"name": "digits", "batch_size": 32}


def test_variables_fill_paths(load: Callable[..., Space], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMEWHERE", "/data")
    monkeypatch.delenv("NOWHERE", raising=False)
    text = HEAD + (
        "trial:\n"
        '  data: {name: mnist, root: "${SOMEWHERE}/mnist/${NOWHERE:-here}"}\n'
        "  model: {name: mlp, hidden: [8]}\n"
        "  method: {name: ste}\n"
    )
    space = load(text)
    assert space.trial.defaults()["data"]["root"] == "/data/mnist/here"
    assert "${SOMEWHERE}" in load(text, "budget.trials=5").text


def test_credentials_may_come_from_the_environment(load: Callable[..., Space], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE", "postgresql://me:secret@db/mlflow")
    space = load(EVERYTHING, "tracking.uri=${STORE}")
    assert space.study.tracking.uri == "postgresql://me:secret@db/mlflow"
    assert "secret" not in space.text


def test_describe_says_the_size_and_every_parameter(load: Callable[..., Space]) -> None:
    lines = load(ROOTED).describe()
    assert lines[1:] == [
        "study small: val_acc max; auto sampler, scheduler none, 4 trials",
        "space: 2 parameters, 5 configurations",
        "  trial              choice of plain, phased, 2 values",
        "  plain.plan.epochs  randint [1, 4], 4 values, where trial is plain",
    ]


@pytest.mark.parametrize("path", sorted(SPACES.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_spaces_are_valid_and_say_where_their_schema_is(path: Path) -> None:
    space = load_space(path)
    assert space.text.startswith("# yaml-language-server: $schema=schema.json\n")
    for seed in range(50):
        TrialConfig.model_validate(space.trial.sample(Dice(seed)))


def test_the_quickstart_searches_methods_optimizers_and_layers() -> None:
    space = load_space(SPACES / "digits_quickstart.yaml")
    parameters = {parameter.name: parameter.distribution for parameter in space.trial.parameters()}
    assert {tree.plain for tree in parameters["method"].extremes()} >= {"ste", "bnew"}
    assert {tree.plain for tree in parameters["optimizer"].extremes()} >= {"adam", "sgd"}
    assert "model.hidden" in parameters
    assert space.study.budget.trials >= 12


def test_checking_a_space_needs_no_heavy_package() -> None:
    program = (
        "import sys\n"
        "from bnnsearch.space import load_space\n"
        f"load_space({str(SPACES / 'digits_quickstart.yaml')!r}).describe()\n"
        "heavy = {'torch', 'torchvision', 'ray', 'mlflow', 'optuna', 'deap', 'numba', 'numpy', 'sklearn'}\n"
        "sys.exit(', '.join(sorted(heavy & sys.modules.keys())) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stderr
