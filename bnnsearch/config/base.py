"""The base of every settings class: frozen, strict about unknown keys, finite numbers only."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """Immutable settings; an unknown key or a non-finite number is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


Fraction = Annotated[float, Field(ge=0, le=1)]
"""A number in [0, 1]."""

PositiveFloat = Annotated[float, Field(gt=0)]
"""A number greater than 0."""
