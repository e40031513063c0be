"""Builds the native library with the package: by Zig's C compiler, which comes as a wheel, or by the one that CC
names, with the flags of CFLAGS.

Every source below bnnsearch/native that has a `KERNEL` is compiled once per instruction set of the platform, and all go
into one library. BNNSEARCH_TARGET names another platform, a key of `TARGETS`, for Zig to build a wheel for.
"""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FLAGS = [
    "-std=c11",
    "-O3",
    "-Wall",
    "-Wextra",
    "-fPIC",
    "-fvisibility=default",
    "-fno-sanitize=all",
    "-ffp-contract=off",
]
AVX2 = ["-mavx2", "-mbmi", "-mbmi2", "-mfma", "-mlzcnt", "-mpopcnt"]
AVX512 = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vpopcntdq", "-mprefer-vector-width=512"]
X86 = {
    "avx512": AVX2 + AVX512,
    "avx2": AVX2,
    "portable": [],
}
ARM = {"neon": [], "portable": ["-DBNN_PORTABLE"]}
# target: wheel's platform, suffix, variants
TARGETS = {
    "x86_64-linux-gnu.2.17": ("manylinux_2_17_x86_64", ".so", X86),
    "aarch64-linux-gnu.2.17": ("manylinux_2_17_aarch64", ".so", ARM),
    "aarch64-macos.11.0": ("macosx_11_0_arm64", ".dylib", ARM),
    "x86_64-windows-gnu": ("win_amd64", ".dll", X86),
}


class NativeBuild(BuildHookInterface):  # type: ignore[type-arg]
    """Hatchling's hook."""

    def dependencies(self) -> list[str]:
        """Zig is 100 MB to load: only where it is needed."""
        return [] if os.environ.get("CC") else ["ziglang>=0.16,<0.18"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the library: in place for an editable install, else into the wheel alone."""
        target = os.environ.get("BNNSEARCH_TARGET")
        if target not in {None, *TARGETS}:
            raise SystemExit(f"BNNSEARCH_TARGET: {target!r} is none of {', '.join(TARGETS)}")
        target = target or here()
        if target not in TARGETS:
            self.app.display_warning(f"no native library for {target}: evolution will not run, packed models slowly")
            return
        tag, suffix, variants = TARGETS[target]
        if os.environ.get("CC"):  # bound to this system's C library
            tag = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        native = Path(self.root, "bnnsearch", "native")
        self._folder = tempfile.TemporaryDirectory()
        library = Path(native if version == "editable" else self._folder.name, f"library{suffix}")
        build(native, library, target, variants)
        build_data.update(pure_python=False, tag=f"py3-none-{tag}")
        if version != "editable":  # there it is found in its place
            build_data["force_include"][str(library)] = f"bnnsearch/native/{library.name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """The wheel has the library now."""
        if hasattr(self, "_folder"):
            self._folder.cleanup()


def here() -> str:
    """This machine's target."""
    machine = {"AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
    system = {"linux": "linux-gnu.2.17", "darwin": "macos.11.0", "win32": "windows-gnu"}.get(sys.platform, sys.platform)
    return f"{machine}-{system}"


def build(native: Path, library: Path, target: str, variants: dict[str, list[str]]) -> None:
    """Compile and link."""
    zig = [sys.executable, "-m", "ziglang", "cc", "-target", target]
    compiler = shlex.split(os.environ.get("CC", "")) or zig
    own_flags = shlex.split(os.environ.get("CFLAGS", ""))
    with tempfile.TemporaryDirectory() as folder:
        jobs = []
        for source in sorted(set(native.rglob("*.c")) - set(native.glob("device/**/*.c"))):  # those are for devices
            for variant, flags in variants.items() if "KERNEL(" in source.read_text() else [("", [])]:
                target_file = Path(folder, f"{source.stem}_{variant}.o")
                name = [f"-DKERNEL(name)=bnn_{variant}_##name"] if variant else []
                jobs.append([*compiler, *FLAGS, *flags, *own_flags, *name, "-c", str(source), "-o", str(target_file)])
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(run, jobs))
        objects = [job[-1] for job in jobs]
        fresh = library.with_name(f"new_{library.name}")
        run([*compiler, *own_flags, "-shared", "-s", "-o", str(fresh), *objects, "-lm"])
        fresh.replace(library)  # whole or not at all, and never below a process that has it loaded


def run(command: list[str]) -> None:
    """Raise with the compiler's words if it fails."""
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise SystemExit(f"{shlex.join(command)}\n{ran.stderr}")
