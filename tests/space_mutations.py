"""Mutations of spaces and of `--set` options, drawn from a seed: of characters, of lines, and of values in the tree."""

import random
import re

TOKENS = [
    "true", "false", "null", "~", "", "0", "-1", "1", "2", "3.5", "1e3", "1e-300", "1e308", "1.0e999", ".nan",
    "-.inf", "0x10", "0o7", "9" * 30, "9" * 60, "-0", "-0.0", "1_000", "01", "[]", "{}", "[[]]", "[1, 2]",
    "[1, true]", "{a: 1}", "[{a: 1}]", "{type: choice}", "{type: {a: 1}}", "{type: [1]}", "{type: true}",
    "{type: choice, values: []}", "{type: choice, values: [1, 1.0, true]}", "{type: choice, values: [[1], [2]]}",
    "{type: choice, values: [{a: 1}, 2]}", "{type: choice, values: [1, 2], default: true}",
    "{type: choice, branches: {a: {}, b: {}}}", "{type: choice, branches: {ste: {}}}",
    "{type: uniform, min: 0, max: 1}", "{type: uniform, min: 1, max: 1}",
    "{type: uniform, min: 0, max: 1, step: 0.1}", "{type: uniform, min: 0, max: 1e308, step: 1e-300}",
    "{type: uniform, min: -1e308, max: 1e308}", "{type: loguniform, min: 1e-320, max: 1e300}",
    "{type: loguniform, min: 0, max: 1}", "{type: randint, min: 1, max: 3}",
    "{type: randint, min: 1, max: 99999999999999999999}", "{type: lograndint, min: 1, max: 9}",
    "{type: randint, min: true, max: 3}", "{type: range, min: 1, max: 3, step: 1}", "{type: range, min: 0, max: 1}",
    "{type: uniform, min: 0, max: 1, default: null}", "{type: quniform, min: 0, max: 1}", "text", "'quoted'",
    '"\\ud800"', '"\\0"', '"\\u202e"', '"\\e[31m"', "/dev/zero", "/dev/stdin", "[/dev/zero]", "['']", '["\\0"]',
    "~/x", "a #b", "#", "&a 1", "*a", "!!int 3", "!x y", "? a", "- 1", "a: b", "|\n  x", ">\n  y", "@", "`", "%",
    "2026-01-01", "12:30:45", "yes", "on", "1h", "1h30m", "-5m", "4GB", "4 gb", "${HOME}", "${NOPE}", "${", "${A:-}",
    "sqlite:///x", "http://u:p@h/", "é", "東京", "\u00a0", "\u2028", "\ufeff", "a" * 300, "val_acc", "min", "max",
    "name", "nsga2", "asha", "grid", "cmaes", "digits", "ste", "mlp",
]  # fmt: skip
KEYS = [
    "name",
    "type",
    "min",
    "max",
    "step",
    "default",
    "values",
    "branches",
    "trial",
    "plan",
    "seed",
    "",
    "a.b",
    "<<",
    "=",
    "é",
    "\\x1b[31m",
]
CHARACTERS = "{}[]:,#&*!|>'\"%@`-? \n\t\\\r0aA.\u00e9\u2028\ufeff\x07\x00\x85"
_SCALAR = re.compile(r"(?<=[:\[{,] )[^\s\[\]{},#]+|(?<=: )[^#\n{\[]+")
_KEY = re.compile(r"[A-Za-z_][\w.-]*(?=:)")


def mutated_space(text: str, draw: random.Random) -> bytes:
    """One to three mutations of a space."""
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        text = draw.choice([_value, _value, _value, _value, _key, _line, _character, _cut, _swap])(text, draw)
    data = text.encode()
    if draw.random() < 0.03:
        at = draw.randrange(len(data) + 1)
        data = data[:at] + bytes([draw.randrange(256)]) + data[at:]
    return data


FITTING = (
    "budget.trials=7",
    "budget.wall_time=2h",
    "resources.per_trial.cpu=2",
    "seed=5",
    "name=other",
    "description=x",
)
"""Options that every shipped space takes: without them hardly any mutation is accepted, and its result looked at."""


def mutated_setting(names: list[str], draw: random.Random) -> str:
    """A `--set` option: mostly the path of a setting with a value that may not fit, now and then one that does."""
    if draw.random() < 0.2:
        return draw.choice(FITTING)
    path = draw.choice(names)
    if draw.random() < 0.15:
        path = draw.choice(
            [f"{path}.{draw.choice(KEYS)}", path.rpartition(".")[0], f".{path}", path.replace(".", "..", 1), path[:-1]]
        )
    value = draw.choice(TOKENS)
    for _ in range(draw.choice([0, 0, 0, 1, 2])):
        at = draw.randrange(len(value) + 1)
        value = value[:at] + draw.choice([*CHARACTERS, "\udce9", "\ud800"]) + value[at:]
    return f"{path}{draw.choice(['=', '=', '=', '=', '= ', '==', '', ' = '])}{value}"


def _value(text: str, draw: random.Random) -> str:
    return _replaced(text, _SCALAR, draw.choice(TOKENS), draw)


def _key(text: str, draw: random.Random) -> str:
    return _replaced(text, _KEY, draw.choice([*KEYS, *_KEY.findall(text)]), draw)


def _replaced(text: str, pattern: re.Pattern[str], new: str, draw: random.Random) -> str:
    found = list(pattern.finditer(text))
    if not found:
        return text + new
    at = draw.choice(found)
    return text[: at.start()] + new + text[at.end() :]


def _line(text: str, draw: random.Random) -> str:
    lines = text.split("\n")
    at = draw.randrange(len(lines))
    way = draw.randrange(4)
    if way == 0:
        del lines[at]
    elif way == 1:
        lines.insert(at, lines[at])
    elif way == 2:
        lines[at] = draw.choice(["  ", " ", "\t"]) + lines[at]
    else:
        lines[at] = lines[at][draw.choice([1, 2]) :]
    return "\n".join(lines)


def _character(text: str, draw: random.Random) -> str:
    at = draw.randrange(len(text) + 1)
    return text[:at] + draw.choice(["", *CHARACTERS]) + text[at + draw.randrange(2) :]


def _cut(text: str, draw: random.Random) -> str:
    return text[: draw.randrange(len(text) + 1)]


def _swap(text: str, draw: random.Random) -> str:
    first, second = (draw.choice(_SCALAR.findall(text) or ["x"]) for _ in range(2))
    return text.replace(first, second, 1)
