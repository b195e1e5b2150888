"""The notebooks of docs/notebooks, executed in the shared local Ray cluster."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from celltune.search.bundles.bundle import is_bundle
from tests.integration.conftest import REPOSITORY

Patch = pytest.MonkeyPatch


@pytest.fixture
def maker() -> ModuleType:
    path = REPOSITORY / "docs" / "make_notebooks.py"
    spec = importlib.util.spec_from_file_location("make_notebooks", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(env: dict[str, str], tmp_path: Path, monkeypatch: Patch) -> Path:
    """A working directory, whose processes use the storage and cache of the tests."""
    for name in ("CELLTUNE_STORAGE", "CELLTUNE_CACHE"):
        monkeypatch.setenv(name, env[name])
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def outputs(notebook: Any, kind: str) -> list[str]:
    """Return the outputs of a kind, such as text/html, of all cells."""
    data = (output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", []))
    return [content[kind] for content in data if kind in content]


def test_the_notebooks_run_and_show_what_they_promise(
    maker: ModuleType, folder: Path, address: str
) -> None:
    connect = f"import ray; ray.init({address!r}, namespace='celltune', log_to_driver=False)"
    search = maker.execute("search.ipynb", folder, connect)
    pages = outputs(search, "text/html")
    assert sum("3 of 3 trials done" in page and "<pre" in page for page in pages) == 1
    assert sum("4 of 4 trials done" in page and "<pre" in page for page in pages) == 1
    assert any("data.max_tokens" in page for page in pages)
    assert any("films: finished, 3 of 3 trials done" in page for page in pages)
    assert len(outputs(search, "application/vnd.plotly.v1+json")) == 1
    streams = [o for cell in search.cells for o in cell.get("outputs", []) if "text" in o]
    assert streams == []
    assert is_bundle(folder / "films-model")

    results = maker.execute("results.ipynb", folder)
    assert len(outputs(results, "application/vnd.plotly.v1+json")) == 2
    assert any("4 of 4 trials done" in page for page in outputs(results, "text/html"))


def test_the_stored_notebooks_are_executed_and_contain_no_error(maker: ModuleType) -> None:
    import nbformat

    for name in maker.NAMES:
        notebook = nbformat.read(maker.NOTEBOOKS / name, as_version=4)
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert all(cell.execution_count for cell in code), f"{name}: run make notebooks"
        kinds = {output.output_type for cell in code for output in cell.outputs}
        assert kinds <= {"execute_result", "display_data"}
        assert (maker.NOTEBOOKS / name).stat().st_size < 200_000
