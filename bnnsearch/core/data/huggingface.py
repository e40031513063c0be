"""Data sets of Hugging Face's `datasets`: columns of images or numbers, local or from its hub; code in them never runs.

From version 4 on `datasets` reads data alone, and no scripts; the extra `huggingface` asks for one of those.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from bnnsearch.config.data import HuggingfaceConfig
from bnnsearch.core.arrays import checked_labels
from bnnsearch.core.data.arrays import Labelled, from_samples
from bnnsearch.core.data.dataset import Dataset
from bnnsearch.core.images import read_images
from bnnsearch.errors import DataError, EnvironmentProblem, printable


def load_huggingface(config: HuggingfaceConfig, device: torch.device) -> Dataset:
    """The data set.

    Raises:
        DataError: it is not there, or its columns are not as expected.
        EnvironmentProblem: the package is not installed.
    """
    package = _package()
    tables = _tables(package, config)
    parts = {split: _labelled(package, table, config, split) for split, table in tables.items()}
    feature = tables[config.train_split].features[config.label]
    names = feature.names if isinstance(feature, package.ClassLabel) else ()
    images = isinstance(tables[config.train_split].features[config.column], package.Image)
    return from_samples(
        parts[config.train_split], None if config.test_split is None else parts[config.test_split], config, device,
        layout="NCHW" if images else config.layout, clip=config.clip, test_fraction=config.test_fraction, names=names,
    )  # fmt: skip


def _package() -> ModuleType:
    try:
        import datasets
    except ImportError as error:
        raise EnvironmentProblem(
            "data huggingface needs the package datasets: pip install 'bnnsearch[huggingface]'"
        ) from error
    if int(datasets.__version__.partition(".")[0]) < 4:
        raise EnvironmentProblem(
            f"data huggingface needs datasets 4 or later, which runs no code of a data set, but found "
            f"{datasets.__version__}: pip install 'bnnsearch[huggingface]'"
        )
    package: ModuleType = datasets
    return package


def _tables(package: ModuleType, config: HuggingfaceConfig) -> dict[str, Any]:
    """The splits in use by name, with the columns in use."""
    wanted = [split for split in (config.train_split, config.test_split) if split is not None]
    folder = Path(config.path)
    shown = package.are_progress_bars_disabled()
    package.disable_progress_bars()
    try:
        if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
            found = package.load_from_disk(str(folder))
            splits = dict(found) if isinstance(found, package.DatasetDict) else {config.train_split: found}
        else:
            place = str(folder.absolute()) if folder.is_dir() else config.path
            splits = dict(package.load_dataset(place, config.config, revision=config.revision))
    except Exception as error:  # of a dozen kinds: files, their formats, the network
        reason = printable(str(error).partition("\n")[0]) or type(error).__name__
        raise DataError(f"{printable(config.path)}: cannot be read as a data set of Hugging Face ({reason})") from error
    finally:
        if not shown:
            package.enable_progress_bars()
    for split in wanted:
        _expect(split, list(splits), f"{printable(config.path)}: it has no split")
        for column in (config.column, config.label):
            _expect(column, splits[split].column_names, f"{printable(config.path)}: {split} has no column")
    columns = list(dict.fromkeys((config.column, config.label)))
    return {split: splits[split].select_columns(columns) for split in wanted}


def _expect(name: str, known: list[str], problem: str) -> None:
    if name not in known:
        raise DataError(f"{problem} {name}, only {', '.join(map(printable, known))}")


def _labelled(package: ModuleType, table: Any, config: HuggingfaceConfig, split: str) -> Labelled:
    place = f"{printable(config.path)}: {split}"
    if len(table) == 0:
        raise DataError(f"{place}: expected samples, but it has none")
    labels = checked_labels(np.asarray(table.with_format("numpy")[config.label][:]), f"{place}: {config.label}")
    if isinstance(table.features[config.column], package.Image):
        return Labelled(_pixels(package, table, config, place), labels, place)
    numbers = np.asarray(table.with_format("numpy")[config.column][:])
    if numbers.dtype.kind not in "biuf":
        found = "samples of different shapes" if numbers.dtype == object else numbers.dtype
        raise DataError(f"{place}: {config.column}: expected images or numbers of one shape, but found {found}")
    return Labelled(numbers, labels, place)


def _pixels(package: ModuleType, table: Any, config: HuggingfaceConfig, place: str) -> Any:
    """Images uint8 (N, C, S, S), by the decoder that all images have."""
    stored = table.cast_column(config.column, package.Image(decode=False))
    files = [
        each["path"] if each["bytes"] is None else (f"{place}: image {number}", each["bytes"])
        for number, each in enumerate(stored[config.column])
    ]
    return read_images(files, (config.channels, config.image_size, config.image_size))
