"""The errors a user can meet: what was asked for is wrong (exit 2), or where it runs is (exit 3); and safe words."""

from __future__ import annotations

import os

OK, FAILED, BAD_INPUT, ENVIRONMENT, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 130, 143
"""What commands exit with."""


class InputError(ValueError):
    """Bad input: the message is one line per problem with place, rule, value and what is allowed."""

    @property
    def lines(self) -> tuple[str, ...]:
        """The problems, a printable line each."""
        return (printable(str(self)),)


class EnvironmentProblem(RuntimeError):  # noqa: N818  # it is not an error of ours
    """The machine, a service or a file outside our control is not as needed; the message says what to do.

    Attributes:
        command: what to call once that is mended, where one command goes on.
    """

    def __init__(self, message: str, command: str | None = None) -> None:
        super().__init__(message)
        self.command = command

    @property
    def lines(self) -> tuple[str, ...]:
        """The problem in one printable line, and the command in one of its own, so that it can be copied."""
        problem = f"bnnsearch: {printable(str(self))}"
        return (problem,) if self.command is None else (problem, f"  {printable(self.command)}")


class StudyInUse(InputError):  # noqa: N818  # as the others
    """Another process works on the study."""


class DataError(EnvironmentProblem):
    """A data set is missing, short or corrupt; the message names the file and what is expected of it."""


def printable(text: str | os.PathLike[str]) -> str:
    r"""`text` in one line that cannot speak to a terminal: for names of files and words from files.

    Whatever does not print is escaped: line ends, escape codes, marks that turn the direction of writing, and the bytes
    of a file's name that are not UTF-8, such as `caf\udce9`.
    """
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in os.fspath(text))
