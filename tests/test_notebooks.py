"""The notebooks of the documentation run from the first cell to the last."""

import time
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import koa_lightning

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "docs" / "notebooks").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_runs_in_two_minutes(file, tmp_path, alone, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(koa_lightning.__file__).parents[1]))
    notebook = nbformat.read(file, as_version=4)
    began = time.monotonic()
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    assert time.monotonic() - began < 120


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_is_executed_and_names_no_place_of_its_author(file):
    notebook = nbformat.read(file, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not any(output.output_type == "error" for cell in cells for output in cell.outputs)
    text = file.read_text()
    assert not any(place in text for place in ("/home/", "/root/", "/tmp/", "site-packages"))
