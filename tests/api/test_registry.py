from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from celltune.registry import ExtensionError, Registry, name_in
from tests.api.extension import installed

SHAPES: Registry[type] = Registry(
    "shape", "celltune.shapes", {"pair": "builtins:tuple", "row": "builtins:list"}
)


class Config(BaseModel):
    shape: name_in(SHAPES)  # type: ignore[valid-type]


def test_builtin_and_installed_implementations_are_found_by_name(tmp_path: Path) -> None:
    assert SHAPES.names() == SHAPES.builtin_names() == ("pair", "row")
    assert SHAPES.load("row") is list
    points = {"celltune.shapes": {"ring": "rings:Ring", "bag": "rings:Bag"}}
    with installed(tmp_path, "rings", points, "class Ring: ...\nclass Bag: ...\n"):
        assert SHAPES.names() == ("pair", "row", "bag", "ring")
        assert "ring" in SHAPES
        assert SHAPES.load("ring").__name__ == "Ring"
        assert Config(shape="bag").shape == "bag"
    assert "ring" not in SHAPES


def test_unknown_name_is_reported_with_the_available_names(tmp_path: Path) -> None:
    message = r"'rows' is not a shape. Did you mean 'row'\? Allowed: pair, row, bag."
    with installed(tmp_path, "bags", {"celltune.shapes": {"bag": "bags:Bag"}}):
        with pytest.raises(ExtensionError, match=message):
            SHAPES.load("rows")
        with pytest.raises(ValidationError, match=message):
            Config(shape="rows")


def test_builtin_name_cannot_be_replaced(tmp_path: Path) -> None:
    with installed(tmp_path, "evil", {"celltune.shapes": {"row": "evil:Row"}}):
        assert SHAPES.load("row") is list
        assert SHAPES.names() == ("pair", "row")


def test_name_defined_by_two_packages_is_reported(tmp_path: Path) -> None:
    points = {"celltune.shapes": {"bag": "one:Bag"}}
    with (
        installed(tmp_path, "one", points, "class Bag: ..."),
        installed(tmp_path, "two", points),
        pytest.raises(
            ExtensionError,
            match=r"'bag' is defined by the package 'one' and the package 'two'. Uninstall",
        ),
    ):
        SHAPES.load("bag")


def test_extension_that_fails_to_import_is_reported(tmp_path: Path) -> None:
    points = {"celltune.shapes": {"broken": "cracked:Shape"}}
    with (
        installed(tmp_path, "cracked", points, "raise OSError('no such device')"),
        pytest.raises(
            ExtensionError,
            match=r"'broken' \(cracked:Shape\) of the package 'cracked' cannot be imported: "
            r"OSError: no such device",
        ),
    ):
        SHAPES.load("broken")


def test_importing_celltune_loads_no_heavy_library_and_has_every_public_name() -> None:
    code = (
        "import sys, celltune\n"
        "print(sorted({'ray', 'torch', 'optuna', 'pandas', 'numpy'} & set(sys.modules)))\n"
        "print(all(hasattr(celltune, name) for name in celltune.__all__))\n"
        "print(sorted(celltune.__all__) == celltune.__all__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "True", "True"]
    import celltune

    with pytest.raises(AttributeError, match="module 'celltune' has no attribute 'lunch'"):
        _ = celltune.lunch
