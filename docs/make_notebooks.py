"""Executes docs/notebooks and stores the outputs in them.

Usage: python docs/make_notebooks.py (or make notebooks)
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parent / "notebooks"
NAMES = ("search.ipynb", "results.ipynb")
"""In their order: the second one reads what the first one searched."""
SECONDS = 240
"""Longest time of a cell."""


def execute(name: str, folder: Path, first: str = "") -> nbformat.NotebookNode:
    """Execute a notebook in a new kernel, with the environment variables of this process.

    Args:
        name: of the file in `NOTEBOOKS`.
        folder: working directory of the kernel.
        first: code that the kernel executes before the first cell; empty for none.

    Returns:
        The notebook with its outputs.

    Raises:
        CellExecutionError: a cell or the first code raised an error.
    """
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(first))
    client = NotebookClient(
        notebook, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": folder}}
    )
    client.execute()
    del notebook.cells[0]
    return notebook


def main() -> None:
    """Execute the notebooks with an empty storage and cache, and write them back."""
    folder = Path(tempfile.gettempdir()) / "celltune-notebooks"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    os.environ["CELLTUNE_STORAGE"] = str(folder / "results")
    os.environ["CELLTUNE_CACHE"] = str(folder / "cache")
    for name in NAMES:
        notebook = execute(name, folder)
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)  # times, which differ in every run
        text = nbformat.writes(notebook)
        (NOTEBOOKS / name).write_text(re.sub(r"[ \t]+\n", "\n", text) + "\n")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
