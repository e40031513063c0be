"""The headers of the shipped spaces: what they say of cost, growth and commands follows from the values below them."""

import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bnnsearch.config.scheduler import AshaConfig
from bnnsearch.config.trial import TrialConfig
from bnnsearch.core.data import load_data
from bnnsearch.core.data.imagenet import TRAIN_IMAGES
from bnnsearch.space import Space, load_space

ROOT = Path(__file__).parents[1]
SPACES = sorted((ROOT / "spaces").glob("*.yaml"))
PUBLISHED = {"mnist": 60_000, "cifar10": 50_000, "cifar100": 50_000, "imagenet": TRAIN_IMAGES}
"""Training images, before a part is held out."""

COST = re.compile(
    r"Cost: (?P<trials>\d+) trials of (?P<bound>at most )?(?P<epochs>\d+) epochs of (?P<images>[\d,]+) images, "
    r"(?P<all>[\de.]+) images(?: if none is stopped, (?P<halved>[\de.]+) with halving)?: "
    r"(?P<time>about a minute|[\d.]+ (?:minutes|hours?|days)) at (?P<speed>[\d,]+) images a second in all"
)
SECONDS = {"minute": 60, "hour": 3600, "day": 86_400}


def header(path: Path) -> str:
    """The comment at the head of a space, as one line."""
    lines = path.read_text(encoding="utf-8").partition("version:")[0].splitlines()[1:]
    return " ".join(line.removeprefix("#").strip() for line in lines)


def trials(space: Space) -> list[TrialConfig]:
    """So many trials drawn from the space that every value of its choices is among them."""
    return [TrialConfig.model_validate(space.trial.sample(Draws(seed))) for seed in range(60)]


class Draws:
    """Takes the upper bound of a number and any value of a choice."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def suggest_float(self, _name: str, _low: float, high: float, **_: Any) -> float:
        return high

    def suggest_int(self, _name: str, _low: int, high: int, **_: Any) -> int:
        return high

    def suggest_categorical(self, _name: str, choices: Sequence[Any]) -> Any:
        return self._random.choice(choices)


def number(text: str) -> float:
    return float(text.replace(",", ""))


def seconds(text: str) -> float:
    if text == "about a minute":
        return 60
    amount, unit = text.split()
    return float(amount) * SECONDS[unit.removesuffix("s")]


def images(config: TrialConfig) -> int:
    """Images of an epoch of training."""
    data = config.data
    if data.name == "digits":
        return len(load_data(data).train)
    return round(min(PUBLISHED[data.name], data.train_limit or PUBLISHED[data.name]) * (1 - data.val_fraction))


def halved(space: Space, epochs: int) -> float:
    """Mean epochs of a trial where of those at a rung one in `reduction_factor` goes on."""
    scheduler = space.study.scheduler
    assert isinstance(scheduler, AshaConfig)
    rungs = [epoch for epoch in range(1, epochs) if scheduler.is_rung(0, epoch=epoch, epochs=epochs)]
    ends = [*rungs, epochs]
    lengths = [end - start for start, end in zip([0, *rungs], ends, strict=True)]
    return sum(length / scheduler.reduction_factor**rung for rung, length in enumerate(lengths))


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_the_cost_that_a_header_tells_follows_from_the_values(path: Path) -> None:
    space = load_space(path)
    told = COST.search(header(path))
    assert told, f"{path}: the header's cost must read as {COST.pattern}"
    found = trials(space)
    epochs = max(config.plan.epochs for config in found)
    assert int(told["trials"]) == space.study.budget.trials
    assert int(told["epochs"]) == epochs
    halves = isinstance(space.study.scheduler, AshaConfig)
    assert bool(told["bound"]) == (halves or len({config.plan.epochs for config in found}) > 1)
    assert number(told["images"]) == max(map(images, found))
    everything = space.study.budget.trials * epochs * max(map(images, found))
    assert float(told["all"]) == pytest.approx(everything, rel=0.06)
    seen = everything
    assert bool(told["halved"]) == halves
    if halves:
        seen = everything * halved(space, epochs) / epochs
        assert float(told["halved"]) == pytest.approx(seen, rel=0.06)
    assert seconds(told["time"]) == pytest.approx(seen / number(told["speed"]), rel=0.15)


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_the_settings_that_a_header_names_can_be_set(path: Path) -> None:
    settings = re.findall(r"--set (\S+=[^\s,;)]+)", header(path))
    settings = [setting.rstrip(".").replace("DIR", "./data").replace("FILE", "weights.pth") for setting in settings]
    space = load_space(path, overrides=settings)
    assert len(trials(space)) > 1


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_a_header_names_what_it_needs(path: Path) -> None:
    needed = {config.data.name for config in trials(load_space(path))} - {"digits"}
    assert bool(needed) == ("BNN_DATA" in header(path))


def test_the_growth_and_pull_of_the_papers_are_what_their_settings_come_to() -> None:
    """CIFAR: 351 steps of 128 of 45,000 images, learning rate .01. ImageNet: 5,823 steps of 220, learning rate 1e-3.

    Growth is 2 lambda_rate lr sum over steps of the fraction of the phase that has passed; pull is
    lr reg_rate sum over steps of the epoch.
    """

    def growth(rate: float, *, epochs: int, steps: int) -> float:
        return 2 * rate * steps * sum((epoch + 1) / epochs for epoch in range(epochs))

    cifar, imagenet = 45_000 // 128, TRAIN_IMAGES // 220
    assert growth(0.01 * 0.01, epochs=980, steps=cifar) == pytest.approx(34, abs=0.5)
    assert growth(0.01 * 1e-3, epochs=400, steps=imagenet) == pytest.approx(23, abs=0.5)
    assert growth(1e-6, epochs=400, steps=imagenet) == pytest.approx(2.3, abs=0.05)
    assert 0.01 * 1e-4 * cifar * sum(range(200)) == pytest.approx(7, abs=0.05)
    for name, nats in {
        "cifar10_bnew": 34,
        "cifar10_methods": 34,
        "cifar100_bnew": 34,
        "imagenet_reactnet_bnew": 23,
    }.items():
        path = ROOT / "spaces" / f"{name}.yaml"
        assert [value for name, value in defaults(path).items() if name.endswith("growth")] == [nats]
        assert re.search(rf"(come to|growth of|growth) {nats}\b", header(path))
    methods = defaults(ROOT / "spaces" / "cifar10_methods.yaml")
    assert methods["method.proxquant.pull"] == 7
    assert methods["method.bmd.final_beta"] == pytest.approx(1.01**980, rel=0.02)


def defaults(path: Path) -> dict[str, Any]:
    """The default of everything that is searched, by its name."""
    return {parameter.name: parameter.distribution.default.plain for parameter in load_space(path).trial.parameters()}
