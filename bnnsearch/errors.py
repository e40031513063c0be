"""The two errors a user can meet: what was asked for is wrong (exit 2), or where it runs is (exit 3)."""

from __future__ import annotations


class InputError(ValueError):
    """Bad input: the message is one line per problem with place, rule, value and what is allowed."""


class EnvironmentProblem(RuntimeError):  # noqa: N818  # it is not an error of ours
    """The machine, a service or a file outside our control is not as needed; the message says what to do."""
