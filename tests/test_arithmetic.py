"""What `plan.dtype` comes to on a device."""

from __future__ import annotations

import logging
import math

import pytest
import torch

from bnnsearch.core import arithmetic
from bnnsearch.core.arithmetic import bfloat16_gain, takes_bfloat16

CPU = torch.device("cpu")


def test_the_gain_is_measured_here() -> None:
    assert 0 < bfloat16_gain(CPU) < math.inf
    assert takes_bfloat16("auto", CPU) == (bfloat16_gain(CPU) >= arithmetic.WORTH)


@pytest.mark.parametrize(
    ("gain", "auto", "warns"), [(0.08, False, True), (0.9, False, False), (1.1, False, False), (6.0, True, False)]
)
def test_auto_takes_what_is_faster_and_an_order_is_followed(
    gain: float, auto: bool, warns: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(arithmetic, "bfloat16_gain", lambda *_: gain)
    assert takes_bfloat16("auto", CPU) is auto
    assert not takes_bfloat16("float32", CPU)
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        assert takes_bfloat16("bfloat16", CPU)
    assert [f"takes {1 / gain:.1f} times as long" in record.message for record in caplog.records] == [True] * warns
