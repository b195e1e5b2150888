"""Install an extension package for the duration of a test.

As with `pip install`, the package is a folder with metadata on the import path.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from celltune import registry


@contextmanager
def installed(
    folder: Path, package: str, entry_points: dict[str, dict[str, str]], code: str = ""
) -> Iterator[None]:
    """Put a package with a module of the same name and its entry points on the import path.

    Args:
        folder: the folder in which the package is created; it may contain several packages.
        package: the name of the package and of its only module.
        entry_points: `"module:attribute"` by name, by entry point group.
        code: the source code of the module.
    """
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    groups = (
        "\n".join([f"[{group}]", *(f"{name} = {value}" for name, value in points.items())])
        for group, points in entry_points.items()
    )
    (info / "entry_points.txt").write_text("\n".join(groups))
    (folder / f"{package}.py").write_text(code)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        registry._installed.cache_clear()
        yield
    registry._installed.cache_clear()
