"""What the documents on members of one's own say works as it is written there: files, spaces and commands, in order."""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner
from guest_fixtures import nobody  # noqa: F401

import bnnsearch as bn
from bnnsearch.cli import main
from bnnsearch.config.families import FAMILIES
from bnnsearch.device.targets import TARGETS

DOCS = Path(__file__).parent.parent / "docs"
EXAMPLE = DOCS.parent / "examples" / "guest"
BLOCK = re.compile(r"^```(\w+)(?: ([\w.]+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    "document", ["own-method", "own-architecture", "own-model", "own-data", "own-trainer", "own-parts"]
)
def test_a_document_works_as_it_is_written(document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    ran = 0
    for kind, name, text in BLOCK.findall((DOCS / f"{document}.md").read_text(encoding="utf-8")):
        if name:
            Path(name).write_text(text, encoding="utf-8")
        for line in text.splitlines() if kind == "bash" else ():
            program, *words = shlex.split(line, comments=True)
            if program == "python":
                known = set(sys.modules)
                with monkeypatch.context() as patch:
                    patch.syspath_prepend(tmp_path)  # as Python does with a script's folder
                    runpy.run_path(words[0], run_name="__main__")
                for module in set(sys.modules) - known:
                    if Path(getattr(sys.modules[module], "__file__", None) or "/").parent == tmp_path:
                        del sys.modules[module]
                continue
            assert program == "bnnsearch"
            done = CliRunner().invoke(main, words)
            assert done.exit_code == 0, (line, done.output)
            ran += 1
    assert ran >= 3


@pytest.mark.slow
@pytest.mark.skipif(
    not all(map(shutil.which, [*TARGETS["cortex-m4"].tools, "clang", "wasm-ld"])),
    reason="gcc-arm-none-eabi, qemu-system-arm, clang, lld",
)
def test_the_way_to_a_device_works_as_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    test_a_document_works_as_it_is_written("device", tmp_path, monkeypatch)


def test_the_table_of_families_is_whole() -> None:
    text = (DOCS / "guests.md").read_text(encoding="utf-8")
    points = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]["entry-points"]
    for family in FAMILIES:
        assert f"`.{family.key}`" in text or f"`bnnsearch.{family.key}`" in text
        assert points[f"bnnsearch.{family.key}"], "an example of each"
    for path in re.findall(r"`(examples/[\w/.]+\.py)`", text):
        assert (DOCS.parent / path).exists()


def test_the_reference_has_every_page_and_the_settings_of_every_member() -> None:
    """Zensical, which builds it, sees to the rest (`make docs`)."""
    configured = (DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8")
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert set(re.findall(r"^ +- ([\w/-]+\.md)$", configured, re.MULTILINE)) == pages
    texts = "".join(path.read_text(encoding="utf-8") for path in (DOCS / "reference").glob("*.md"))
    documented = set(re.findall(r"^::: ([\w.]+)$", texts, re.MULTILINE))
    ours = {place.partition(":")[0] for family in FAMILIES for place in (family.base, *family.members.values())}
    assert ours <= documented
    for name in set(bn.__all__) - {"__version__"}:
        home = getattr(bn, name).__module__
        block = re.search(rf"^::: {re.escape(home)}\n((?: +.*\n)*)", texts, re.MULTILINE)
        listed = re.search(r"members: \[(.*)\]", block[1]) if block else None
        assert block and (listed is None or name in listed[1].split(", ")), f"{name} of {home} is in no page"


def test_the_pictures_are_small_and_show_what_a_search_says() -> None:
    """docs/screens.py makes them of a real run."""
    for page, folder in ((DOCS.parent / "README.md", DOCS.parent), (DOCS / "index.md", DOCS)):
        shown = re.findall(r"!\[.+\]\(([\w/.]+)\)", page.read_text(encoding="utf-8"))
        assert [Path(path).name for path in shown] == ["live.svg", "front.svg", "report.png"]
        assert all((folder / path).stat().st_size < 150_000 for path in shown)
    said = {
        name: (DOCS / "pictures" / f"{name}.svg").read_text(encoding="utf-8").replace("\xa0", " ")
        for name in ("live", "front")
    }
    assert re.search(r"\d+ of about \d+ epochs", said["live"])
    assert re.search(r"elapsed .* left", said["live"])
    assert re.search(r"Pareto front: \d+ of 24 finished trials", said["front"])
    for text in said.values():
        assert all(word in text for word in ("val_acc", "memory_", "knee", "hidden="))
        assert set(re.findall(r"https?://[\w./]+", text)) <= {"http://www.w3.org/2000/svg", "https://www.textualize.io"}
