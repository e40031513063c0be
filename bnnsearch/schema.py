"""The JSON Schema (draft 2020-12) of space files, for editors; made from the settings classes, so never behind them.

In `trial`, wherever a setting stands, a distribution over it may stand. A settings class has three definitions: `X`,
plain values; `searched.X`, with distributions; `branch.X`, the same as a branch, whose name is its key. Settings with
equal values share the definition `X.setting` of the first. Groups and distributions exclude each other: every
distribution has the key `type`, no settings class has it, and all are closed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from bnnsearch.config.families import TRAINERS
from bnnsearch.config.study import StudyConfig
from bnnsearch.config.trial import OwnTrialConfig, TrialConfig
from bnnsearch.space.parser import MAX_WHOLE
from bnnsearch.space.prior import CONFIDENCES

Schema = dict[str, Any]

_DEFINITION = "#/$defs/"
_NOTES = ("default", "description")


def space_schema() -> Schema:
    """The schema of a space file: what it refuses is invalid; what it accepts may break a rule that joins settings."""
    study = _untitled(StudyConfig.model_json_schema())
    kinds: list[type[BaseModel]] = [TrialConfig, *([OwnTrialConfig] if TRAINERS.names() else [])]
    trials = {kind.__name__: _untitled(kind.model_json_schema()) for kind in kinds}
    plain: dict[str, Schema] = {}
    for trial in trials.values():
        plain |= trial.pop("$defs")
        trial["properties"].pop("use")  # a space says it beside `trial`
    definitions = {name: _named(schema) for name, schema in {**plain, **study.pop("$defs")}.items()}
    definitions |= {
        "real": _number("uniform", "loguniform"),
        "whole": _number("randint", "lograndint"),
        "range": _range(),
    }
    shared: dict[str, str] = {}
    for name, schema in {**plain, **trials}.items():
        settings: dict[str, Schema] = {}
        for key, setting in schema["properties"].items():
            values = {part: rule for part, rule in setting.items() if part not in _NOTES}
            target = shared.setdefault(json.dumps(values), f"{name}.{key}")
            definitions.setdefault(target, _searched(values))
            settings[key] = {**{note: setting[note] for note in _NOTES if note in setting}, **_reference(target)}
        group = {**_named(schema), "properties": settings}
        definitions[f"searched.{name}"] = group
        if "name" in settings:
            definitions[f"branch.{name}"] = _branch(group)
    branches = [_reference(f"branch.{name}") for name in trials]
    root = _choice(branches={"additionalProperties": branches[0] if len(branches) == 1 else {"anyOf": branches}})
    whole = [_reference(f"searched.{name}") for name in trials]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "bnnsearch space",
        "type": "object",
        "properties": {**study["properties"], "trial": {"anyOf": [*whole, root]}},
        "required": [*study["required"], "trial"],
        "additionalProperties": False,
        "$defs": definitions,
    }


def _untitled(schema: Any) -> Any:
    """The schema without pydantic's titles, which only repeat the names of settings."""
    if isinstance(schema, dict):
        return {key: _untitled(part) for key, part in schema.items() if key != "title" or not isinstance(part, str)}
    return [_untitled(part) for part in schema] if isinstance(schema, list) else schema


def _searched(values: Schema) -> Schema:
    """A setting's values, or a distribution over them."""
    alternatives: list[Schema] = []
    for variant in values.get("anyOf", [values]):
        alternatives += _searched_variant(variant)
    return {"anyOf": [*alternatives, _choice(values=values)]}


def _searched_variant(variant: Schema) -> list[Schema]:
    """One kind of value that a setting may have, and the distributions that only this kind has."""
    if "$ref" in variant:
        return [_reference(f"searched.{_name(variant)}")]
    if "oneOf" in variant:
        tags: Mapping[str, str] = variant["discriminator"]["mapping"]
        branches = {tag: _reference(f"branch.{_name({'$ref': target})}") for tag, target in tags.items()}
        groups = [_reference(f"searched.{_name(member)}") for member in variant["oneOf"]]
        return [*groups, _choice(branches={"properties": branches, "additionalProperties": False})]
    if variant.get("type") == "number":
        return [variant, _reference("real"), _reference("whole")]
    if variant.get("type") == "integer":
        return [variant, _reference("whole")]
    if len(variant.get("prefixItems", ())) == 2:
        return [variant, _reference("range")]
    return [variant]


def _named(schema: Schema) -> Schema:
    """The members of a union are told apart by their names, so a name that is fixed must be there."""
    fixed = ["name"] if "const" in schema["properties"].get("name", {}) else []
    return {**schema, "required": [*fixed, *schema.get("required", ())]}


def _branch(group: Schema) -> Schema:
    properties = {key: setting for key, setting in group["properties"].items() if key != "name"}
    return {**group, "properties": properties, "required": [key for key in group["required"] if key != "name"]}


def _distribution(types: Sequence[str], properties: Mapping[str, Schema], required: Sequence[str]) -> Schema:
    return {
        "type": "object",
        "properties": {"type": {"enum": list(types)}, **properties},
        "required": ["type", *required],
        "additionalProperties": False,
    }


def _choice(*, values: Schema | None = None, branches: Schema | None = None) -> Schema:
    if values is not None:
        listed = {"type": "array", "items": values, "minItems": 1, "uniqueItems": True}
        return _distribution(["choice"], {"values": listed, "default": {}, "prior": _prior({})}, ["values"])
    names = {"pattern": r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$"}
    mapping = {"type": "object", "minProperties": 1, "propertyNames": names, **(branches or {})}
    name: Schema = {"type": "string"}
    return _distribution(["choice"], {"branches": mapping, "default": name, "prior": _prior(name)}, ["branches"])


def _number(*types: str) -> Schema:
    value: Schema = {"type": "number"}
    if types[0] == "randint":
        value = {"type": "integer", "minimum": -MAX_WHOLE, "maximum": MAX_WHOLE}
    properties = {"min": value, "max": value, "step": _STEP, "default": value, "prior": _prior(value)}
    return _distribution(types, properties, ["min", "max"])


def _prior(value: Schema) -> Schema:
    """A value, or one with the confidence in it."""
    belief = {"at": value, "confidence": {"enum": list(CONFIDENCES)}}
    return {"anyOf": [value, {"type": "object", "properties": belief, "required": ["at"]}]}


def _range() -> Schema:
    value: Schema = {"type": "number"}
    pair = {"type": "array", "items": value, "minItems": 2, "maxItems": 2}
    return _distribution(["range"], {"min": value, "max": value, "step": _STEP, "default": pair}, ["min", "max"])


_STEP: Schema = {"type": "number", "exclusiveMinimum": 0}


def _reference(name: str) -> Schema:
    return {"$ref": f"{_DEFINITION}{name}"}


def _name(reference: Mapping[str, Any]) -> str:
    target: str = reference["$ref"]
    return target.removeprefix(_DEFINITION)
