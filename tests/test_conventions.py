"""Conventions that every module of the package follows: sizes, documentation and light imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGES = ("api", "data_prep", "models", "search")
FILES = sorted(path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py"))
OTHER_FILES = sorted(
    path for folder in ("benchmarks", "tests") for path in (REPOSITORY / folder).rglob("*.py")
)

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_MODULES_PER_FOLDER = 15
MAX_PARAMETERS = 8
MAX_IMPORT_SECONDS = 0.15

COMMANDS = REPOSITORY / "search" / "cli"
"""The parameters of its functions are the options of a command, so their number is not limited."""

INTERFACE = REPOSITORY / "search" / "interactive" / "searches.py"
"""The parameters of its functions are what a command has as options."""

KERNELS = REPOSITORY / "models" / "layers" / "persistent"
"""A GPU kernel gets each tensor with its strides; `*_kernels.py` and `tiles.py` contain only such
functions."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(path: Path) -> Iterator[Function]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def lines_without_docstring(function: Function) -> int:
    docstring = (ast.get_docstring(function) or "").split("\n")
    return (function.end_lineno or 0) - function.lineno + 1 - len(docstring)


def parameters(function: Function) -> list[str]:
    arguments = function.args
    listed = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    starred = [argument for argument in (arguments.vararg, arguments.kwarg) if argument]
    names = [argument.arg for argument in [*listed, *starred]]
    return [name for name in names if name not in ("self", "cls")]


def relative(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def test_modules_and_functions_are_short() -> None:
    assert len(FILES) > 100
    every_file = (*FILES, *OTHER_FILES)
    lines = {relative(path): len(path.read_text().splitlines()) for path in every_file}
    assert {path: count for path, count in lines.items() if count > MAX_FILE_LINES} == {}
    long_functions = [
        f"{relative(path)}: {function.name}"
        for path in FILES
        for function in functions(path)
        if lines_without_docstring(function) > MAX_FUNCTION_LINES
    ]
    assert long_functions == []


def test_folders_contain_few_modules() -> None:
    modules: dict[str, int] = {}
    for path in FILES:
        if path.name != "__init__.py":
            folder = relative(path.parent)
            modules[folder] = modules.get(folder, 0) + 1
    assert {name: count for name, count in modules.items() if count > MAX_MODULES_PER_FOLDER} == {}


def test_functions_have_few_parameters() -> None:
    found = [
        f"{relative(path)}: {function.name}"
        for path in FILES
        if not path.is_relative_to(COMMANDS)
        and path != INTERFACE
        and not path.stem.endswith("_kernels")
        and path != KERNELS / "tiles.py"
        for function in functions(path)
        if len(parameters(function)) > MAX_PARAMETERS
    ]
    assert found == []


def test_public_functions_and_classes_have_docstrings() -> None:
    undocumented = [
        f"{relative(path)}: {node.name}"
        for path in FILES
        for node in ast.parse(path.read_text()).body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert undocumented == []


def test_modules_have_docstrings() -> None:
    undocumented = [path for path in FILES if not ast.get_docstring(ast.parse(path.read_text()))]
    assert [relative(path) for path in undocumented] == []


def test_product_code_contains_no_assertions_and_no_todo_marks() -> None:
    for path in FILES:
        text = path.read_text()
        has_assertion = any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(text)))
        # Contract suites for extensions consist of assertions.
        assert not has_assertion or path.is_relative_to(REPOSITORY / "api" / "testing"), path
        assert not {"TODO", "FIXME", "XXX"} & set(text.split()), path


PRINTS = {
    "search/cli/output.py": {"print", "echo", "secho", "Console"},
    "search/escaping.py": {"escape"},
}
"""What only these modules may call, because they make text printable."""


def test_text_for_people_passes_the_modules_that_make_it_printable() -> None:
    restricted = set().union(*PRINTS.values())
    found = {}
    for path in FILES:
        calls = [
            node.func
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call)
        ]
        names = {
            call.id if isinstance(call, ast.Name) else f"{ast.unparse(call.value)}.{call.attr}"
            for call in calls
            if isinstance(call, (ast.Name, ast.Attribute))
        }
        direct = {
            name
            for name in names
            if name.removeprefix("typer.").removeprefix("html.") in restricted
        }
        if direct:
            found[relative(path)] = direct
    assert {path: names for path, names in found.items() if path not in PRINTS} == {}
    assert set(found) == {"search/cli/output.py", "search/escaping.py"}


@pytest.mark.parametrize(
    ("module", "excluded"),
    [
        ("celltune.search.leaderboard", {"ray", "torch", "optuna", "pandas"}),
        ("celltune.data_prep.preparation.pipeline", {"ray", "torch"}),
        ("celltune.models.training.trainer", {"ray", "optuna"}),
        ("celltune.search.tuning.controller", {"ray", "torch"}),
        ("celltune.search.tuning.trial", {"ray", "optuna"}),
        ("celltune.search.ensembles.ensemble", {"ray", "torch", "optuna"}),
        ("celltune.search.bundles.predictor", {"ray", "optuna"}),
        ("celltune.search.cli.app", {"ray", "torch", "optuna"}),
        ("celltune.search.interactive.searches", {"ray", "torch", "optuna", "pandas", "plotly"}),
    ],
)
def test_module_does_not_import_heavy_libraries(module: str, excluded: set[str]) -> None:
    code = f"import sys, {module}; print(*({excluded!r} & set(sys.modules)))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_importing_celltune_is_fast() -> None:
    code = "import time; t = time.perf_counter(); import celltune; print(time.perf_counter() - t)"
    command = [sys.executable, "-c", code]
    seconds = [
        float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        for _ in range(5)
    ]
    assert min(seconds) < MAX_IMPORT_SECONDS
