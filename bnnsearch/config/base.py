"""The base of every settings class: frozen, strict about unknown keys, finite numbers only, truth values apart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator


def _scalars(value: Any) -> Iterator[Any]:
    if isinstance(value, list | tuple):
        for each in value:
            yield from _scalars(each)
    else:
        yield value


def _takes_truth(annotation: Any) -> bool:
    return annotation in (bool, Any) or any(map(_takes_truth, get_args(annotation)))


class Settings(BaseModel):
    """Immutable settings; an unknown key, a non-finite number, or true and false in a number's place are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _truth_is_no_number(cls, settings: Any) -> Any:
        """Refuse true and false where pydantic, as Python, would take them for 1 and 0."""
        for name, value in settings.items() if isinstance(settings, dict) else ():
            if not isinstance(value, bool | list | tuple) or name not in cls.model_fields:
                continue
            found = next((each for each in _scalars(value) if isinstance(each, bool)), None)
            if found is not None and not _takes_truth(cls.model_fields[name].annotation):
                raise ValueError(f"{name} must not be true or false, but got {str(found).lower()}")
        return settings


Fraction = Annotated[float, Field(ge=0, le=1)]
"""A number in [0, 1]."""

PositiveFloat = Annotated[float, Field(gt=0)]
"""A number greater than 0."""

Count = Annotated[int, Field(ge=1)]
"""A whole number, at least 1."""
