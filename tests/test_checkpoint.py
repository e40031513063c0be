"""Checkpoints: what is read is what was written, and nothing else is read."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from bnnsearch.core.checkpoint import MAGIC, load_checkpoint, save_checkpoint

STATE = {"model": OrderedDict(weight=torch.tensor([1.0, -1.0])), "position": [3, 0, 3], "spent": 1.5}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, STATE)
    return path


def test_state_survives(checkpoint: Path) -> None:
    state = load_checkpoint(checkpoint)
    assert torch.equal(state["model"]["weight"], torch.tensor([1.0, -1.0]))
    assert (state["position"], state["spent"]) == ([3, 0, 3], 1.5)


def test_a_second_save_replaces_the_first_and_leaves_nothing_behind(checkpoint: Path) -> None:
    save_checkpoint(checkpoint, {"position": [4, 0, 4]})
    assert load_checkpoint(checkpoint) == {"position": [4, 0, 4]}
    assert [path.name for path in checkpoint.parent.iterdir()] == ["checkpoint.pt"]


def test_a_save_that_fails_leaves_the_old_state(checkpoint: Path) -> None:
    with pytest.raises(AttributeError):
        save_checkpoint(checkpoint, {"unpicklable": lambda: None})
    assert load_checkpoint(checkpoint)["spent"] == 1.5
    assert [path.name for path in checkpoint.parent.iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize("at", [0.0, 0.3, 0.7, 0.999])
def test_any_flipped_bit_is_found(checkpoint: Path, at: float) -> None:
    content = bytearray(checkpoint.read_bytes())
    content[int(at * len(content))] ^= 1
    checkpoint.write_bytes(content)
    with pytest.raises(ValueError, match=r"checkpoint\.pt: (not a checkpoint|the checkpoint is damaged)"):
        load_checkpoint(checkpoint)


@pytest.mark.parametrize("kept", [0, 10, 40, 200])
def test_a_truncated_file_is_refused(checkpoint: Path, kept: int) -> None:
    checkpoint.write_bytes(checkpoint.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"not a checkpoint|damaged"):
        load_checkpoint(checkpoint)


def test_a_bare_pickle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(pickle.dumps(STATE["position"]))
    with pytest.raises(ValueError, match="not a checkpoint"):
        load_checkpoint(path)


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("executed",))


def test_code_is_not_executed_even_with_a_right_hash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    buffer = io.BytesIO()
    torch.save({"model": Payload()}, buffer)
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(MAGIC + hashlib.sha256(buffer.getvalue()).digest() + buffer.getvalue())
    with pytest.raises(ValueError, match="only tensors and plain values"):
        load_checkpoint(path)
    assert "executed" not in capsys.readouterr().out
