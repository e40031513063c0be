"""Which epoch's network is exported, by one rule for gradients and evolution alike: `plan.keep`.

    last: the present one.   best: the first of those so far with the highest accuracy on the validation split.

The best of several looks is higher than the last one by luck alone, so all trials of a search must keep the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal


class Kept:
    """What is known of the network that would be exported now, where that is not the one in training.

    Args:
        keep: the rule.

    Attributes:
        network: tensors from which the kept network is made; None where it is the one in training.
    """

    def __init__(self, keep: Literal["last", "best"]) -> None:
        self._keep = keep
        self._epoch = 0
        self._measured: Mapping[str, float] = {}
        self.network: Any = None

    def weigh(self, epoch: int, measured: Mapping[str, float], network: Callable[[], Any]) -> dict[str, float]:
        """Take note of an epoch.

        Args:
            epoch: its number, from 1.
            measured: its network on the validation split: `val_acc`, and what else is.
            network: makes tensors of that network that training will not change; called if it is to be kept.

        Returns:
            What is measured of the network that would be exported now; for `best` also the epoch's own values, such as
            `epoch_val_acc`, and `kept_epoch`.
        """
        if self._keep == "last":
            return dict(measured)
        if self.network is None or measured["val_acc"] > self._measured["val_acc"]:
            self._epoch, self._measured, self.network = epoch, dict(measured), network()
        own = {f"epoch_{name}": value for name, value in measured.items()}
        return {**self._measured, **own, "kept_epoch": float(self._epoch)}

    def state_dict(self) -> dict[str, Any]:
        """All of it."""
        return {"epoch": self._epoch, "measured": dict(self._measured), "network": self.network}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up the state."""
        self._epoch, self._measured, self.network = state["epoch"], state["measured"], state["network"]
