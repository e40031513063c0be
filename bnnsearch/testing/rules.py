"""How a broken rule is said: in one line, with the member and what was found."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bnnsearch.config.families import Member, name_of


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules that a member is held to.

    Attributes:
        who: the member, as messages name it.
    """

    who: str

    @classmethod
    def of(cls, family: str, settings: Member, base: type[Member]) -> Rules:
        """Those of `settings`, a `family` of members that derive from `base`.

        Raises:
            AssertionError: it is none, or does not survive a configuration file.
        """
        rules = cls(f"{family} {getattr(settings, 'name', type(settings).__name__)}")
        rules.hold(isinstance(settings, base), f"must be settings that derive from {base.__name__}", type(settings))
        rules.hold(name_of(type(settings)) is not None, "must have a name, a literal with a default", type(settings))
        with rules.doing("its settings"):
            again = type(settings).model_validate(_plain(settings))
        rules.hold(again == settings, "must be the same when they are written to a file and read", again)
        return rules

    def hold(self, kept: bool, rule: str, found: object = None) -> None:
        """See that a rule is kept.

        Raises:
            AssertionError: it is not.
        """
        if not kept:
            told = "" if found is None else f", but got {_short(found)}"
            raise AssertionError(f"{self.who}: {rule}{told}")

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """What the member's own code raises in `what` is said with the line that raised it."""
        try:
            yield
        except AssertionError as error:
            if str(error).startswith(self.who):
                raise
            raise AssertionError(f"{self.who}: {what} failed: {_last_line(error)}") from error
        except Exception as error:  # a stranger's code may raise whatever it likes
            raise AssertionError(f"{self.who}: {what} failed: {_last_line(error)}") from error


def _plain(settings: Member) -> Any:
    """As a file has it; a bare name stands for its defaults."""
    told = settings.model_dump(mode="json")
    return {"name": told} if isinstance(told, str) else told


def _short(found: object) -> str:
    text = repr(found.tolist()) if isinstance(found, torch.Tensor) and found.numel() <= 8 else str(found)
    return " ".join(text.split())[:200]


def _last_line(error: BaseException) -> str:
    place = traceback.extract_tb(error.__traceback__)[-1]
    reason = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {reason} ({Path(place.filename).name}, line {place.lineno})"
