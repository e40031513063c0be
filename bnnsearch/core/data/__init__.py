"""Data sets as uint8 tensors on the device, and their batches. ImageNet, too large for that, is streamed."""

from bnnsearch.core.data.batches import eval_batches, steps_per_epoch, train_batches
from bnnsearch.core.data.dataset import AnySplit, Dataset, ImageSet, Split, StreamedSplit
from bnnsearch.core.data.load import check_data, load_data
from bnnsearch.errors import DataError

__all__ = [
    "AnySplit",
    "DataError",
    "Dataset",
    "ImageSet",
    "Split",
    "StreamedSplit",
    "check_data",
    "eval_batches",
    "load_data",
    "steps_per_epoch",
    "train_batches",
]
