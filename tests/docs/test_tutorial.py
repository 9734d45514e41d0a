"""docs/tutorial.ipynb runs from top to bottom, without a network and without a warning."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.ipynb"


@pytest.fixture
def execute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Execute a notebook here, in a kernel of this Python; return the outputs of each code cell."""
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name))

    def execute(notebook: Any) -> list[list[Any]]:
        NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
        return [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]

    return execute


def test_it_is_stored_without_outputs() -> None:
    notebook = nbformat.read(TUTORIAL, 4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert not any(cell.metadata for cell in notebook.cells)


@pytest.mark.slow
def test_it_shows_its_figures_and_no_warnings(execute: Any) -> None:
    outputs = execute(nbformat.read(TUTORIAL, 4))
    shown = [output for cell in outputs for output in cell]
    assert not [output.text for output in shown if output.get("name") == "stderr"]
    text = "".join(output.text for output in shown if output.output_type == "stream")
    assert "\r" not in text
    assert "\x1b" not in text
    assert all(cell for cell in outputs)
    pictures = [output for output in shown if "image/png" in output.get("data", {})]
    assert len(pictures) == 4
    assert {path.name for path in Path("lightning_logs").iterdir()} == {
        "mlp-synthetic",
        "batchnorm_mlp-synthetic",
    }


def test_a_bar_is_one_output_that_is_redrawn(execute: Any) -> None:
    source = """
from tqdm import tqdm
from cifar_lab.dashboards.notebook import NotebookLine, in_notebook
bar = tqdm(range(3), mininterval=0, file=NotebookLine())
for number in bar:
    bar.set_description(f"{number}")
print(in_notebook())
"""
    (outputs,) = execute(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)]))
    bar, printed = outputs
    assert bar.data["text/plain"].startswith("2: 100%|██████████| 3/3")
    assert printed.text == "True\n"
