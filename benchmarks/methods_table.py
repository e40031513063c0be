r"""Table 1 of the BNEW paper at a budget of your own: every method on one network, equal epochs, several seeds.

    uv run python benchmarks/methods_table.py [--quick] [--json FILE]
    uv run python benchmarks/methods_table.py --data cifar10 --root ./data --model brn --epochs 60 --threads 2 \
        --runs cifar10.jsonl

With `--runs FILE` every run is a line of that file as soon as it ends, and is not repeated: a table can be made in
pieces.

As in the paper, the methods of one seed share their pretraining: real weights, binary activations. It is trained once
and every method goes on from its state. The other epochs are the method's, the last tenth of them, where the method has
such a phase, with frozen weights. Test accuracies are those of the sign network, read once per run. Nothing is tuned:
the settings are the published ones, the rates of gradual methods scaled to the length of the run (see `methods`).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from figures import write_figures

from bnnsearch.config.trial import TrialConfig
from bnnsearch.core.checkpoint import load_checkpoint, save_checkpoint
from bnnsearch.core.data import load_data, steps_per_epoch
from bnnsearch.core.loop import GradientTrainer
from bnnsearch.trial import build_trainer

PAPER_EPOCHS, PROXQUANT_EPOCHS, PAPER_STEPS = 1000, 200, 45_000 // 128
AUGMENT = {"digits": ["shift"], "mnist": ["shift"], "cifar10": ["crop", "flip"], "image_folder": ["crop", "flip"]}


def methods(epochs: int, steps: int) -> dict[str, dict[str, Any]]:
    """The methods' settings for a phase of `epochs` of `steps`, so that weights are pushed as far as published.

    Mirror descent's beta ends at 1.01^1000. BNEW's weights grow by the sum over all steps of 2 lambda eta, with time
    counted in phases as in the reference code; ProxQuant's move by the sum of eta reg_rate epoch.
    """
    stretch = PAPER_EPOCHS / epochs
    growth = stretch * PAPER_STEPS / steps
    pull = (PROXQUANT_EPOCHS / epochs) ** 2 * PAPER_STEPS / steps
    gradual = {"finetune_epochs": max(1, epochs // 10)}
    return {
        "STE": {"name": "ste"},
        "BMD": {"name": "bmd", "rate": 1.01**stretch, **gradual},
        "BOP": {"name": "bop"},
        "second-order BOP": {"name": "bop2"},
        "ProxQuant": {"name": "proxquant", "reg_rate": 1e-4 * pull, **gradual},
        "BNEW": {"name": "bnew", "time": "phase", "lambda_rate": 1e-2 * growth, **gradual},
    }


def trial(options: argparse.Namespace, method: dict[str, Any], pretrain: int, seed: int) -> TrialConfig:
    data = {"name": options.data, "augment": AUGMENT[options.data], "batch_size": options.batch_size}
    return TrialConfig.model_validate(
        {
            "data": data if options.data == "digits" else data | {"root": options.root},
            "model": {"name": options.model, "width": 0.5 if options.data == "digits" else 1.0},
            "method": method | {"pretrain_epochs": pretrain},
            "optimizer": {"name": "adam", "lr": 0.01},
            "plan": {"epochs": options.epochs, "dtype": options.dtype},
            "seed": seed,
        }
    )


def pretrained(config: TrialConfig, epochs: int, kept: Path | None) -> dict[str, Any]:
    """The state of a run of `config` after its pretraining; read from the file `kept` where there is one."""
    if kept and kept.exists():
        return load_checkpoint(kept)
    trainer = build_trainer(config)
    for metrics in trainer.fit():
        if metrics.epoch == epochs:
            break
    if kept:
        save_checkpoint(kept, trainer.state_dict())
    return trainer.state_dict()


def run(config: TrialConfig, start: dict[str, Any]) -> dict[str, float]:
    """The rest of a run from its pretrained state: accuracies of the sign network and seconds."""
    trainer = build_trainer(config)
    assert isinstance(trainer, GradientTrainer)
    trainer.load_state_dict(start)
    began = time.perf_counter()
    *_, last = trainer.fit()
    seconds = time.perf_counter() - began
    return {"val_acc": last.values["val_acc"], "test_acc": trainer.test()["test_acc"], "seconds": seconds}


class Runs:
    """The results of runs, by method, seed and settings; with a file, those of earlier calls too."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._settings = {key: getattr(options, key) for key in ("data", "model", "dtype", "epochs", "batch_size")}
        self._file: Path | None = options.runs
        lines = self._file.read_text().splitlines() if self._file and self._file.exists() else []
        self._lines: list[dict[str, Any]] = [json.loads(line) for line in lines]

    def of(self, method: str, seed: int) -> dict[str, float] | None:
        """The result of a run; None where it is still to be made."""
        wanted = self._settings | {"method": method, "seed": seed}
        return next((line["result"] for line in self._lines if line["run"] == wanted), None)

    def add(self, method: str, seed: int, result: dict[str, float]) -> None:
        self._lines.append({"run": self._settings | {"method": method, "seed": seed}, "result": result})
        if self._file:
            with self._file.open("a") as file:
                file.write(json.dumps(self._lines[-1]) + "\n")

    def pretrained(self, seed: int) -> Path | None:
        """Where the state after a seed's pretraining is kept."""
        name = "-".join(str(value) for value in self._settings.values())
        return self._file.with_name(f"{self._file.stem}-{name}-{seed}.ckpt") if self._file else None


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    pretrain = options.epochs // 4
    data = trial(options, {"name": "ste"}, pretrain, 0).data
    settings = methods(options.epochs - pretrain, steps_per_epoch(load_data(data).train, data.batch_size))
    runs = Runs(options)
    for seed in range(options.seeds):
        left = [name for name in settings if runs.of(name, seed) is None]
        if not left:
            continue
        start = pretrained(trial(options, {"name": "ste"}, pretrain, seed), pretrain, runs.pretrained(seed))
        for name in left:
            result = run(trial(options, settings[name], pretrain, seed), start)
            runs.add(name, seed, result)
            print(f"  seed {seed}, {name:18} test {result['test_acc']:.2%}, {result['seconds']:.0f} s", flush=True)
    return [row(name, [runs.of(name, seed) for seed in range(options.seeds)]) for name in settings]


def row(method: str, results: list[dict[str, float] | None]) -> dict[str, Any]:
    made = [result for result in results if result]
    test = [result["test_acc"] for result in made]
    return {
        "method": method,
        "seeds": len(made),
        "test_acc": mean(test),
        "deviation": stdev(test) if len(test) > 1 else 0.0,
        "val_acc": mean(result["val_acc"] for result in made),
        "seconds": mean(result["seconds"] for result in made),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20 epochs on the digits")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file as well")
    parser.add_argument("--data", choices=AUGMENT, default="digits")
    parser.add_argument("--root", default="./data", help="where MNIST, CIFAR-10 or the folder of images is")
    parser.add_argument("--model", choices=("cnn", "brn", "resnet20"), default="cnn")
    parser.add_argument("--epochs", type=int, default=60, help="of each run, a quarter of them shared pretraining")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--runs", type=Path, metavar="FILE", help="keep the runs in this file, and go on from it")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if options.quick:
        options.data, options.epochs, options.batch_size = "digits", 20, 32
    torch.set_num_threads(options.threads)
    rows = measure(options)
    print(f"\n{options.model} on {options.data}, {options.epochs} epochs, {options.seeds} seeds")
    print(f"{'method':18}{'test':>9}{'deviation':>11}{'validation':>12}{'seconds':>9}")
    for row in rows:
        print(
            f"{row['method']:18}{row['test_acc']:9.2%}{row['deviation']:11.2%}{row['val_acc']:12.2%}{row['seconds']:9.1f}"
        )
    settings = {key: getattr(options, key) for key in ("data", "model", "dtype", "epochs", "batch_size", "threads")}
    write_figures(options.json, rows, packages=["torch"], **settings)


if __name__ == "__main__":
    main()
