"""What `mlflow.pyfunc.load_model` loads of a packed network: no torch, no pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnnsearch.packed.model import PackedModel


class PackedPredictor:
    """A packed network behind MLflow's interface."""

    def __init__(self, model: PackedModel) -> None:
        self.model = model

    def predict(self, data: NDArray[np.uint8], params: dict[str, Any] | None = None) -> NDArray[np.int64]:
        """Labels (N,) of uint8 images (N, C, H, W); `params` may hold `threads`."""
        return self.model.predict(np.asarray(data), threads=int((params or {}).get("threads", 1)))


def _load_pyfunc(path: str) -> PackedPredictor:
    """Called by MLflow by this name, with the model's file or the folder that holds it."""
    place = Path(path)
    return PackedPredictor(PackedModel.load(next(place.iterdir()) if place.is_dir() else place))
