"""The C of packed networks: the labels and scores of the packed runtime, on this machine and on emulated devices."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from test_packed import MODELS, pack, random_images, settle

from bnnsearch.cli import main
from bnnsearch.config.activation import RpreluConfig
from bnnsearch.config.model import (
    CnnConfig,
    MlpConfig,
    ModelConfig,
    Realtobinary18Config,
    Resnet20Config,
    VggSmallConfig,
)
from bnnsearch.config.study import DeviceName
from bnnsearch.core.arrays import Scaling
from bnnsearch.core.models.build import build_model
from bnnsearch.device.cost import REFERENCE, device_costs
from bnnsearch.device.lower import lower
from bnnsearch.device.project import expected_scores, sample_images, write_project
from bnnsearch.device.targets import TARGETS, measure
from bnnsearch.errors import EnvironmentProblem, InputError
from bnnsearch.packed.format import Preprocessing
from bnnsearch.packed.model import PackedModel

DIGITS = (1, 28, 28)
INTEGER = CnnConfig(channels=(10, 16, 24), pool_after=(1, 2), first="int8", classifier="int8", head="mean")
REAL = CnnConfig(channels=(8, 16), pool_after=(1, 2))
DEVICES = get_args(DeviceName)
FLAGS = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]
FEW: list[tuple[ModelConfig, tuple[int, int, int]]] = [
    (INTEGER, DIGITS),
    (INTEGER.model_copy(update={"first": "binary", "classifier": "binary", "head": "flatten"}), DIGITS),
    (MlpConfig(hidden=(40, 21), activation=RpreluConfig(), scale="xnor"), (3, 7, 5)),
    (Resnet20Config(width=0.3, depths=(1, 2, 1), block="pre", shortcut="conv"), (3, 17, 19)),
    (Realtobinary18Config(stem="small", width=0.1), (3, 16, 16)),
]


def packed(config: ModelConfig, shape: tuple[int, int, int]) -> PackedModel:
    torch.manual_seed(0)
    return pack(settle(build_model(config, shape=shape, classes=10), shape), shape)


@pytest.fixture(scope="module")
def model() -> PackedModel:
    return packed(INTEGER, DIGITS)


def check_equal(model: PackedModel, target: str, images: np.ndarray, *, count: bool = False) -> None:
    """Same labels and scores on every image."""
    if missing := [tool for tool in TARGETS[target].tools if shutil.which(tool) is None]:
        pytest.skip(f"{', '.join(missing)} is not installed: apt-get install {' '.join(TARGETS[target].packages)}")
    found = measure(model, TARGETS[target], images, count=count)
    np.testing.assert_array_equal(found.labels, model.predict(images))
    np.testing.assert_array_equal(found.scores, expected_scores(model, lower(model.graph, model.tensors), images))
    assert (found.instructions > 0) == (count and TARGETS[target].per_tick > 0)


@pytest.mark.parametrize(("config", "shape"), FEW, ids=lambda value: getattr(value, "name", None))
def test_the_c_scores_as_the_packed_runtime_does(config: ModelConfig, shape: tuple[int, int, int]) -> None:
    check_equal(packed(config, shape), "host", np.concatenate((sample_images(shape), random_images(20, shape))))


@pytest.mark.full
@pytest.mark.parametrize(("config", "shape"), MODELS, ids=lambda value: getattr(value, "name", None))
def test_every_family_scores_so_on_a_thousand_images(config: ModelConfig, shape: tuple[int, int, int]) -> None:
    check_equal(packed(config, shape), "host", random_images(1000, shape))


@pytest.mark.parametrize("target", [name for name in TARGETS if name != "host"])
def test_every_target_scores_so(model: PackedModel, target: str) -> None:
    check_equal(model, target, sample_images(DIGITS)[:4], count=True)


@pytest.mark.full
@pytest.mark.parametrize("target", [name for name in TARGETS if name != "host"])
def test_every_target_rounds_floats_so(target: str) -> None:
    check_equal(packed(REAL, DIGITS), target, sample_images(DIGITS)[:4])


@pytest.mark.parametrize(
    ("config", "target"),
    [(config, REFERENCE) for config in (INTEGER, REAL)] + [(INTEGER, name) for name in DEVICES if name != REFERENCE],
    ids=lambda value: value if isinstance(value, str) else value.first,
)
def test_flash_ram_and_instructions_are_known_before_training(config: ModelConfig, target: str) -> None:
    """Of a fresh network, as compiler and emulator say of a trained one: flash within 1 %, RAM 0.3 %, time 5 %."""
    if missing := [tool for tool in TARGETS[target].tools if shutil.which(tool) is None]:
        pytest.skip(f"{', '.join(missing)} is not installed")
    fresh = pack(build_model(config, shape=DIGITS, classes=10).eval(), DIGITS)
    found = measure(packed(config, DIGITS), TARGETS[target], sample_images(DIGITS)[:1])
    known = device_costs(lower(fresh.graph, fresh.tensors), target)
    assert known == {
        "flash_bytes": pytest.approx(found.flash_bytes, rel=0.01),
        "ram_bytes": pytest.approx(found.ram_bytes, rel=0.003),
        "device_cycles": pytest.approx(found.instructions, rel=0.05),
    }


def compiled(compiler: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    return subprocess.run([compiler, *arguments], cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_compilers_and_sanitizers_find_nothing(model: PackedModel, compiler: str, tmp_path: Path) -> None:
    write_project(model, tmp_path)
    sanitized = [*FLAGS, "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    done = compiled(compiler, *sanitized, "src/model.c", "test/test.c", "-o", "tested", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    ran = subprocess.run(tmp_path / "tested", capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.returncode) == ("10 of 10 labels equal, 10 of 10 with equal scores\n", 0), ran.stderr


def test_numbers_become_the_octets_of_training_as_its_readme_says(tmp_path: Path) -> None:
    """The C of the README makes the octets that training saw; a number is off by half a step at most."""
    network = packed(MlpConfig(hidden=(9,)), (2, 1, 8))
    scaling = Scaling(layout="NCL", low=(-1.25, 1e-4), high=(3.5, 0.03))
    model = PackedModel(network.graph, network.tensors, preprocessing=Preprocessing(arrays=scaling))
    write_project(model, tmp_path)
    octet = re.search(r"```c\n(static uint8_t octet.*?)```", (tmp_path / "README.md").read_text(), re.DOTALL)
    assert octet is not None
    low, high = (np.array(bound)[:, None] for bound in (scaling.low, scaling.high))
    numbers = np.random.default_rng(0).uniform(low - (high - low) / 9, high + (high - low) / 9, (2, 500))
    rows = ",\n".join(f"{{{', '.join(map(repr, row))}}}" for row in numbers.tolist())
    (tmp_path / "told.c").write_text(
        f"""#include <stdio.h>
#include "src/model.h"
{octet[1]}
static const double numbers[2][500] = {{{rows}}};
int main(void) {{
    for (int c = 0; c < 2; c++) for (int i = 0; i < 500; i++) printf("%d ", octet(numbers[c][i], c));
    return 0;
}}
"""
    )
    done = compiled("gcc", *FLAGS, "told.c", "-o", "told", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    told = subprocess.run(tmp_path / "told", capture_output=True, text=True, check=True).stdout
    octets = scaling.octets(numbers.T[:, :, None])[:, :, 0, 0].T
    assert list(map(int, told.split())) == octets.ravel().tolist()
    inside = (low <= numbers) & (numbers <= high)
    off = np.abs(low + octets * (high - low) / 255 - numbers) / ((high - low) / 255)
    assert 0.49 < off[inside].max() <= 0.5 + 1e-9
    assert off[~inside].max() > 1
    assert "octets are round(255 (x - low) / (high - low)), low -1.25 to 0.0001 by channel" in scaling.described()


def test_the_library_calls_nothing(model: PackedModel, tmp_path: Path) -> None:
    write_project(model, tmp_path)
    assert compiled("gcc", *FLAGS, "-Os", "-c", "src/model.c", folder=tmp_path).returncode == 0
    assert compiled("nm", "-u", "model.o", folder=tmp_path).stdout.split() in ([], ["U", "_GLOBAL_OFFSET_TABLE_"])


def test_a_processor_without_a_multiplier_needs_no_routine_for_it(model: PackedModel, tmp_path: Path) -> None:
    """RV32I has none: what is multiplied calls __mulsi3, unless `--multiply-free` makes sums of it."""
    plain = ("-march=rv32ic", "-mabi=ilp32")
    for free, needed in ((False, True), (True, False)):
        write_project(model, tmp_path, multiply_free=free)
        flags = [*plain, *FLAGS, "-Os", "-ffreestanding"]
        done = compiled("riscv64-unknown-elf-gcc", *flags, "-c", "src/model.c", folder=tmp_path)
        assert done.returncode == 0, done.stderr
        listed = compiled("riscv64-unknown-elf-nm", "-u", "model.o", folder=tmp_path).stdout
        assert ("__mul" in listed) == needed
    assert "integers only, and no multiplication" in (tmp_path / "README.md").read_text()
    target = TARGETS["riscv32"]
    compiler = tuple("-march=rv32ic" if option.startswith("-march") else option for option in target.compiler)
    images = sample_images(DIGITS)[:4]
    found = measure(model, replace(target, compiler=compiler), images, multiply_free=True)
    np.testing.assert_array_equal(found.labels, model.predict(images))
    with pytest.raises(InputError, match="needs floating point"):
        write_project(packed(REAL, DIGITS), tmp_path, multiply_free=True)


def test_an_arena_that_is_too_small_does_not_compile(model: PackedModel, tmp_path: Path) -> None:
    size = write_project(model, tmp_path).arena_bytes
    for given, code in ((size, 0), (size - 1, 1)):
        done = compiled("gcc", f"-DMODEL_ARENA_BYTES={given}", "-c", "src/model.c", folder=tmp_path)
        assert done.returncode == code
    assert "arena_holds_the_network" in done.stderr


def test_two_networks_are_one_program_of_c_plus_plus(model: PackedModel, tmp_path: Path) -> None:
    write_project(model, tmp_path, prefix="one")
    write_project(packed(MlpConfig(hidden=(9,)), (1, 4, 4)), tmp_path, prefix="two")
    (tmp_path / "both.cc").write_text(
        '#include "src/one.h"\n#include "src/two.h"\nstatic uint8_t pixels[ONE_IMAGE_BYTES];\n'
        "int main() { return one_predict(pixels) + two_predict(pixels) < 0; }\n"
    )
    for name in ("one", "two"):
        assert compiled("gcc", *FLAGS, "-c", f"src/{name}.c", folder=tmp_path).returncode == 0
    done = compiled("g++", "-Wall", "-Werror", "-pedantic", "both.cc", "one.o", "two.o", "-o", "both", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert subprocess.run(tmp_path / "both", check=False).returncode == 0


def test_the_files_are_a_function_of_the_model(model: PackedModel, tmp_path: Path) -> None:
    model.save(tmp_path / "model.bnn")
    write_project(model, tmp_path / "a")
    write_project(PackedModel.load(tmp_path / "model.bnn"), tmp_path / "b")
    files = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file()]
    assert len(files) == 10
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_network_that_needs_floats_is_refused_by_name(tmp_path: Path) -> None:
    model = packed(REAL, DIGITS)
    with pytest.raises(
        InputError, match="needs floating point: input: the normalised image has values that are no int"
    ):
        write_project(model, tmp_path, integer=True)
    with pytest.raises(InputError, match="prefix must be a lower-case C name"):
        write_project(model, tmp_path, prefix="1st")
    assert not list(tmp_path.iterdir())


def test_commands(model: PackedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = str(tmp_path / "model.bnn")
    model.save(file)
    done = CliRunner().invoke(main, ["pack", file, "--c", str(tmp_path / "c"), "--integer", "--prefix", "digits"])
    assert done.exit_code == 0, done.output
    assert "in integers" in done.stdout
    made = subprocess.run(["make", "-s", "-C", tmp_path / "c", "test"], capture_output=True, text=True, check=False)
    assert made.stdout.startswith("10 of 10 labels equal"), made.stderr
    assert CliRunner().invoke(main, ["pack", file]).exit_code == 2
    assert CliRunner().invoke(main, ["bench", file, "--target", "z80"]).exit_code == 2
    packed(VggSmallConfig(width=0.05), (3, 32, 32)).save(file)
    done = CliRunner().invoke(main, ["bench", file, "--target", "cortex-m0"])
    assert done.exit_code == 3
    assert "--target cortex-m0: its board has 16,384 bytes of RAM, the network needs 24," in done.output
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentProblem, match=r"needs arm-none-eabi-gcc, .*apt-get install gcc-arm-none-eabi qemu"):
        measure(model, TARGETS["cortex-m4"], sample_images(DIGITS))


def test_a_network_that_no_device_runs_is_named_before_a_search(tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    for width, code in ((40, 0), (2**15, 2)):
        space.write_text(
            "version: 1\nname: wide\nobjectives: [{metric: val_acc, mode: max}]\n"
            "constraints: [{metric: ram_bytes, max: 2048}]\nbudget: {trials: 1}\ntrial:\n  data: {name: digits}\n"
            f"  model: {{name: mlp, hidden: [{width}]}}\n  method: {{name: ste}}\n"
            "  optimizer: {name: adam, lr: {type: loguniform, min: 1.0e-3, max: 1.0e-2}}\n  plan: {epochs: 1}\n"
        )
        done = CliRunner().invoke(main, ["validate", str(space)])
        assert done.exit_code == code, done.output
    said = "ram_bytes of the trial of all defaults: this network cannot run on a device: a side or a number of channels"
    assert said in done.output + done.stderr
    for options in ([], ["--dry-run"], ["--executor", "local", "--json"]):
        run = CliRunner().invoke(main, ["run", str(space), "--runs", str(tmp_path / "runs"), *options])
        assert (run.exit_code, run.stderr) == (2, done.stderr)
    assert not (tmp_path / "runs").exists()
