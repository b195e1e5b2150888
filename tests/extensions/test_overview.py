"""Every extension point has an entry in the overview, a page, a contract suite and a test."""

from __future__ import annotations

from pathlib import Path

import pytest

from celltune.data_prep import extensions as data_extensions
from celltune.models import extensions as model_extensions
from celltune.registry import Registry
from celltune.search import extensions as search_extensions

REPOSITORY = Path(__file__).parents[2]
OVERVIEW = (REPOSITORY / "docs" / "extending" / "README.md").read_text("utf-8")
REGISTRIES = [
    value
    for module in (model_extensions, data_extensions, search_extensions)
    for value in vars(module).values()
    if isinstance(value, Registry)
]


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.group)
def test_extension_point_is_documented_and_tested(registry: Registry[object]) -> None:
    row = next(line for line in OVERVIEW.splitlines() if f"`{registry.group}`" in line)
    page = row.partition("](")[2].partition(")")[0]
    assert (REPOSITORY / "docs" / "extending" / page).is_file()
    kind = page.removesuffix(".md")
    assert (REPOSITORY / "api" / "testing" / f"{kind}.py").is_file()
    assert (REPOSITORY / "tests" / "extensions" / f"test_{kind}.py").is_file()


def test_there_are_nine_extension_points() -> None:
    assert len({registry.group for registry in REGISTRIES}) == len(REGISTRIES) == 9
