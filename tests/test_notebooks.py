"""The notebooks of the documentation run from beginning to end, and are kept with what they printed."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Jupyter's own
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path) -> None:
    book = nbformat.read(path, as_version=4)
    NotebookClient(book, timeout=None, resources={"metadata": {"path": str(tmp_path)}}).execute()
    kept = nbformat.read(path, as_version=4)
    for ours, now in zip(_kinds_of_output(kept), _kinds_of_output(book), strict=True):
        assert ours == now


def _kinds_of_output(book: nbformat.NotebookNode) -> list[list[str]]:
    """Per code cell, what it put out; what packages say on standard error, such as about the terminal, is left out.

    What is printed counts once, in however many pieces it came: on a busy machine standard error comes in between.
    """
    cells = [cell for cell in book.cells if cell.cell_type == "code"]
    shown = [[output.output_type for output in cell.outputs if output.get("name") != "stderr"] for cell in cells]
    return [[kind for kind in kinds if kind != "stream"] + ["stream"] * ("stream" in kinds) for kinds in shown]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_as_it_ran_and_small(path: Path) -> None:
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert all(output.output_type != "error" for cell in cells for output in cell.outputs)
    assert path.stat().st_size < 100_000
