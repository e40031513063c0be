r"""Table 1 of the BNEW paper (Paren & Poudel, 2022) at a budget of your own: six methods, one network, equal epochs.

    uv run python benchmarks/methods_table.py --quick
    uv run python benchmarks/methods_table.py --data image_folder --root ./cifar10 --model brn --quantise 60 \
        --pretrain 20 --jobs 2 --runs cifar10.jsonl

As in the paper, the methods of one seed start from the same network, pretrained with real weights and binary
activations, the best of its epochs by validation. `--quantise` epochs are then the method's; gradual methods spend the
last tenth of them with frozen weights. Test accuracies are those of the sign network after the last epoch, read once
per run. Nothing is tuned: the settings are the published ones, and what grows with time is given by where it gets to
over the whole phase, which means the same at any budget. The paper has 200 epochs of pretraining and 1,000 of
quantisation.

With `--runs FILE` a run is a line of that file as soon as it ends, with all of its settings, and is not repeated;
`--table` prints what the file has, and trains nothing.
Beside the file lies the state of every pretraining, and of every run that was cut off, to go on from.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from figures import processor, write_figures

from bnnsearch.config.trial import TrialConfig
from bnnsearch.core.checkpoint import load_checkpoint, save_checkpoint
from bnnsearch.core.teacher import fingerprint
from bnnsearch.study.pretraining import pretraining_of
from bnnsearch.trial import build_trainer

METHODS: dict[str, dict[str, Any]] = {
    "STE": {"name": "ste"},
    "BMD": {"name": "bmd", "final_beta": 1.01**980},
    "BOP": {"name": "bop", "gamma": 1e-4, "threshold": 1e-8},
    "BOP2": {"name": "bop2"},
    "ProxQuant": {"name": "proxquant", "pull": 7.0},
    "BNEW": {"name": "bnew", "growth": 34.0},
    "BNEW 10": {"name": "bnew", "growth": 10.0},
}
"""Published settings: beta 1.01^epoch over 980 epochs, reg_rate 1e-4 over 200, lambda_rate .01 over 980.

But for `BNEW 10`: fewer epochs leave fewer steps between two weights that become binary, and 34 nats harden most of
them before the middle of the phase. It stands beside the published row, and has no place in Table 1.
"""

GRADUAL = {"BMD", "ProxQuant", "BNEW", "BNEW 10"}

PAPER = {"BOP": 84.5, "BNEW": 84.5, "STE": 84.3, "BMD": 84.0}
"""Test accuracies of Table 1, CIFAR-10 without distillation, %, each with a deviation of .2 to .4 over five seeds."""

AUGMENT = {"digits": ["shift"], "mnist": ["shift"], "cifar10": ["crop", "flip"], "image_folder": ["crop", "flip"]}

Result = dict[str, Any]


def trial(options: argparse.Namespace, method: str, seed: int) -> TrialConfig:
    """One run of the table."""
    data = {"name": options.data, "augment": AUGMENT[options.data], "batch_size": options.batch_size}
    data |= {"train_limit": options.train_limit} | ({} if options.data == "digits" else {"root": options.root})
    phases = {"pretrain_epochs": options.pretrain}
    if method in GRADUAL:
        phases["finetune_epochs"] = max(1, options.quantise // 10)
    return TrialConfig.model_validate(
        {
            "data": data,
            "model": {"name": options.model, "width": options.width},
            "method": METHODS[method] | phases,
            "optimizer": {"name": "adam", "lr": 0.01},
            "plan": {
                "epochs": options.pretrain + options.quantise,
                "dtype": options.dtype,
                "cuda_graph": options.device.startswith("cuda"),
            },
            "seed": seed,
        }
    )


def state_of(config: TrialConfig, states: Path) -> Path:
    """Where the state of a run lies: under a hash of all its settings."""
    return states / f"{fingerprint(config)}.pt"


def train(config: TrialConfig, epochs: int, states: Path, start: Path | None = None, *, device: str = "cpu") -> Result:
    """Train to the end of `epochs` epochs, on from the run's own state or else from that in `start`.

    The state is kept after every epoch, so that a run that is cut off repeats one at most.
    """
    trainer, kept = build_trainer(config, device=device), state_of(config, states)
    state: dict[str, Any] = {"epoch": 0, "values": {}, "seconds": 0.0}
    if kept.exists():
        state = load_checkpoint(kept)
    elif start:
        state = load_checkpoint(start) | {"seconds": 0.0}
    if "trainer" in state:
        trainer.load_state_dict(state["trainer"])
    before, began = state["seconds"], time.process_time()
    for metrics in trainer.fit() if state["epoch"] < epochs else ():
        seconds = before + time.process_time() - began
        state = {"epoch": metrics.epoch, "values": dict(metrics.values), "seconds": seconds}
        save_checkpoint(kept, state | {"trainer": trainer.state_dict()})
        if metrics.epoch == epochs:
            break
    test = trainer.test() if epochs == config.plan.epochs else {}
    return {**state["values"], **test, "seconds": state["seconds"]}


def pretraining(config: TrialConfig) -> TrialConfig | None:
    """The run whose first epochs are the pretraining of all methods of a seed; None where there is none."""
    return pretraining_of(config.model_dump(mode="json"))


def pretrain(config: TrialConfig, states: Path, device: str = "cpu") -> None:
    if shared := pretraining(config):
        train(shared, config.method.pretrain_epochs, states, device=device)


def run(config: TrialConfig, states: Path, device: str = "cpu") -> Result:
    """One run on from its pretraining: accuracies, when it was 90 % binary, seconds of processor time."""
    shared = pretraining(config)
    values = train(config, config.plan.epochs, states, state_of(shared, states) if shared else None, device=device)
    return {name: values[name] for name in ("val_acc", "test_acc", "mostly_binary_at", "seconds") if name in values}


def machine(device: str) -> str:
    """What computes on `device`, by its name."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else processor()


class Runs:
    """The results of runs by all their settings; with a file, those of earlier calls too."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        lines = file.read_text().splitlines() if file and file.exists() else []
        self._results = {self._key(line["run"]): line["result"] for line in map(json.loads, lines)}

    def of(self, config: TrialConfig) -> Result | None:
        """The result of a run; None where it is still to be made."""
        return self._results.get(self._key(config.model_dump(mode="json")))

    def add(self, config: TrialConfig, result: Result, device: str = "cpu") -> None:
        settings = config.model_dump(mode="json")
        self._results[self._key(settings)] = result
        if self._file:
            line = {"run": settings, "result": result, "processor": machine(device)}
            with self._file.open("a") as file:
                file.write(json.dumps(line) + "\n")

    @staticmethod
    def _key(settings: dict[str, Any]) -> str:
        """All of the settings, but for one that changes no bit of the result."""
        plan = {name: value for name, value in settings["plan"].items() if name != "cuda_graph"}
        return json.dumps(settings | {"plan": plan})


def make(left: dict[tuple[str, int], TrialConfig], runs: Runs, states: Path, *, jobs: int, device: str) -> None:
    """Make the runs that are left, `jobs` at a time on one thread each; their pretrainings first."""
    context = get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        first = {seed: config for (_, seed), config in left.items()}
        list(pool.map(partial(pretrain, states=states, device=device), first.values()))
        futures = {pool.submit(run, config, states, device): key for key, config in left.items()}
        for future in as_completed(futures):
            (method, seed), result = futures[future], future.result()
            runs.add(left[method, seed], result, device)
            state_of(left[method, seed], states).unlink(missing_ok=True)
            print(f"  seed {seed}, {method:10} test {result['test_acc']:.2%}, {result['seconds']:.0f} s", flush=True)


def rank(of: float, among: Iterable[float]) -> int:
    """1 for the highest; equal ones share a rank."""
    return 1 + sum(other > of for other in among)


def rows(wanted: dict[tuple[str, int], TrialConfig], runs: Runs) -> list[dict[str, Any]]:
    """A row for each method, over its seeds."""
    table = []
    for method in dict.fromkeys(method for method, _ in wanted):
        made = [result for (name, _), config in wanted.items() if name == method and (result := runs.of(config))]
        if not made:
            continue
        test = [result["test_acc"] for result in made]
        row = {name: mean(result[name] for result in made) for name in ("test_acc", "val_acc", "seconds")}
        row |= {"method": method, "n": len(test), "deviation": stdev(test) if len(test) > 1 else None}
        binary = [result.get("mostly_binary_at") for result in made] if method in GRADUAL else []
        row["binary_at"] = "never" if None in binary else mean(binary) if binary else None
        row["paper_rank"] = rank(PAPER[method], PAPER.values()) if method in PAPER else None
        table.append(row)
    tested = [row["test_acc"] for row in table if row["method"] in PAPER]
    return [row | {"rank": rank(row["test_acc"], tested) if row["method"] in PAPER else None} for row in table]


def order_note(table: list[dict[str, Any]]) -> str:
    """Whether the methods that the paper has are in its order, and by how much those that are not miss it."""
    mine = {row["method"]: row for row in table if row["method"] in PAPER}
    swapped = [
        f"{low} {mine[low]['test_acc']:.2%} above {high} {mine[high]['test_acc']:.2%}"
        for high in mine
        for low in mine
        if PAPER[high] > PAPER[low] and mine[high]["test_acc"] < mine[low]["test_acc"]
    ]
    return f"order other than Table 1's: {'; '.join(swapped)}" if swapped else "the order is that of Table 1"


def described(options: argparse.Namespace) -> str:
    """What the images are: a folder of JPEG files is not the data set whose pixels were once compressed into it."""
    if options.data != "image_folder":
        return str(options.data)
    kinds = {file.suffix.lower() for file in Path(options.root, "train").glob("*/*")}
    lossy = " (JPEG re-encoded)" if kinds & {".jpg", ".jpeg"} else ""
    return f"{Path(options.root).resolve().name}{lossy}, a folder of images"


def show(table: list[dict[str, Any]], options: argparse.Namespace, data: str) -> None:
    limit = f", {options.train_limit} images" if options.train_limit else ""
    by = machine(options.device)
    print(f"\n{options.model} of width {options.width:g} on {data}{limit}; {options.seeds} seeds; {by}")
    print(f"{options.pretrain} epochs of shared pretraining, {options.quantise} of each method")
    print("method       n     test  deviation  validation  rank  Table 1  90 % binary       s")
    for row in table:
        deviation = "-" if row["deviation"] is None else f"{row['deviation']:.2%}"
        binary = f"{row['binary_at']:.2f}" if isinstance(row["binary_at"], float) else row["binary_at"] or "-"
        print(
            f"{row['method']:11}{row['n']:3}{row['test_acc']:9.2%}{deviation:>11}{row['val_acc']:12.2%}"
            f"{row['rank'] or '-':>6}{row['paper_rank'] or '-':>9}{binary:>13}{row['seconds']:8.0f}"
        )
    print(order_note(table))
    print("90 % binary: the share of the quantisation phase after which so many weights were; s: processor seconds.")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20 epochs on the digits")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file as well")
    parser.add_argument("--data", choices=AUGMENT, default="digits")
    parser.add_argument("--root", default="./data", help="where MNIST, CIFAR-10 or the folder of images is")
    parser.add_argument("--train-limit", type=int, metavar="N", help="use only this many training images")
    parser.add_argument("--model", choices=("cnn", "brn", "resnet20"), default="cnn")
    parser.add_argument("--width", type=float, default=1.0, help="factor on the model's channels")
    parser.add_argument("--pretrain", type=int, metavar="N", default=20, help="epochs of pretraining, shared per seed")
    parser.add_argument(
        "--quantise", type=int, metavar="N", default=40, help="epochs of the method, fine-tuning included"
    )
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="METHOD")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--device", default="cpu", help="torch device; the jobs share a GPU")
    parser.add_argument("--runs", type=Path, metavar="FILE", help="keep the runs in this file, and go on from it")
    parser.add_argument("--table", action="store_true", help="print the runs that are there, and make none")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, on one thread each")
    if parser.parse_args().quick:
        parser.set_defaults(data="digits", model="cnn", width=0.5, batch_size=32, pretrain=5, quantise=15)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    data = described(options)
    wanted = {
        (method, seed): trial(options, method, seed) for seed in range(options.seeds) for method in options.methods
    }
    runs = Runs(options.runs)
    left = {} if options.table else {key: config for key, config in wanted.items() if runs.of(config) is None}
    with tempfile.TemporaryDirectory() as folder:
        states = options.runs.with_suffix(".states") if options.runs else Path(folder)
        if left:
            states.mkdir(parents=True, exist_ok=True)
            make(left, runs, states, jobs=options.jobs, device=options.device)
    table = rows(wanted, runs)
    show(table, options, data)
    settings = {name: value for name, value in vars(options).items() if name not in ("json", "runs", "quick", "table")}
    write_figures(options.json, table, packages=["torch"], images=data, **settings)


if __name__ == "__main__":
    main()
