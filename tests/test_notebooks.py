"""Do the notebooks run from the first cell to the last, show their figures, and are they kept without outputs?"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        assert not cell.get("outputs"), f"strip the outputs of {path.name} before committing"
        assert cell.get("execution_count") is None
        assert not cell["metadata"]
    assert set(notebook["metadata"]["language_info"]) == {"name"}, "the version of somebody's Python"


@pytest.mark.parametrize("page", ["notebooks/README.md", "docs/start.md"])
def test_every_notebook_is_on_the_pages_that_list_them(page: str) -> None:
    text = (NOTEBOOKS[0].parents[1] / page).read_text(encoding="utf-8")
    assert [path.name for path in NOTEBOOKS if path.name not in text] == []


@pytest.mark.thorough
@pytest.mark.filterwarnings("default")  # of Jupyter's own machinery
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_its_figures(path: Path, tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient", reason="notebooks need pip install '.[notebooks]'")
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    if kept := os.environ.get("ACCELSIM_NOTEBOOKS"):  # for the site, which need not run them again
        nbformat.write(notebook, Path(kept) / path.name)
    complaints = [output["text"] for output in outputs if output.get("name") == "stderr"]
    assert not complaints, "a reader would see these warnings"
