"""Space files that are wrong: each says what is, at the line and column where `«` stands in the case."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnnsearch.space import SpaceError, load_space
from bnnsearch.space.check import MAX_PROBLEMS
from bnnsearch.space.reader import MAX_BYTES, read_tree

GOOD = """\
version: 1
name: small
objectives: [{metric: val_acc, mode: max}]
budget: {trials: 4}
trial:
  data: {name: digits}
  model: {name: mlp, hidden: [64]}
  method: {name: ste}
  optimizer:
    name: adam
    lr: {type: loguniform, min: 1.0e-3, max: 1.0e-1}
  plan: {epochs: 6}
"""
HERE = "«"
LR = "lr: {type: loguniform, min: 1.0e-3, max: 1.0e-1}"
METHOD = "method: {name: ste}"


def problems(path: Path, *overrides: str) -> list[str]:
    """The lines of the error, without the file's name."""
    with pytest.raises(SpaceError) as raised:
        load_space(path, overrides=overrides)
    lines = str(raised.value).split("\n")
    assert lines == [str(problem) for problem in raised.value.problems]
    return [line.removeprefix(f"{path}:") for line in lines]


def place(content: str) -> str:
    """Line and column, from 1, of the marker."""
    before = content[: content.index(HERE)]
    return f"{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"


def assert_refused(tmp_path: Path, content: str, message: str) -> None:
    """Loading `content` gives one problem, at its marker, that begins with `message`."""
    assert content.count(HERE) == 1
    path = tmp_path / "space.yaml"
    path.write_bytes(content.replace(HERE, "").encode())
    (problem,) = problems(path)
    assert problem.startswith(f"{place(content)}: {message}")


def edited(old: str, new: str) -> str:
    assert GOOD.count(old) == 1
    return GOOD.replace(old, new)


def test_the_good_space_is_good(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(GOOD)
    assert load_space(path).study.name == "small"


def nested(levels: int) -> str:
    return "{a: " * levels + f"{HERE}{{b: 1}}" + "}" * levels


def bomb() -> str:
    """Five lines that hold more than 100,000 values."""
    tens = ["a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    tens += [f"{new}: &{new} [{', '.join(['*' + old] * 10)}]" for old, new in zip("abcd", "bcde", strict=True)]
    # a to d hold 11, 111, 1111 and 11111 values, aliases written out; the next 11111 are too many.
    return "\n".join(tens).replace("e: &e [*d", f"e: &e [{HERE}*d")


CHAIN = [f"a{n}: &a{n} {{x: *a{n - 1}}}" for n in range(1, 32)]

NOT_YAML = {
    "list without end": (
        edited("[64]}", f"[64{HERE}}}"),
        "not YAML: while parsing a flow sequence: expected ',' or ']'",
    ),
    "value after a value": (f"version: 1\nname: a{HERE}: b\n", "not YAML: mapping values are not allowed here"),
    "tab": (edited("  data", f"{HERE}\tdata"), "indent with spaces, but got a tab"),
    "NUL": (edited("small", f"sm{HERE}\0all"), "text holds no NUL, but got one"),
    "control character": (edited("small", f"sm{HERE}\x07all"), r"text holds no control characters, but got '\x07'"),
    "empty": (HERE, "a space is a mapping of settings, but the file is empty"),
    "only a comment": (f"{HERE}# nothing\n", "a space is a mapping of settings, but the file is empty"),
    "list at root": (f"{HERE}- version: 1\n", "a space is a mapping of settings, but got [{'version': 1}]"),
    "a configuration to train": (
        f"{HERE}data: {{name: digits}}\nmodel: {{name: mlp}}\nmethod: {{name: ste}}\nplan: {{epochs: 1}}\n",
        "this is the configuration of one training run, for `train`; a space has it below `trial`",
    ),
    "text at root": (f"{HERE}hello\n", "a space is a mapping of settings, but got 'hello'"),
    "two documents": (f"{GOOD}{HERE}---\n{GOOD}", "a space is one YAML document, but got a second"),
    "33 levels": (f"a: {nested(31)}", "at most 32 levels may nest, but got more"),
    "a thousand levels": (f"a: {'[' * 31}{HERE}{'[' * 969}", "at most 32 levels may nest, but got more"),
    "levels through aliases": (
        "\n".join(["a0: &a0 {x: 1}", *CHAIN]).replace("*a30", f"{HERE}*a30"),
        "at most 32 levels may nest, but got more",
    ),
    "anchor bomb": (bomb(), "at most 20000 values are read, aliases written out, but got more"),
    "alias of itself": (f"a: &a [{HERE}*a]\n", "an alias repeats an anchored value that is complete, but got *a"),
    "alias of nothing": (f"a: {HERE}*b\n", "an alias repeats an anchored value that is complete, but got *b"),
    "tag": (edited("4}", f"{HERE}!!python/name:os.system 4}}"), "tags are refused, but got 'tag:yaml.org,2002:python/"),
    "harmless tag": (edited("small", f"{HERE}!!str small"), "tags are refused, but got 'tag:yaml.org,2002:str'"),
    "NaN": (edited("1.0e-1", f"{HERE}.nan"), "a number is finite and has at most 40 digits, but got '.nan'"),
    "infinity": (edited("1.0e-1", f"{HERE}-.inf"), "a number is finite and has at most 40 digits, but got '-.inf'"),
    "overflow": (edited("1.0e-1", f"{HERE}1e999"), "a number is finite and has at most 40 digits, but got '1e999'"),
    "number without end": (edited("4}", f"{HERE}{'9' * 5000}}}"), "a number is finite and has at most 40 digits"),
    "duplicate key": (
        edited("name: adam", f"name: adam\n    {HERE}name: sgd"),
        "duplicate key 'name', first in line 10",
    ),
    "key that is no text": (edited("{trials: 4}", f"{{{HERE}1: 4}}"), "a key is text, but got 1"),
    "key that is a list": (edited("{trials: 4}", f"{{{HERE}[1]: 4}}"), "a key is text, but got [1]"),
}

SETTINGS = {
    "unknown key at the top": (
        "budget",
        f"{HERE}descriptoin: x\nbudget",
        "descriptoin: unknown key, did you mean 'description'?",
    ),
    "unknown key in a group": ("epochs", f"{HERE}epoch", "trial.plan.epoch: unknown key, did you mean 'epochs'?"),
    "unknown key below a tag": ("hidden", f"{HERE}hiden", "trial.model.hiden: unknown key, did you mean 'hidden'?"),
    "unknown data set": ("digits", f"{HERE}digit", "trial.data: unknown name 'digit', did you mean 'digits'?"),
    "unknown method": ("ste}", f"{HERE}stee}}", "trial.method: unknown name 'stee', did you mean 'ste'?"),
    "unknown model": ("mlp", f"{HERE}transformer", "trial.model: unknown name 'transformer'"),
    "unknown sampler": (
        *("budget", f"sampler: {{name: {HERE}nsga-2}}\nbudget"),
        "sampler: unknown name 'nsga-2', did you mean 'nsga2'?",
    ),
    "best of many looks beside the last": (
        "plan: {epochs: 6",
        f"plan: {{epochs: 6, keep: {{type: choice, values: [last, {HERE}best]}}",
        "trial.plan.keep: must be the same for all trials, but got 'best' and 'last' at ",
    ),
    "no name": (METHOD, f"{HERE}method: {{}}", "trial.method.name: required, but missing; allowed: ste, "),
    "no budget": ("version: 1\n", f"{HERE}version: 1\n", "budget: required, but missing"),
    "no trial": ("version: 1\n", f"{HERE}version: 1\n", "trial is a mapping of settings, but it is missing"),
    "no data": ("trial:\n  data: {name: digits}\n", f"{HERE}trial:\n", "trial.data: required, but missing"),
    "group that is text": ("{name: ste}", f"{HERE}ste", "trial.method: must be a mapping of settings, but got 'ste'"),
    "group left out": ("plan: {epochs: 6}", f"{HERE}plan:", "trial.plan: must be a mapping of settings, but got null"),
    "wrong version": ("version: 1", f"version: {HERE}2", "version: unknown value 2; allowed: 1"),
    "negative budget": ("4}", f"{HERE}-4}}", "budget.trials: must be greater than or equal to 1, but got -4"),
    "half a trial": ("4}", f"{HERE}4.5}}", "budget.trials: must be a valid integer, but got 4.5"),
    "bad duration": (
        *("4}", f"4, wall_time: {HERE}12x}}"),
        "budget.wall_time: a duration is a number with s, m, h or d, such as 90m or 1h30m, but got '12x'",
    ),
    "duration of nothing": (
        "4}",
        f"4, wall_time: {HERE}0s}}",
        "budget.wall_time: must be greater than 0, but got '0s'",
    ),
    "../ in a name": ("small", f"{HERE}../small", "name: must match pattern '^[A-Za-z0-9]"),
    "no objectives": (
        "[{metric: val_acc, mode: max}]",
        f"{HERE}[]",
        "objectives: must have at least 1 item, but got []",
    ),
    "unknown metric": (
        *("val_acc", f"{HERE}val_accuracy"),
        "objectives.0.metric: unknown value 'val_accuracy', did you mean 'val_acc'? allowed: val_acc, ",
    ),
    "objective twice": (
        *("max}]", f"max}}, {{metric: {HERE}val_acc, mode: min}}]"),
        "objectives.1.metric must be used once, but got val_acc again",
    ),
    "constraint twice": (
        *("budget", f"constraints:\n- {{metric: bops, max: 3}}\n- {{metric: {HERE}bops, max: 4}}\nbudget"),
        "constraints.1.metric must have one max, but got bops again",
    ),
    "constraint without a bound": (
        *("budget", f"constraints: [{HERE}{{metric: bops}}]\nbudget"),
        "constraints.0: a constraint has exactly one of max and min, but bops has neither",
    ),
    "select by what is no objective": (
        *("budget", f"select: {{by: best, metric: {HERE}bops}}\nbudget"),
        "select.metric must be an objective, but got bops; allowed: val_acc",
    ),
    "a metric for the knee": (
        *("budget", f"select: {{metric: {HERE}val_acc}}\nbudget"),
        "select: a metric is for by: best, but got metric val_acc with by: knee",
    ),
    "halving by a static cost": (
        *("val_acc, mode: max}]", f"bops, mode: min}}]\nscheduler: {{name: {HERE}asha}}"),
        "scheduler.name asha needs an objective that training improves, val_acc, but got bops; allowed: none",
    ),
    "constant out of its range": (
        "epochs: 6",
        f"epochs: {HERE}0",
        "trial.plan.epochs: must be greater than or equal to 1",
    ),
    "credentials in a URI": (
        *("budget", f"tracking: {{uri: {HERE}'postgresql://me:secret@db/x'}}\nbudget"),
        "a URI in a file holds no credentials, they come from environment variables, but got 'postgresql://***@db/x'",
    ),
    "variable that is not set": (
        *("{name: digits}", f'{{name: mnist, root: {HERE}"${{BNN_NOT_SET}}/x"}}'),
        "the environment has no variable BNN_NOT_SET; set it, or write ${BNN_NOT_SET:-default}",
    ),
    "variable in no path": (
        *("budget", f'description: {HERE}"${{HOME}}"\nbudget'),
        "${...} stands only in paths, but got '${HOME}'; allowed: ",
    ),
    "variable half written": (
        *("{name: digits}", f'{{name: mnist, root: {HERE}"${{HOME"}}'),
        "a variable is ${VAR} or ${VAR:-default}, but got '${HOME'",
    ),
}

DISTRIBUTIONS = {
    "unknown distribution": (
        "loguniform",
        f"{HERE}loguniforn",
        "unknown distribution 'loguniforn', did you mean 'loguniform'?",
    ),
    "quniform": ("loguniform", f"{HERE}quniform", "type quniform is not known, write uniform with step"),
    "type is no text": ("loguniform", f"{HERE}[1]", "unknown distribution [1]; allowed: choice, uniform, loguniform,"),
    "no type": ("lr: {type: loguniform, ", f"{HERE}lr: {{", "a distribution has a type; allowed: choice, uniform, "),
    "unknown key": (
        "max: 1.0e-1",
        f"{HERE}mx: 1",
        "unknown key 'mx', did you mean 'max'? allowed: type, min, max, step, ",
    ),
    "no max": (LR, f"{HERE}lr: {{type: loguniform, min: 1}}", "loguniform needs max, but has none"),
    "bound is no number": ("1.0e-1", f"{HERE}ten", "loguniform takes numbers, but got 'ten'"),
    "bound is a truth value": ("1.0e-1", f"{HERE}true", "loguniform takes numbers, but got true"),
    "inverted": (
        *("1.0e-3, max: 1.0e-1", f"{HERE}0.1, max: 0.01"),
        "min <= max must hold, but got min 0.1 > max 0.01",
    ),
    "log with 0": ("1.0e-3", f"{HERE}0", "loguniform needs min > 0, but got 0"),
    "log below 0": ("1.0e-3", f"{HERE}-1.0e-3", "loguniform needs min > 0, but got -0.001"),
    "default outside": ("1.0e-1", f"1.0e-1, default: {HERE}1", "default must be in [0.001, 0.1], but got 1"),
    "default off the grid": (
        *(LR, f"lr: {{type: uniform, min: 0.1, max: 0.5, step: 0.1, default: {HERE}0.25}}"),
        "default must be a value of uniform [0.1, 0.5] step 0.1, but got 0.25",
    ),
    "step that does not divide": (
        *(LR, f"lr: {{type: uniform, min: 0.1, max: 0.5, step: {HERE}0.3}}"),
        "max must be min plus a whole number of steps, as both bounds are inclusive, "
        "but got min 0.1, max 0.5, step 0.3",
    ),
    "step of 0": (LR, f"lr: {{type: uniform, min: 0.1, max: 0.5, step: {HERE}0}}", "step > 0 must hold, but got 0"),
    "half numbers for randint": (
        *("epochs: 6", f"epochs: {{type: randint, min: 1, max: {HERE}2.5}}"),
        "randint takes whole numbers, but got 2.5",
    ),
    "whole numbers that no float64 tells from their neighbours": (
        *("epochs: 6", f"epochs: {{type: randint, min: 1, max: {HERE}9007199254740993}}"),
        "randint takes whole numbers up to 9007199254740992, but got 9007199254740993",
    ),
    "real numbers for whole ones": (
        *("epochs: 6", f"epochs: {HERE}{{type: uniform, min: 1, max: 3}}"),
        "trial.plan.epochs: must be a valid integer, but got 1.76",
    ),
    "range with its default the wrong way round": (
        *(LR, f"betas: {{type: range, min: 0.1, max: 0.9, default: {HERE}[0.8, 0.7]}}"),
        "lo <= hi must hold in a range's default, but got [0.8, 0.7]",
    ),
    "range with one default": (
        *(LR, f"betas: {{type: range, min: 0.1, max: 0.9, default: {HERE}0.8}}"),
        "the default of a range is a pair [lo, hi], but got 0.8",
    ),
    "range over what is no pair": (
        *("epochs: 6", f"epochs: {HERE}{{type: range, min: 2, max: 4, step: 1}}"),
        "trial.plan.epochs: must be a valid integer, but got [2, 4]",
    ),
    "lowest value out of the setting's range": (
        *("loguniform, min: 1.0e-3", f"uniform, min: {HERE}-1.0e-3"),
        "trial.optimizer.lr: must be greater than 0, but got -0.001",
    ),
    "highest value out of the setting's range": (
        *("{name: digits}", f"{{name: digits, val_fraction: {{type: uniform, min: 0.1, max: {HERE}1.0}}}}"),
        "trial.data.val_fraction: must be less than 1, but got 1.0",
    ),
    "one value of a choice out of range": (
        *("epochs: 6", f"epochs: {{type: choice, values: [3, {HERE}0]}}"),
        "trial.plan.epochs: must be greater than or equal to 1, but got 0",
    ),
    "deep in a value of a choice": (
        *("[64]", f"{{type: choice, values: [[64], [64, {HERE}-1]]}}"),
        "trial.model.hidden.1: must be greater than or equal to 1, but got -1",
    ),
    "choice of no values": (
        "[64]",
        f"{{type: choice, values: {HERE}[]}}",
        "values must be a list of at least one value",
    ),
    "choice of one word": ("[64]", f"{{type: choice, values: {HERE}a}}", "values must be a list of at least one value"),
    "choice of nothing": (
        *("hidden: [64]", f"{HERE}hidden: {{type: choice}}"),
        "a choice has either values or branches, but got neither",
    ),
    "choice of both": (
        *("hidden: [64]", f"{HERE}hidden: {{type: choice, values: [1], branches: {{a: {{}}}}}}"),
        "a choice has either values or branches, but got both",
    ),
    "choice with a value twice": (
        *("epochs: 6", f"epochs: {{type: choice, values: [3, 4, {HERE}3]}}"),
        "the values of a choice differ, but got 3 twice",
    ),
    "choice of 1 and true": (
        *("epochs: 6", f"epochs: {{type: choice, values: [1, {HERE}true]}}"),
        "the values of a choice differ, but got true twice",
    ),
    "choice with a foreign default": (
        *("epochs: 6", f"epochs: {{type: choice, values: [3, 4], default: {HERE}5}}"),
        "default must be one of [3, 4], but got 5",
    ),
    "empty branches": (
        *(METHOD, f"method: {{type: choice, {HERE}branches: {{}}}}"),
        "branches must be a mapping of at least one branch to its settings, but got {}",
    ),
    "branches as a list": (
        *(METHOD, f"method: {{type: choice, {HERE}branches: [ste]}}"),
        "branches must be a mapping of at least one branch to its settings, but got ['ste']",
    ),
    "branch without a body": (
        *(METHOD, f"method: {{type: choice, branches: {{{HERE}ste: }}}}"),
        "branch ste must be a mapping of settings, {} for none, but got null",
    ),
    "branch with a name of its own": (
        *(METHOD, f"method: {{type: choice, branches: {{ste: {{{HERE}name: ste}}}}}}"),
        "a branch holds settings, and is called by its key, but got 'name' in it",
    ),
    "../ in a branch's name": (
        *(METHOD, f"method: {{type: choice, branches: {{{HERE}../ste: {{}}}}}}"),
        "a branch's name is letters, digits, _ and -, and starts with a letter, but got '../ste'",
    ),
    "unknown branch": (
        *(METHOD, f"method: {{type: choice, branches: {{ste: {{}}, {HERE}bneww: {{}}}}}}"),
        "trial.method: unknown name 'bneww', did you mean 'bnew'?",
    ),
    "unknown key in a branch": (
        *(METHOD, f"method: {{type: choice, branches: {{ste: {{}}, bop: {{{HERE}gama: 1.0e-3}}}}}}"),
        "trial.method.gama: unknown key, did you mean 'gamma'?",
    ),
    "distribution in a list": (
        *("[64]", f"[64, {HERE}{{type: randint, min: 1, max: 2}}]"),
        "a list is a constant and holds no distribution; write a choice whose values are lists, but got type 'randint'",
    ),
    "phases that do not fit": (
        *(METHOD, f"method: {{name: bnew, pretrain_epochs: {HERE}5, finetune_epochs: 1}}"),
        "trial: method.pretrain_epochs + method.finetune_epochs < plan.epochs must hold, but got 5 + 1 >= 6",
    ),
    "a phase that does not always fit": (
        *(
            METHOD,
            f"method: {{name: bnew, pretrain_epochs: {{type: randint, min: 1, max: {HERE}6}}, finetune_epochs: 1}}",
        ),
        "trial: method.pretrain_epochs + method.finetune_epochs < plan.epochs must hold, but got 6 + 1 >= 6",
    ),
}


@pytest.mark.parametrize(("content", "message"), NOT_YAML.values(), ids=NOT_YAML)
def test_what_cannot_be_read(tmp_path: Path, content: str, message: str) -> None:
    assert_refused(tmp_path, content, message)


@pytest.mark.parametrize(("old", "new", "message"), SETTINGS.values(), ids=SETTINGS)
def test_settings_that_are_wrong(tmp_path: Path, old: str, new: str, message: str) -> None:
    content = edited(old, new)
    if message.startswith("budget: required"):
        content = content.replace("budget: {trials: 4}\n", "")
    if message.startswith("trial is"):
        content = content[: content.index("trial:")]
    assert_refused(tmp_path, content, message)


@pytest.mark.parametrize(("old", "new", "message"), DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
def test_distributions_that_are_wrong(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert_refused(tmp_path, edited(old, new), message)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (GOOD.encode().replace(b"small", b"sm\xff"), "2:9: the text must be UTF-8, but got byte 0xff"),
        (GOOD.encode("utf-16"), "1:1: the text must be UTF-8, but got byte 0xff"),
        (b"#" * (MAX_BYTES + 1), " at most 1048576 bytes are read, but got 1048577"),
    ],
)
def test_bytes_that_are_no_text(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "space.yaml"
    path.write_bytes(content)
    assert problems(path) == [expected]


def test_a_rule_that_several_settings_break_only_together(tmp_path: Path) -> None:
    """Each alone at its extreme is fine beside the defaults of the others; 3 + 3 >= 6 is not."""
    path = tmp_path / "space.yaml"
    phase = "{type: randint, min: 1, max: 3, default: 1}"
    path.write_text(edited(METHOD, f"method: {{name: bnew, pretrain_epochs: {phase}, finetune_epochs: {phase}}}"))
    (problem,) = problems(path)
    assert problem.endswith("method.finetune_epochs < plan.epochs must hold, but got 3 + 3 >= 6")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("budget.trials=-1", "--set budget.trials=-1: budget.trials: must be greater than or equal to 1, but got -1"),
        ("trial.plan.epoch=3", "--set trial.plan.epoch=3: trial.plan.epoch: unknown key, did you mean 'epochs'?"),
        ("http://me:secret@host", "--set http://***@host: write --set dotted.path=value, but got 'http://***@host'"),
        ("budget=http://me:secret@h", "--set budget=http://***@h: a URI in a file"),
        ("budget", "--set budget: write --set dotted.path=value, but got 'budget'"),
        ("=3", "--set =3: write --set dotted.path=value, but got '=3'"),
        ("budget..trials=3", "--set budget..trials=3: write --set dotted.path=value, but got"),
        ("name.first=a", "--set name.first=a: the path leads through mappings, but 'first' would stand in a value"),
        ("trial.model.hidden=[64", "--set trial.model.hidden=[64:1:4: not YAML: "),
        (
            "trial.optimizer.lr.default=1",
            "--set trial.optimizer.lr.default=1: default must be in [0.001, 0.1], but got 1",
        ),
        (
            "tracking.uri=http://me:secret@host",
            "--set tracking.uri=http://***@host: a URI in a file holds no credentials",
        ),
    ],
)
def test_options_that_are_wrong(tmp_path: Path, override: str, expected: str) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(GOOD)
    problem, *others = problems(path, override)
    assert problem.startswith(expected)
    assert "secret" not in "".join([problem, *others])


def test_every_problem_is_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    content = (
        GOOD.replace("small", "a/b")
        .replace("trials: 4", "trials: 0")
        .replace("digits", "digit")
        .replace("min: 1.0e-3", "min: 0")
        .replace("epochs: 6", "epochs: {type: quniform}, dtyp: float32")
    )
    path = tmp_path / "space.yaml"
    path.write_text(content)
    assert [line.split(" ")[0] for line in problems(path)] == ["2:7:", "4:18:", "6:16:", "11:33:", "12:25:", "12:36:"]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert problems(tmp_path / "none.yaml") == [" cannot be read: No such file or directory"]
    assert problems(tmp_path) == [" cannot be read: a folder, not a file"]


def test_of_a_file_full_of_mistakes_the_first_are_told(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(GOOD + "".join(f"  x{n}: {{type: randint, min: 1, max: 2}}\n" for n in range(10 * MAX_PROBLEMS)))
    assert len(problems(path)) == MAX_PROBLEMS


@given(st.binary(max_size=60) | st.text("{}[]:,-&*!|>'\"# ab1.\n\t", max_size=40).map(str.encode))
def test_no_bytes_give_anything_but_a_tree_or_a_space_error(content: bytes) -> None:
    with contextlib.suppress(SpaceError):
        read_tree(content, "any.yaml")


@given(st.integers(0, len(GOOD)), st.integers(0, 12), st.text("{}[]:,-&*!'# abtype1.\n", max_size=6))
def test_no_slip_of_the_pen_gives_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, start: int, cut: int, typed: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "slip.yaml"
    path.write_text(GOOD[:start] + typed + GOOD[start + cut :])
    with contextlib.suppress(SpaceError):
        load_space(path).trial.defaults()
