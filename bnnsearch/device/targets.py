"""Processors: how the C of a network is compiled for each, what it takes there, and where it is run by emulation."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bnnsearch import native
from bnnsearch.device.lower import lower
from bnnsearch.device.program import Program
from bnnsearch.device.project import header, interleaved
from bnnsearch.device.source import model_source
from bnnsearch.errors import EnvironmentProblem
from bnnsearch.packed.model import PackedModel

WARNINGS = ("-Wall", "-Wextra", "-Werror", "-pedantic")


@dataclass(frozen=True, slots=True)
class Target:
    """A processor, its compiler and its emulator.

    Attributes:
        name: what a user calls it.
        compiler: its command and the options of the processor.
        size: the command that tells the size of a program.
        emulator: the command that runs a program, whose path follows; the board is named in it.
        board: the files of `native/device/boards` it is linked with.
        link: options of the last step.
        memory: where flash and RAM begin, and their bytes; empty where an operating system knows.
        per_tick: instructions of a tick of the board's clock with `-icount shift=0`, one instruction a nanosecond; 0:
            there is none.
        order: of the bytes of a word, as numpy writes it.
        packages: what has its tools, on Debian.
    """

    name: str
    compiler: tuple[str, ...]
    size: str
    emulator: tuple[str, ...]
    board: tuple[str, ...]
    packages: tuple[str, ...]
    link: tuple[str, ...] = ()
    memory: tuple[int, int, int, int] | tuple[()] = ()
    per_tick: float = 0.0
    order: str = "<"

    @property
    def tools(self) -> list[str]:
        """The commands that must be there."""
        return list(dict.fromkeys([self.compiler[0], self.size, *self.emulator[:1]]))


def _arm(name: str, machine: str, mhz: float, *options: str, flash: int = 2**22, ram: int = 2**19) -> Target:
    return Target(
        name=name,
        compiler=("arm-none-eabi-gcc", f"-mcpu={name}", "-mthumb", *options),
        size="arm-none-eabi-size",
        emulator=("qemu-system-arm", "-M", machine, *_BARE),
        board=("harness.c", "semihosting.c"),
        packages=("gcc-arm-none-eabi", "qemu-system-arm"),
        link=("-nostdlib",),
        memory=(0, flash, 0x20000000, ram),
        per_tick=1000 / mhz,
    )


_BARE = (
    "-nographic",
    "-monitor",
    "none",
    "-serial",
    "none",
    "-semihosting-config",
    "enable=on,target=native",
    "-kernel",
)

TARGETS = {
    target.name: target
    for target in (
        Target("host", ("cc",), "size", (), ("harness.c", "hosted.c"), ("gcc",)),
        _arm("cortex-m0", "microbit", 16, flash=2**18, ram=2**14),
        _arm("cortex-m3", "mps2-an385", 25),
        _arm("cortex-m4", "mps2-an386", 25, "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"),
        _arm("cortex-m7", "mps2-an500", 25, "-mfloat-abi=hard", "-mfpu=fpv5-d16"),
        Target(
            name="riscv32",
            compiler=("riscv64-unknown-elf-gcc", "-march=rv32imc", "-mabi=ilp32", "-mcmodel=medany", "-ffreestanding"),
            size="riscv64-unknown-elf-size",
            emulator=("qemu-system-riscv32", "-M", "virt", "-bios", "none", *_BARE),
            board=("harness.c", "semihosting.c"),
            packages=("gcc-riscv64-unknown-elf", "qemu-system-misc"),
            link=("-nostdlib",),
            memory=(0x80000000, 2**22, 0x80400000, 2**19),
            per_tick=1,
        ),
        Target(
            name="aarch64",
            compiler=("aarch64-linux-gnu-gcc",),
            size="aarch64-linux-gnu-size",
            emulator=("qemu-aarch64",),
            board=("harness.c", "hosted.c"),
            packages=("gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross", "qemu-user"),
            link=("-static",),
        ),
        Target(  # big endian
            name="s390x",
            compiler=("s390x-linux-gnu-gcc",),
            size="s390x-linux-gnu-size",
            emulator=("qemu-s390x",),
            board=("harness.c", "hosted.c"),
            packages=("gcc-s390x-linux-gnu", "libc6-dev-s390x-cross", "qemu-user"),
            link=("-static",),
            order=">",
        ),
        Target(
            name="wasm32",
            compiler=("clang", "--target=wasm32"),
            size="wasm-ld",
            emulator=("node",),
            board=("wasm.c",),
            packages=("clang", "lld", "nodejs"),
            link=(
                "-nostdlib",
                "-Wl,--no-entry,--strip-all",
                "-Wl,--export=model_predict,--export=model_scores,--export=model_image",
            ),
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Measured:
    """A network on a target.

    Attributes:
        flash_bytes: code, tables and the compiler's own routines it needs, linked alone; the program's bytes as wasm.
        arena_bytes: its static memory.
        stack_bytes: the deepest that the stack was used in a prediction; 0 where that is not told.
        instructions: of one prediction, the most of all; 0 where they are not counted.
        labels: (N,).
        scores: (N, classes).
    """

    flash_bytes: int
    arena_bytes: int
    stack_bytes: int
    instructions: int
    labels: NDArray[np.int32]
    scores: NDArray[np.generic]

    @property
    def ram_bytes(self) -> int:
        """Arena and stack; the image is the caller's."""
        return self.arena_bytes + self.stack_bytes


def check_tools(target: Target) -> None:
    """Say what to install where something is missing.

    Raises:
        EnvironmentProblem: a tool of the target is missing.
    """
    missing = [tool for tool in target.tools if shutil.which(tool) is None]
    if missing:
        raise EnvironmentProblem(
            f"--target {target.name} needs {', '.join(missing)}; on Debian: apt-get install {' '.join(target.packages)}"
        )


def wasm_module(model: PackedModel, program: Program) -> bytes:
    """A network as a module of WebAssembly that imports nothing; `model_image` tells where in its memory an image goes.

    Raises:
        EnvironmentProblem: there is no compiler for it.
    """
    if missing := [tool for tool in ("clang", "wasm-ld") if shutil.which(tool) is None]:
        raise EnvironmentProblem(f"--wasm needs {', '.join(missing)}; on Debian: apt-get install clang lld")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_source(model, program, folder)
        _compile(TARGETS["wasm32"], folder)
        return (folder / "program").read_bytes()


def measure(
    model: PackedModel, target: Target, images: NDArray[np.uint8], *, count: bool = True, multiply_free: bool = False
) -> Measured:
    """Compile a network for a target and run it there.

    Args:
        model: the network.
        target: where.
        images: uint8, (N, C, H, W).
        count: count instructions, where the target can; this slows an emulator down.
        multiply_free: multiply by sums.

    Raises:
        EnvironmentProblem: a tool is missing, or fails; or the board's memory is too small.
        InputError: the network cannot be lowered.
    """
    check_tools(target)
    program = lower(model.graph, model.tensors, multiply_free=multiply_free)
    if target.memory and program.arena_bytes > target.memory[3]:
        rule = f"its board has {target.memory[3]:,} bytes of RAM, the network needs {program.arena_bytes:,} and a stack"
        raise EnvironmentProblem(f"--target {target.name}: {rule}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_source(model, program, folder)
        (folder / "images").write_bytes(interleaved(images).tobytes())
        _compile(target, folder)
        arena, flash = _sizes(target, folder)
        _run(target, folder, program, count=count)
        answers = np.fromfile(folder / "answers", target.order + "i4").astype(np.int32).reshape(len(images), -1)
    labels, ticks, stack, scores = answers[:, 0], answers[:, 1], answers[:, 2], answers[:, 3:]
    if program.number == "float":
        scores = np.ascontiguousarray(scores).view(np.float32)
    instructions = round(int(ticks.max()) * target.per_tick) if count else 0
    return Measured(flash, arena, int(stack.max()), instructions, labels, scores)


def _write_source(model: PackedModel, program: Program, folder: Path) -> None:
    (folder / "model.h").write_text(header(model, program, "model"), encoding="utf-8")
    (folder / "model.c").write_text(model_source(program, "model"), encoding="utf-8")


def _compile(target: Target, folder: Path) -> None:
    boards = Path(native.__file__).parent / "device" / "boards"
    compiler = [*target.compiler, "-std=c99", "-Os", *WARNINGS, "-I", str(folder)]
    _tool([*compiler, "-c", "model.c", "-o", "model.o"], folder)
    link = list(target.link)
    if target.memory:
        names = ("FLASH_AT", "FLASH_BYTES", "RAM_AT", "RAM_BYTES")
        link += [f"-Wl,--defsym,{name}={value}" for name, value in zip(names, target.memory, strict=True)]
        link += ["-Wl,-T", str(boards / "board.ld")]
    files = [str(boards / file) for file in target.board]
    libraries = [] if target.name == "wasm32" else ["-lgcc"]
    plain = ["-Os", "-fno-builtin", "-I", str(folder)]
    _tool([*target.compiler, *plain, *files, "model.o", *link, *libraries, "-o", "program"], folder)


def _sizes(target: Target, folder: Path) -> tuple[int, int]:
    """Bytes of static memory and of flash of the network alone, with the compiler's routines that it calls."""
    if target.name == "wasm32":
        return 0, (folder / "program").stat().st_size
    told = ["-nostdlib", "-Wl,--gc-sections", "-Wl,-e,model_predict", "-Wl,-u,model_scores"]
    alone = [*target.compiler, "model.o", *told, "-lgcc", "-o", "alone"]
    _tool(alone if target.memory else [target.compiler[0], "-r", "-nostdlib", "model.o", "-o", "alone"], folder)
    text, data, bss = _tool([target.size, "alone"], folder).splitlines()[1].split()[:3]
    return int(data) + int(bss), int(text) + int(data)


def _run(target: Target, folder: Path, program: Program, *, count: bool) -> None:
    command = [*target.emulator, "./program"]
    if target.name == "wasm32":
        script = Path(native.__file__).parent / "device" / "boards" / "node.js"
        image = program.image
        octets, classes = image.height * image.width * image.channels, program.stored[program.output].shape.channels
        command = ["node", str(script), "program", str(octets), str(classes)]
    elif target.per_tick and count:
        command[1:1] = ["-icount", "shift=0"]
    _tool(command, folder)


def _tool(command: Sequence[str], folder: Path) -> str:
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if ran.returncode:
        said = (ran.stderr or ran.stdout).strip().splitlines()
        raise EnvironmentProblem(f"{command[0]} failed: {said[0] if said else f'it ended with {ran.returncode}'}")
    return ran.stdout
