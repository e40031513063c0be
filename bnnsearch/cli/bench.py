"""`bnnsearch bench`: how long a packed network takes, here or on an emulated device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bnnsearch.cli import options
from bnnsearch.errors import InputError
from bnnsearch.terminal.output import say, write_event

if TYPE_CHECKING:
    from bnnsearch.packed.model import PackedModel


@click.command()
@options.model
@click.option("--batch", type=options.AT_LEAST_ONE, default=1, show_default=True, help="Images per call.")
@options.own_threads
@click.option(
    "--target", metavar="NAME", help="A device instead of this machine, such as cortex-m4: see docs/device.md."
)
@click.option("--no-baseline", is_flag=True, help="Do not measure the float32 layers of the same shapes in torch.")
@options.as_json
def bench(*, model: Path, batch: int, threads: int, target: str | None, no_baseline: bool, as_json: bool) -> None:
    """Measure how long the packed MODEL takes on this machine, beside float32 layers of the same shapes in torch.

    With --target, what its C takes on a device.

    Example: bnnsearch bench model.bnn --batch 64
    """
    from bnnsearch import native
    from bnnsearch.packed.latency import measure_latency, processor
    from bnnsearch.packed.model import PackedModel as Model

    loaded = Model.load(model)
    if target is not None:
        _on_target(loaded, model, target, as_json=as_json)
        return
    latency = measure_latency(loaded, batch=batch, threads=threads)
    baseline = None
    if not no_baseline:
        from bnnsearch.deploy import float32_ms

        baseline = float32_ms(loaded, batch=batch, threads=threads)
    if as_json:
        write_event("latency", model=str(model), batch=batch, threads=threads, processor=processor(),
                    instructions=native.chosen(), median_ms=latency.median_ms, p90_ms=latency.p90_ms,
                    p99_ms=latency.p99_ms, spread=latency.spread, float32_ms=baseline)  # fmt: skip
        return
    say(f"{processor()}, {native.chosen()} instructions, {threads} of its threads")
    each = latency.median_ms / batch * 1000
    bounds = f"90 % within {latency.p90_ms:.4f}, 99 % within {latency.p99_ms:.4f} ms"
    told = f"{latency.median_ms:.4f} ms per call of {batch} images ({each:.4g} us an image)"
    say(f"{told}; {bounds}; spread {latency.spread:.0%} between rounds")
    if baseline is not None:
        times = baseline / latency.median_ms
        say(f"{baseline:.4f} ms for its layers alone in torch's float32: {times:.1f} times as long")


def _on_target(model: PackedModel, path: Path, name: str, *, as_json: bool) -> None:
    from bnnsearch.device.project import sample_images
    from bnnsearch.device.targets import TARGETS, measure

    if name not in TARGETS:
        raise InputError(f"--target must be one of {', '.join(TARGETS)}, but got {name!r}")
    images = sample_images(model.shape)
    measured = measure(model, TARGETS[name], images)
    equal = int((measured.labels == model.predict(images)).sum())
    if as_json:
        write_event("device", model=str(path), target=name, flash_bytes=measured.flash_bytes,
                    arena_bytes=measured.arena_bytes, stack_bytes=measured.stack_bytes,
                    instructions=measured.instructions, images=len(images), equal=equal)  # fmt: skip
    else:
        told = [f"{measured.flash_bytes} bytes of flash", f"{measured.arena_bytes} of static memory"]
        told += [f"{measured.stack_bytes} of stack"] * bool(measured.stack_bytes)
        told += [f"{measured.instructions} instructions per image, counted by emulation"] * bool(measured.instructions)
        say(f"{name}: {', '.join(told)}; {equal} of {len(images)} labels equal")
    if equal < len(images):
        raise click.exceptions.Exit(1)
