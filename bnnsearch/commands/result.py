"""What is done with the result of a search: export, production training, packing, prediction, latency."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console

from bnnsearch.commands.following import OK
from bnnsearch.folder import find_study_folder
from bnnsearch.results import read_results
from bnnsearch.space import load_space
from bnnsearch.terminal.ending import print_lines
from bnnsearch.terminal.text import metric_text
from bnnsearch.terminal.training import epochs_shown
from bnnsearch.terminal.views import write_event

if TYPE_CHECKING:
    from bnnsearch.export import Provenance, Selection
    from bnnsearch.train import Trained


def export(study: Path | None, *, runs: Path, selection: Selection, out: Path) -> int:
    """Write one configuration of the front."""
    folder = find_study_folder(study, runs)
    config, results = load_space(folder.space).study, read_results(folder.results)
    from bnnsearch.export import Provenance, export_best, select_trial
    from bnnsearch.tracking.ids import trial_run_id
    from bnnsearch.tracking.store import store_of

    number = select_trial(results, config.objectives, selection).number
    run_id = trial_run_id(folder, store_of(config), number)
    provenance = Provenance(study=config.name, search_id=folder.search_id, trial=number, run_id=run_id)
    chosen = export_best(results, config.objectives, selection=selection, provenance=provenance, path=out)
    metrics = ", ".join(f"{name} {metric_text(name, value)}" for name, value in chosen.metrics.items()
                        if name in {objective.metric for objective in config.objectives})  # fmt: skip
    told = f"trial {chosen.number} of {folder.path}, {selection.describe(config.objectives)}: {metrics}"
    print_lines(Console(), [told, f"wrote {out}; train it with: bnnsearch train {shlex.quote(str(out))}"])
    return OK


def train(config_path: Path, *, out: Path, device: str | None, as_json: bool) -> int:
    """Train one configuration to its end, and read the test set once."""
    from bnnsearch.export import load_trial

    config, provenance = load_trial(config_path)
    from bnnsearch.train import RESULT, best_device, train

    console = Console(stderr=as_json)
    finished = (out / RESULT).exists()
    if finished:
        print_lines(console, [f"{out} holds a finished run already; its result:"])
    else:
        told = f"training {config_path} for {config.plan.epochs} epochs in {out}"
        print_lines(console, [f"{told}; Ctrl-C stops it, the same command goes on"])
    with epochs_shown(console, as_json=as_json) as on_epoch:
        trained = train(config, out, device=device or best_device(), on_epoch=on_epoch)
    if as_json:
        write_event("trained", out=str(out), metrics=trained.metrics, costs=trained.costs, test=trained.test)
    print_lines(console, _trained_lines(trained, provenance) + ([] if finished else [f"wrote {out}"]))
    return OK


def _trained_lines(trained: Trained, provenance: Provenance | None) -> list[str]:
    expected = provenance.expected.get("val_acc") if provenance else None
    told = f" (the search measured {metric_text('val_acc', expected)})" if expected is not None else ""
    return [
        f"{trained.epochs} epochs: val_acc {metric_text('val_acc', trained.metrics['val_acc'])}{told}",
        "test set, read once: "
        + ", ".join(f"{name} {metric_text(name, value)}" for name, value in trained.test.items()),
        "costs: " + ", ".join(f"{name} {metric_text(name, value)}" for name, value in trained.costs.items()),
    ]


def pack(run: Path, *, out: Path, edges: Literal["float32", "int8"]) -> int:
    """Pack a trained network."""
    from bnnsearch.deploy import pack_run

    packed = pack_run(run, out, edges=edges)
    told = f"; same labels as the trained network on {packed.checked} validation images" if packed.checked else ""
    print_lines(Console(), [f"wrote {out}: {packed.bytes} bytes{told}"])
    return OK


def predict(model: Path, images: Sequence[Path]) -> int:
    """Print the label of each image file."""
    from bnnsearch.deploy import predict_files
    from bnnsearch.packed.model import PackedModel

    labels = predict_files(PackedModel.load(model), images)
    print_lines(Console(), [f"{image}: {label}" for image, label in zip(images, labels, strict=True)])
    return OK


def bench(model: Path, *, batch: int, threads: int) -> int:
    """Measure a packed network's latency."""
    from bnnsearch.packed.latency import measure_latency
    from bnnsearch.packed.model import PackedModel

    latency = measure_latency(PackedModel.load(model), batch=batch, threads=threads)
    told = f"{latency.median_ms:.4f} ms per call of {batch} images on {threads} threads"
    print_lines(Console(), [f"{told}, spread {latency.spread:.0%} between rounds"])
    return OK
