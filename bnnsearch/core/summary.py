"""A network's layers and totals, as a plain dictionary and as a table to read."""

from __future__ import annotations

from typing import Any

from bnnsearch.core.cost import HOROWITZ_45NM, LayerCost, ModelCost

_HEADS = ("layer", "kind", "output", "1-bit", "32-bit", "memory B", "folded B", "1-bit MACs", "real MACs")


def summary(cost: ModelCost) -> dict[str, Any]:
    """Layers and totals of `cost` as plain values, fit for JSON."""
    return {
        "layers": [_layer_values(layer) for layer in cost.layers],
        "totals": {
            **cost.metrics(),
            "binary_params": cost.binary_params,
            "folded_memory_bytes": cost.folded_memory_bytes,
            "peak_activation_bytes": cost.peak_activation_bytes,
            "ace": cost.ace,
            "energy_model": HOROWITZ_45NM.source,
        },
    }


def _layer_values(layer: LayerCost) -> dict[str, Any]:
    return {
        "name": layer.name,
        "kind": layer.kind,
        "out_shape": list(layer.out_shape),
        "params": layer.params,
        "binary_params": layer.binary_params,
        "bits": layer.bits,
        "folded_bits": layer.folded_bits,
        "bops": layer.macs if layer.binary else 0,
        "flops": 0 if layer.binary else layer.macs,
    }


def summary_table(cost: ModelCost) -> str:
    """The layers that hold parameters, a line each, and the totals below them."""
    rows: list[tuple[str, ...]] = [_HEADS]
    rows += [_row(layer) for layer in cost.layers if layer.params]
    real_params = cost.params - cost.binary_params
    rows.append(
        (
            "total", "", "", f"{cost.binary_params:,}", f"{real_params:,}", f"{cost.memory_bytes:,}",
            f"{cost.folded_memory_bytes:,}", f"{cost.bops:,}", f"{cost.flops:,}",
        )
    )  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADS))]
    lines = ["  ".join(_aligned(cell, widths[at], at) for at, cell in enumerate(row)).rstrip() for row in rows]
    rule = "-" * max(map(len, lines))
    share = cost.binary_params / cost.params if cost.params else 0.0
    smaller = cost.params * 4 / cost.memory_bytes
    totals = (
        f"{share:.2%} of {cost.params:,} parameters are 1-bit; float32 would take {smaller:.1f} times the memory",
        f"OPs {cost.ops:,.0f} (1-bit MACs / 64 + real MACs), ACE {cost.ace:,}",
        f"peak activations {cost.peak_activation_bytes:,} B, energy {cost.energy():.3g} uJ (model: Horowitz, 45 nm)",
    )
    return "\n".join((lines[0], rule, *lines[1:-1], rule, lines[-1], "", *totals))


def _row(layer: LayerCost) -> tuple[str, ...]:
    return (
        layer.name,
        layer.kind,
        "x".join(map(str, layer.out_shape)),
        f"{layer.binary_params:,}",
        f"{layer.params - layer.binary_params:,}",
        f"{layer.bits / 8:,.0f}",
        f"{layer.folded_bits / 8:,.0f}",
        f"{layer.macs if layer.binary else 0:,}",
        f"{0 if layer.binary else layer.macs:,}",
    )


def _aligned(cell: str, width: int, column: int) -> str:
    return cell.ljust(width) if column < 3 else cell.rjust(width)
