"""The notebook in examples: kept without outputs, and run from top to bottom where nbclient is installed."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parent.parent / "examples" / "align_your_photos.ipynb"


def test_it_is_kept_without_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) > 4
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


def test_it_runs_and_shows_aligned_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient", reason="`nox -s notebook` brings it")
    nbformat = pytest.importorskip("nbformat")
    image = pytest.importorskip("PIL.Image")
    numpy = pytest.importorskip("numpy")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute(cwd=str(tmp_path))
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    pictures = [output.data["image/png"] for output in outputs if "data" in output and "image/png" in output.data]
    assert len(pictures) == 2
    both = numpy.asarray(image.open(io.BytesIO(base64.b64decode(pictures[0]))).convert("L")).astype(float)
    before, after = both[:, :256], both[:, 256:]
    # What lies on itself keeps its contrast.
    assert after[after < 240].std() > before[before < 240].std()
    reports = list(tmp_path.rglob("report.html"))
    assert len(reports) == 1
    assert reports[0].stat().st_size > 500_000
