"""System metrics of the node that a trial runs on, by MLflow's own monitors and under MLflow's names."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import Any

from bnnsearch.tracking.store import import_mlflow


def system_metrics() -> Mapping[str, float]:
    """`system/cpu_utilization_percentage` and so on, which MLflow's UI shows on a page of their own.

    Of the processors it is the mean since the last call in this process, of disks and network the state now. GPUs are
    among them where nvidia-ml-py is installed.
    """
    values: dict[str, float] = {}
    for monitor in _monitors():
        monitor.clear_metrics()
        monitor.collect_metrics()
        values |= {f"system/{name}": float(value) for name, value in monitor.aggregate_metrics().items()}
    return values


@cache
def _monitors() -> tuple[Any, ...]:
    import_mlflow("mlflow.system_metrics.system_metrics_monitor")
    from mlflow.system_metrics.metrics import cpu_monitor, disk_monitor, gpu_monitor, network_monitor

    kinds: list[Any] = [
        cpu_monitor.CPUMonitor,
        disk_monitor.DiskMonitor,
        network_monitor.NetworkMonitor,
        gpu_monitor.GPUMonitor,
    ]
    monitors = []
    for kind in kinds:
        with suppress(ImportError, RuntimeError):  # no GPU, or nothing to ask it with
            monitors.append(kind())
    return tuple(monitors)
