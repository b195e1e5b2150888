"""The examples of the pages in docs/extending, installed as packages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.api.extension import installed

_PAGES = Path(__file__).parents[2] / "docs" / "extending"


@dataclass(frozen=True)
class Example:
    """The code blocks of a page: a module, its entry point, and its contract suite."""

    module: str
    suite: str
    group: str
    name: str
    reference: str

    @contextmanager
    def installed(self, folder: Path) -> Iterator[None]:
        """Install the example as a package while the context is open."""
        package = self.reference.partition(":")[0]
        entry_points = {self.group: {self.name: self.reference}}
        with installed(folder, package, entry_points, self.module):
            yield


def example(kind: str) -> Example:
    """Read the example of docs/extending/KIND.md."""
    page = (_PAGES / f"{kind}.md").read_text("utf-8")
    module, suite = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    entry_point = re.search(r'entry-points\."(.*?)"\]\n(\w+) = "(.*?)"', page)
    assert entry_point is not None
    return Example(module, suite, *entry_point.groups())
