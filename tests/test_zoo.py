"""The trained networks of zoo/: each packed file has the accuracy and the size that docs/zoo.md states."""

import re
from pathlib import Path

import pytest

from bnnsearch.config.data import ImageFolderConfig, MnistConfig
from bnnsearch.core.data import load_data
from bnnsearch.export import load_trial
from bnnsearch.packed.model import PackedModel

ROOT = Path(__file__).parent.parent
STATED = re.findall(
    r"^\| `(\w+)` \| .* \| ([\d.]+) % \| ([\d,]+) \|$", (ROOT / "docs" / "zoo.md").read_text(), re.MULTILINE
)


@pytest.mark.parametrize(("name", "accuracy", "size"), STATED)
def test_a_packed_network_is_as_good_and_as_small_as_stated(name: str, accuracy: str, size: str) -> None:
    folder = ROOT / "zoo" / name
    data = load_trial(folder / "best.yaml")[0].data
    below = {MnistConfig: "MNIST/raw", ImageFolderConfig: ""}.get(type(data))
    if below is not None and not Path(data.root, below).exists():
        pytest.skip("needs its data below $BNN_DATA")
    test = load_data(data).test
    labels = PackedModel.load(folder / "model.bnn").predict(test.images.numpy())
    assert f"{100 * float((labels == test.labels.numpy()).mean()):.2f}" == accuracy
    assert (folder / "model.bnn").stat().st_size == int(size.replace(",", ""))


def test_every_network_is_stated_and_all_together_are_small() -> None:
    assert {path.name for path in (ROOT / "zoo").iterdir()} == {name for name, _, _ in STATED}
    assert sum(path.stat().st_size for path in (ROOT / "zoo").rglob("*.*")) < 2e6
