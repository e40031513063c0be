"""A stranger's path: the README and a wheel in an empty folder, every command of its tour as it is pasted."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

pytestmark = pytest.mark.system
ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"## From a space to a network\n\n```bash\n(.*?)```", re.DOTALL)


def test_the_tour_of_the_readme_works_from_a_wheel_in_an_empty_folder(tmp_path: Path) -> None:
    wheels, home = tmp_path / "wheels", tmp_path / "home"
    home.mkdir()
    subprocess.run(["uv", "build", "-q", "--wheel", "--out-dir", str(wheels), str(ROOT)], check=True)
    subprocess.run(["uv", "venv", "-q", str(tmp_path / "env")], check=True)
    python, (wheel,) = tmp_path / "env" / "bin" / "python", wheels.glob("*.whl")
    subprocess.run(["uv", "pip", "install", "-q", "--python", str(python), str(wheel)], check=True)
    apart = ("PYTHONPATH", "VIRTUAL_ENV", "MLFLOW_TRACKING_URI")
    variables = {name: value for name, value in os.environ.items() if name not in apart}
    variables |= {"PATH": f"{python.parent}:{os.environ['PATH']}", "BNNSEARCH_CACHE": str(tmp_path / "cache")}

    def paste(line: str) -> str:
        done = subprocess.run(
            ["bash", "-c", line], cwd=home, env=variables, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    images, labels = load_digits(return_X_y=True)
    Image.fromarray((images[0].reshape(8, 8) * 255 / 16).astype(np.uint8)).save(home / "digit.png")
    (block,) = BLOCK.findall((ROOT / "README.md").read_text())
    lines = [line.replace("uv run ", "").replace("IMAGES", "digit.png") for line in block.splitlines()]
    (home / "spaces").mkdir()
    paste("bnnsearch init digits_quickstart -o spaces/digits_quickstart.yaml")
    told = {}
    for line in lines:
        command = line.split()[1]
        if command == "ui":
            look(line, home, variables)
        else:
            told[command] = told.get(command, "") + paste(line)
    assert "Pareto front" in told["run"]
    assert "same labels as the trained network" in told["pack"]
    assert re.search(r"digit\.png\D+" + str(labels[0]), told["predict"])


def look(line: str, home: Path, variables: dict[str, str]) -> None:
    """MLflow's page is there until it is ended."""
    with subprocess.Popen(
        ["bash", "-c", f"exec {line.partition('#')[0]}"], cwd=home, env=variables, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert any("http://127.0.0.1" in told for told in iter(process.stdout.readline, ""))
        process.terminate()
        process.stdout.read()
