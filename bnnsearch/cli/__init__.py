"""The `bnnsearch` command: a module for each command, with its options, its call and its words.

Modules of commands import at their top what `--help` needs, and no more; the rest is imported by the call.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from io import TextIOWrapper
from typing import Any

import click

from bnnsearch import __version__
from bnnsearch.errors import BAD_INPUT, ENVIRONMENT, INTERRUPTED, EnvironmentProblem, InputError, printable
from bnnsearch.logs import PrintableFormatter
from bnnsearch.terminal.output import OutputProblem, checked_output, say

COMMANDS = (
    "init", "validate", "schema", "run", "resume", "status", "list", "rm", "report", "ui", "export", "train", "pack",
    "summary", "predict", "bench", "cache", "logs", "stop", "down", "cluster", "doctor", "completion",
)  # fmt: skip
"""In the order of their use. Each is the command of its name in the module of its name."""


class Commands(click.Group):
    """Loads a command when it is called, and turns the errors a user can meet into one line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return [*COMMANDS]  # `list` is a command's module, once that is loaded

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        found: click.Command = getattr(import_module(f"{__name__}.{cmd_name}"), cmd_name)
        return found

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the command and exit with its code."""
        extra["standalone_mode"] = False
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: a terminal may know no Unicode
        os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # looked for in the metadata of every package
        if logging.lastResort is not None:  # writes what a library or a thread logs, outside of a search, to stderr
            logging.lastResort.setFormatter(PrintableFormatter())
        with checked_output():
            code = self._code(*args, **extra)
        sys.exit(code)

    def _code(self, *args: Any, **extra: Any) -> Any:
        try:
            code = super().main(*args, **extra)
            if sys.stdout is not None:
                sys.stdout.flush()
            return code
        except (click.exceptions.Abort, KeyboardInterrupt):
            return INTERRUPTED
        except click.ClickException as error:
            error.message = printable(error.message or "")  # type: ignore[misc]  # final, and shown as it is
            with suppress(OutputProblem):
                error.show()
            return BAD_INPUT
        except InputError as error:
            return _told(error.lines, BAD_INPUT)
        except EnvironmentProblem as problem:
            return _told(problem.lines, ENVIRONMENT)
        except OSError as error:  # a full disk, a folder that was deleted or is read-only
            where = "" if error.filename is None else f": {error.filename}"
            return _told(EnvironmentProblem(f"{error.strerror or error}{where}").lines, ENVIRONMENT)
        except MemoryError as error:
            return _told(
                EnvironmentProblem(f"there is not enough memory ({str(error) or 'none is left'})").lines, ENVIRONMENT
            )
        except (Exception, SystemExit) as error:
            guests = sys.modules.get("bnnsearch.config.guests")  # where it was not needed, no guest's code ran
            if guests is None or (told := guests.blamed(error)) is None:
                raise
            return _told([told], BAD_INPUT)


def _told(lines: Sequence[str], code: int) -> int:
    with suppress(OutputProblem):
        say(*lines, err=True)
    return code


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="bnnsearch")
def main() -> None:
    """Find the best binary neural network for an accuracy and hardware budget.

    Exit codes: 0 done, 1 the search failed, 2 bad input, 3 something around it failed, 130 and 143 stopped by a signal.
    """
    if os.environ.get("BNNSEARCH_VARIANT"):  # a wrong one would end what first needs a kernel, in the middle of it
        from bnnsearch import native

        native.chosen()
