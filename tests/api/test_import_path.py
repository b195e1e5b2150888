"""The working directory is removed from the import path, and what somebody wrote stays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from celltune import import_path
from celltune.import_path import omit_working_directory, written_entries


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The working directory; the import path is that of a command's script."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(import_path.sys, "path", ["/bin", "/library"])
    monkeypatch.delenv("PYTHONPATH", raising=False)
    return str(tmp_path)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("", ""), (":", ""), (":/a", "/a"), ("/a::/b:", "/a:/b"), ("/a:.:b", "/a:.:b")],
)
def test_empty_entries_are_omitted(value: str, expected: str) -> None:
    assert written_entries(value) == expected


@pytest.mark.usefixtures("here")
def test_a_path_without_the_working_directory_stays() -> None:
    omit_working_directory()
    assert sys.path == ["/bin", "/library"]
    assert "PYTHONPATH" not in os.environ


@pytest.mark.parametrize("first", ["", ".", None])
def test_the_entry_of_a_module_run_by_name_is_removed(here: str, first: str | None) -> None:
    sys.path[0] = here if first is None else first
    omit_working_directory()
    assert sys.path == ["/library"]


def test_an_installed_package_in_the_working_directory_stays(here: str) -> None:
    sys.path.append(here)
    omit_working_directory()
    assert sys.path == ["/bin", "/library", here]


@pytest.mark.parametrize(("value", "rest"), [(":/a", "/a"), ("/a:", "/a"), (":", "")])
def test_an_empty_entry_is_removed_for_this_process_and_its_children(
    here: str, monkeypatch: pytest.MonkeyPatch, value: str, rest: str
) -> None:
    monkeypatch.setenv("PYTHONPATH", value)
    sys.path.insert(1, here)
    omit_working_directory()
    assert sys.path == ["/bin", "/library"]
    assert os.environ["PYTHONPATH"] == rest


@pytest.mark.parametrize("value", [".", ".:", "{here}", ":{here}"])
def test_a_written_entry_stays(here: str, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("PYTHONPATH", value.format(here=here))
    sys.path.insert(1, here)
    omit_working_directory()
    assert sys.path == ["/bin", here, "/library"]


def test_the_command_imports_nothing_from_the_working_directory(tmp_path: Path) -> None:
    for name in ("numpy", "pydantic", "typer", "yaml"):
        (tmp_path / f"{name}.py").write_text(f"raise RuntimeError({name!r})")
    done = subprocess.run(
        [sys.executable, "-m", "celltune", "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Every search can be resumed" in done.stdout
