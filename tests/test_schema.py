"""The JSON Schema of spaces: current, accepts every shipped space, refuses what an editor can see to be wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from test_bad_spaces import DISTRIBUTIONS, GOOD, HERE, SETTINGS, edited
from test_space import EVERYTHING, ROOTED

from bnnsearch.schema import space_schema
from bnnsearch.space.reader import read_tree

SPACES = Path(__file__).parent.parent / "spaces"

BEYOND_A_SCHEMA = {
    "best of many looks beside the last",
    "objective twice",
    "constraint twice",
    "constraint without a bound",
    "select by what is no objective",
    "a metric for the knee",
    "halving by a static cost",
    "duration of nothing",
    "credentials in a URI",
    "variable that is not set",
    "variable in no path",
    "variable half written",
    "inverted",
    "default outside",
    "default off the grid",
    "step that does not divide",
    "log with 0",
    "log below 0",
    "range with its default the wrong way round",
    "lowest value out of the setting's range",
    "highest value out of the setting's range",
    "choice with a foreign default",
    "phases that do not fit",
    "a phase that does not always fit",
}
"""Cases of `test_bad_spaces` whose rules join several values, or look outside the file."""


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = space_schema()
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def plain(text: str) -> Any:
    return read_tree(text.encode(), "space.yaml").plain


def test_the_committed_schema_is_current() -> None:
    """If this fails: `bnnsearch schema > spaces/schema.json`."""
    assert json.loads((SPACES / "schema.json").read_text(encoding="utf-8")) == space_schema()


@pytest.mark.parametrize("path", sorted(SPACES.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_spaces_are_accepted(validator: Draft202012Validator, path: Path) -> None:
    assert list(validator.iter_errors(plain(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize("text", [GOOD, EVERYTHING, ROOTED], ids=["good", "everything", "rooted"])
def test_good_spaces_are_accepted(validator: Draft202012Validator, text: str) -> None:
    assert list(validator.iter_errors(plain(text))) == []


@pytest.mark.parametrize("case", [*SETTINGS, *DISTRIBUTIONS])
def test_bad_spaces_are_refused(validator: Draft202012Validator, case: str) -> None:
    old, new, message = {**SETTINGS, **DISTRIBUTIONS}[case]
    document = plain(edited(old, new).replace(HERE, ""))
    if message.startswith("budget: required"):
        del document["budget"]
    if message.startswith("trial is"):
        del document["trial"]
    assert validator.is_valid(document) == (case in BEYOND_A_SCHEMA)


def test_a_distribution_may_stand_wherever_a_setting_may(validator: Draft202012Validator) -> None:
    document = plain(GOOD)
    document["trial"]["plan"] = {"type": "choice", "values": [{"epochs": 3}, {"epochs": 4}]}
    document["trial"]["recu"] = {"tau": {"type": "range", "min": 0.8, "max": 0.99}}
    assert validator.is_valid(document)
    document["trial"]["plan"]["values"][0]["epochs"] = 0
    assert not validator.is_valid(document)


def test_no_settings_class_has_a_key_that_marks_distributions() -> None:
    """Groups and distributions are told apart by `type`."""
    groups = [group for name, group in space_schema()["$defs"].items() if name.startswith("searched.")]
    assert groups
    assert all("type" not in group["properties"] for group in groups)
