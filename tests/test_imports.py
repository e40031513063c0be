"""What may be imported where: training and deploying need no search, and what answers a person loads no torch."""

import subprocess
import sys

import pytest

BLOCKED_FOR_CORE = (
    "ray", "mlflow", "optuna", "deap", "numba", "safetensors", "sklearn", "scipy", "pandas", "matplotlib",
    "click", "rich", "ruamel", "lightning",
)  # fmt: skip

PRELUDE = """
import importlib, importlib.machinery, pkgutil, sys

class Without(importlib.machinery.PathFinder):
    # the blocked packages are as if not installed
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in BLOCKED else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Without

def import_all(package):
    module = importlib.import_module(package)
    for found in pkgutil.walk_packages(module.__path__, package + "."):
        importlib.import_module(found.name)
"""


def python(script: str, blocked: tuple[str, ...] = ()) -> str:
    ran = subprocess.run(
        [sys.executable, "-c", f"BLOCKED = {blocked!r}\n{PRELUDE}\n{script}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_the_core_needs_only_torch_torchvision_numpy_and_pydantic() -> None:
    python("import_all('bnnsearch.core'); import_all('bnnsearch.config')", BLOCKED_FOR_CORE)


def test_a_network_trains_with_nothing_else_installed() -> None:
    script = """
import torch
from bnnsearch.config.data import DigitsConfig
from bnnsearch.config.model import MlpConfig
from bnnsearch.config.method import SteConfig
from bnnsearch.config.plan import PlanConfig
from bnnsearch.config.trial import TrialConfig
from bnnsearch.core.data import Dataset, Split
from bnnsearch.core.loop import GradientTrainer
from bnnsearch.core.models.build import build_model

labels = torch.arange(200) % 2
images = (labels * 200).view(-1, 1, 1, 1).expand(-1, 1, 4, 4).to(torch.uint8).contiguous()
split = Split(images, labels, mean=(0.5,), std=(0.5,))
data = Dataset(split, split, split, classes=2, shape=(1, 4, 4))
model, plan = MlpConfig(hidden=(16,)), PlanConfig(epochs=3)
config = TrialConfig(data=DigitsConfig(), model=model, method=SteConfig(), plan=plan, seed=1)
torch.manual_seed(0)
trainer = GradientTrainer(config, data=data, model=build_model(model, shape=data.shape, classes=2))
print([metrics.values["val_acc"] for metrics in trainer.fit()][-1])
"""
    assert float(python(script, BLOCKED_FOR_CORE)) == 1.0


def test_a_trial_by_gradients_needs_nothing_of_evolution_or_search() -> None:
    script = """
from bnnsearch.config.trial import TrialConfig
from bnnsearch.trial import build_trainer
settings = {
    "data": {"name": "digits"}, "model": {"name": "mlp", "hidden": [16]},
    "method": {"name": "ste"}, "plan": {"epochs": 1}, "seed": 1,
}
assert next(iter(build_trainer(TrialConfig.model_validate(settings)).fit())).epoch == 1
"""
    python(script, tuple(set(BLOCKED_FOR_CORE) - {"sklearn", "scipy", "ruamel"}))


def test_predictions_from_files_need_no_torch() -> None:
    python("import bnnsearch.packed.predict; assert 'torch' not in sys.modules")


def test_packed_models_need_none_of_the_search() -> None:
    python("import_all('bnnsearch.packed')", ("ray", "mlflow", "optuna", "deap"))


@pytest.mark.parametrize(
    "words", [["--help"], ["run", "--help"], ["validate", "spaces/digits_quickstart.yaml"], ["schema"]]
)
def test_what_answers_a_person_loads_nothing_heavy(words: list[str], request: pytest.FixtureRequest) -> None:
    root = request.config.rootpath
    script = f"""
import os
os.chdir({str(root)!r})
from bnnsearch.cli import main
try:
    main({words!r})
except SystemExit as end:
    assert not end.code, end.code
heavy = {{"torch", "ray", "mlflow", "optuna", "numpy", "sklearn"}} & set(sys.modules)
assert not heavy, heavy
"""
    python(script)
