"""Loading large packages."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """The garbage collector rests.

    Modules stay, so it finds nothing in them, and takes a fifth of the time in which torch, Optuna and MLflow
    are loaded.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
