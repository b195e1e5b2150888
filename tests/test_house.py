"""The measures of the house, held for every file of the three packages."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGES = ("api", "data_prep", "models", "search")
FILES = sorted(path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py"))


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(path.read_text())
    return [n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]


def test_files_and_functions_stay_small() -> None:
    assert len(FILES) > 30
    long_files = [path.name for path in FILES if len(path.read_text().splitlines()) > 400]
    long_functions = [
        f"{path.name}: {node.name}"
        for path in FILES
        for node in functions(path)
        if (node.end_lineno or 0)
        - node.lineno
        + 1
        - len((ast.get_docstring(node) or "").split("\n"))
        > 60
    ]
    assert long_files == []
    assert long_functions == []


def test_everything_public_is_documented() -> None:
    bare = [
        f"{path.name}: {node.name}"
        for path in FILES
        for node in ast.parse(path.read_text()).body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert bare == []


def test_every_module_says_what_it_is_for() -> None:
    empty = [path for path in FILES if not ast.get_docstring(ast.parse(path.read_text()))]
    assert [path.relative_to(REPOSITORY) for path in empty] == []


def test_nothing_is_asserted_printed_or_left_for_later_outside_tests() -> None:
    contracts = REPOSITORY / "api" / "testing"
    for path in (path for path in FILES if contracts not in path.parents):
        text = path.read_text()
        tree = ast.parse(text)
        assert not any(isinstance(node, ast.Assert) for node in ast.walk(tree)), path
        assert not {"TODO", "FIXME", "XXX"} & set(text.split()), path


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("celltune.search.leaderboard", {"ray", "torch", "optuna", "pandas"}),
        ("data_prep", {"ray", "torch"}),
        ("celltune.models.training.trainer", {"ray", "optuna"}),
        ("celltune.search.tuning.controller", {"ray", "torch"}),
        ("celltune.search.tuning.trial", {"ray", "optuna"}),
        ("celltune.search.bundles.predictor", {"ray", "optuna"}),
        ("celltune.search.cli.app", {"ray", "torch", "optuna"}),
    ],
)
def test_imports_stay_light(module: str, absent: set[str]) -> None:
    code = f"import sys, {module}; print(*({absent!r} & set(sys.modules)))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
