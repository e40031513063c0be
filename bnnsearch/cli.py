"""The `bnnsearch` command. Each command calls one function; heavy packages are imported only by those."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import click

from bnnsearch import __version__
from bnnsearch.cli_cluster import COMMANDS
from bnnsearch.errors import EnvironmentProblem, InputError, printable
from bnnsearch.logs import PrintableFormatter
from bnnsearch.terminal.output import OutputProblem, checked_output

OK, FAILED, BAD_INPUT, ENVIRONMENT = 0, 1, 2, 3
INTERRUPTED, TERMINATED = 130, 143

_FILE = click.Path(path_type=Path, dir_okay=False)
_DIRECTORY = click.Path(path_type=Path, file_okay=False)
_SET = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a value of the space file."
)
_RUNS = click.option(
    "--runs",
    type=_DIRECTORY,
    default=Path("runs"),
    show_default=True,
    envvar="BNNSEARCH_RUNS",
    help="Where studies are.",
)
_STUDY = click.argument("study", type=_DIRECTORY, required=False)
_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object per line on standard output.")
_REGISTER = click.option("--register", metavar="NAME", help="Name of the registered model [default: the study's].")
_EXECUTOR = click.option(
    "--executor",
    type=click.Choice(["ray", "local"]),
    default="ray",
    show_default=True,
    help="Ray Tune on this machine, or one trial after another in this process.",
)
_CLUSTER = click.option(
    "--cluster",
    type=_FILE,
    metavar="FILE",
    help="Search on a cluster: its file here or in clusters/, such as aws-spot.yaml.",
)


class Commands(click.Group):
    """Turns the errors a user can meet into one line and the documented exit code."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the command and exit with its code."""
        extra["standalone_mode"] = False
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: a terminal may know no Unicode
        if logging.lastResort is not None:  # writes what a library or a thread logs, outside of a search, to stderr
            logging.lastResort.setFormatter(PrintableFormatter())
        with checked_output():
            code = self._code(*args, **extra)
        sys.exit(code or OK)

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


def _told(lines: Sequence[str], code: int) -> int:
    with suppress(OutputProblem):
        click.echo("\n".join(lines), err=True)
    return code


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="bnnsearch")
def main() -> None:
    """Find the best binary neural network for an accuracy and hardware budget.

    Exit codes: 0 done, 1 the search failed, 2 bad input, 3 something around it failed, 130 and 143 stopped by a signal.
    """


@main.command()
@click.argument("name", required=False)
@click.option("-o", "--out", type=_FILE, help="File to write [default: its own name, here].")
def init(name: str | None, out: Path | None) -> int:
    """Copy a space or cluster file to start from; without NAME, list them.

    Example: bnnsearch init digits_quickstart
    """
    import shlex

    from bnnsearch.shipped import copy, shipped

    if name is None:
        known = shipped()
        width = max(len(each.name) for each in known)
        for each in known:
            click.echo(f"{each.folder:8}  {each.name:{width}}  {each.about}")
        return OK
    found, path = copy(name, out)
    where = shlex.quote(str(path))
    use = f"run {where}" if found.folder == "spaces" else f"run SPACE --cluster {where}"
    click.echo(printable(f"wrote {path}; use it with: bnnsearch {use}"))
    return OK


@main.command()
@click.argument("space", type=_FILE)
@_SET
@_EXECUTOR
@_RUNS
@_JSON
@_CLUSTER
@click.option(
    "--dry-run", is_flag=True, help="Print the size of the space, one configuration and a cost bound; train nothing."
)
def run(
    *,
    space: Path,
    overrides: tuple[str, ...],
    executor: str,
    runs: Path,
    as_json: bool,
    cluster: Path | None,
    dry_run: bool,
) -> int:
    """Search SPACE.

    Example: bnnsearch run spaces/digits_quickstart.yaml --set budget.trials=24
    """
    from bnnsearch.commands import search

    if dry_run:
        return search.dry_run(space, overrides)
    if cluster is not None:
        from bnnsearch.commands import cluster as on_cluster

        return on_cluster.run(space, overrides, cluster_path=cluster, runs=runs, as_json=as_json)
    return search.run(space, overrides, executor=executor, runs=runs, as_json=as_json)


@main.command()
@_STUDY
@click.option("--trials", type=click.IntRange(min=1), help="Raise the budget to so many trials.")
@click.option("--changed-guests", is_flag=True, help="Go on though code that the space uses has changed.")
@_EXECUTOR
@_RUNS
@_JSON
@_CLUSTER
def resume(
    *,
    study: Path | None,
    trials: int | None,
    changed_guests: bool,
    executor: str,
    runs: Path,
    as_json: bool,
    cluster: Path | None,
) -> int:
    """Go on with a stopped search: STUDY is its folder, by default the newest.

    Example: bnnsearch resume runs/digits_quickstart/20260101-120000 --trials 48
    """
    from bnnsearch.commands import search

    changes = search.Changes(trials, guests=changed_guests)
    return search.resume(study, runs=runs, changes=changes, executor=executor, cluster=cluster, as_json=as_json)


@main.command()
@click.argument("space", type=_FILE)
@_SET
def validate(space: Path, overrides: tuple[str, ...]) -> int:
    """Check SPACE and say what it holds; trains nothing.

    Example: bnnsearch validate spaces/digits_quickstart.yaml
    """
    from bnnsearch.space import load_space

    for line in load_space(space, overrides=overrides, begins=True).describe():
        click.echo(printable(line))
    return OK


@main.command()
@click.argument("space", type=_FILE, required=False)
def schema(space: Path | None) -> int:
    """Print the JSON Schema of space files, for editors; with the guests that SPACE uses, where it is given.

    Example: bnnsearch schema > spaces/schema.json
    """
    import json

    from bnnsearch.schema import space_schema
    from bnnsearch.space import use_guests

    if space is not None:
        use_guests(space)

    click.echo(json.dumps(space_schema(), indent=2))
    return OK


@main.command()
@_STUDY
@_RUNS
@_JSON
def status(study: Path | None, runs: Path, as_json: bool) -> int:
    """Say where a search stands: STUDY is its folder, by default the newest.

    Example: bnnsearch status
    """
    from bnnsearch.commands import search

    return search.status(study, runs=runs, as_json=as_json)


@main.command()
@click.argument("studies", metavar="[STUDY]...", type=_DIRECTORY, nargs=-1)
@_RUNS
@click.option(
    "-o", "--out", type=_FILE, default=Path("comparison.html"), show_default=True, help="Of several studies: the file."
)
def report(studies: tuple[Path, ...], runs: Path, out: Path) -> int:
    """Write the report of a finished, running or interrupted search into its folder; of several, compare their fronts.

    Example: bnnsearch report runs/digits_quickstart/*
    """
    from bnnsearch.commands import search

    if len(studies) > 1:
        return search.compare(studies, out=out)
    return search.report(studies[0] if studies else None, runs=runs)


@main.command()
@_STUDY
@_RUNS
@click.option("--knee", is_flag=True, help="Take the knee of the front.")
@click.option("--best", metavar="METRIC", help="Take the best in a metric.")
@click.option("--trial", "number", type=click.IntRange(min=0), help="Take this trial.")
@click.option("--run-id", metavar="ID", help="Take the trial of this run in MLflow.")
@click.option("--where", multiple=True, metavar="LIMIT", help='Only trials within it, such as "memory_bytes<=20000".')
@click.option(
    "--confirm", type=click.IntRange(min=0), default=0, metavar="N", help="Train it again with N other seeds."
)
@_REGISTER
@click.option("--alias", default="candidate", show_default=True, help="The new version's alias.")
@click.option("--no-register", is_flag=True, help="Leave MLflow's registry alone.")
@click.option("-o", "--out", type=_FILE, default=Path("best.yaml"), show_default=True, help="The file to write.")
def export(
    *,
    study: Path | None,
    runs: Path,
    knee: bool,
    best: str | None,
    number: int | None,
    run_id: str | None,
    where: tuple[str, ...],
    confirm: int,
    register: str | None,
    alias: str,
    no_register: bool,
    out: Path,
) -> int:
    """Write one configuration of the front as a file that `train` takes; by default what the space's `select` says.

    Example: bnnsearch export --where "memory_bytes<=20000" --best val_acc --confirm 3
    """
    if sum((knee, best is not None, number is not None, run_id is not None)) > 1:
        raise click.UsageError("at most one of --knee, --best, --trial and --run-id")
    from bnnsearch.commands import result
    from bnnsearch.export import Selection

    selection = Selection("knee") if knee else None
    if run_id is not None:
        study, number = result.study_of_run(run_id, study, runs)
    if best is not None:
        selection = Selection("best", metric=best)
    elif number is not None:
        selection = Selection("trial", number=number)
    then = result.Confirmation(confirm, registered=not no_register, register_as=register, alias=alias)
    return result.export(study, runs=runs, selection=selection, where=where, then=then, out=out)


@main.command()
@click.argument("config", type=_FILE)
@click.option("-o", "--out", type=_DIRECTORY, default=Path("trained"), show_default=True, help="The run's folder.")
@click.option("--device", help="torch device [default: cuda where there is one, else cpu].")
@click.option("--threads", type=click.IntRange(min=1), help="torch threads [default: one per core].")
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Train with so many seeds.")
@_REGISTER
@click.option("--alias", default="champion", show_default=True, help="The new version's alias.")
@click.option("--no-track", is_flag=True, help="Leave MLflow alone.")
@_JSON
def train(
    *,
    config: Path,
    out: Path,
    device: str | None,
    threads: int | None,
    seeds: int,
    register: str | None,
    alias: str,
    no_track: bool,
    as_json: bool,
) -> int:
    """Train CONFIG to its end and read the test set once; called again, it goes on from the checkpoint.

    With the seed, the machine and the --threads of a trial it repeats the trial to the last digit.

    On several GPUs: torchrun --nproc-per-node 4 -m bnnsearch train best.yaml

    Example: bnnsearch train best.yaml --seeds 3
    """
    import torch

    from bnnsearch.commands import production

    recording = production.Recording(not no_track, register_as=register, alias=alias)
    if threads is not None:
        torch.set_num_threads(threads)
    return production.train(config, out=out, device=device, seeds=seeds, recording=recording, as_json=as_json)


@main.command()
@click.argument("run", type=_DIRECTORY, default=Path("trained"))
@click.option("-o", "--out", type=_FILE, default=Path("model.bnn"), show_default=True, help="The file to write.")
@click.option(
    "--edges",
    type=click.Choice(["float32", "int8"]),
    default="float32",
    show_default=True,
    help="How the real layers, the first and the last, are stored.",
)
def pack(run: Path, out: Path, edges: str) -> int:
    """Pack the network of a finished `train` folder to one bit per weight, and check it image by image.

    Example: bnnsearch pack trained -o model.bnn
    """
    from bnnsearch.commands import result

    return result.pack(run, out=out, edges="int8" if edges == "int8" else "float32")


@main.command()
@click.argument("model", type=_FILE)
@click.argument("images", type=_FILE, nargs=-1, required=True)
@_JSON
def predict(model: Path, images: tuple[Path, ...], as_json: bool) -> int:
    """Print the class of each image file and its highest scores, by the packed MODEL.

    Example: bnnsearch predict model.bnn digit.png
    """
    from bnnsearch.commands import result

    return result.predict(model, images, as_json=as_json)


@main.command()
@click.argument("model", type=_FILE)
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Images per call.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
def bench(model: Path, batch: int, threads: int) -> int:
    """Measure how long the packed MODEL takes on this machine.

    Example: bnnsearch bench model.bnn --batch 64
    """
    from bnnsearch.commands import result

    return result.bench(model, batch=batch, threads=threads)


@main.command()
@_STUDY
@_RUNS
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True)
def ui(study: Path | None, runs: Path, host: str, port: int) -> int:
    """Open MLflow's UI on the store that holds the search.

    Example: bnnsearch ui --port 5001
    """
    from bnnsearch.commands import search

    return search.ui(study, runs=runs, host=host, port=port)


@main.command()
@click.option("--clear", is_flag=True, help="Delete all of it but what is in use.")
def cache(*, clear: bool) -> int:
    """List what studies have left for one another: pretrained networks and teachers.

    It lies in $BNNSEARCH_CACHE, else in ~/.cache/bnnsearch.

    Example: bnnsearch cache --clear
    """
    from bnnsearch.commands import cache as kept

    return kept.clear() if clear else kept.show()


for command in COMMANDS:
    main.add_command(command)
