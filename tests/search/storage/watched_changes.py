"""Record which paths a block of code creates, writes, renames or removes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

# Functions with one path, and with two.
_ONE = ("mkdir", "unlink", "remove", "rmdir", "truncate", "chmod", "utime")
_TWO = ("rename", "replace", "link", "symlink")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_opened: list[Path] | None = None


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    # `os.open` has no mode here; it is wrapped, because only then its `dir_fd` is known.
    if _opened is not None and event == "open" and arguments[1] and arguments[2] & _WRITES:
        _opened.append(Path(os.path.realpath(os.fsdecode(arguments[0]))))


sys.addaudithook(_hook)  # It cannot be removed again.


@contextmanager
def watched_changes() -> Iterator[list[Path]]:
    """Yield the list of the real paths that are changed within the context."""
    global _opened  # noqa: PLW0603 (an audit hook is global)
    changed: list[Path] = []
    real = {name: getattr(os, name) for name in ("open", *_ONE, *_TWO)}

    def located(path: Any, folder: int | None) -> Path:
        parent = Path(f"/proc/self/fd/{folder}").readlink() if folder is not None else Path.cwd()
        whole = parent / os.fsdecode(path)
        # The last component is what changes, also if it is a link.
        return Path(os.path.realpath(whole.parent)) / whole.name

    def open_watched(path: Any, flags: int, *rest: Any, **options: Any) -> int:
        descriptor: int = real["open"](path, flags, *rest, **options)
        if flags & _WRITES:
            changed.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        return descriptor

    def one(name: str) -> Callable[..., Any]:
        def call(path: Any, *rest: Any, **options: Any) -> Any:
            changed.append(located(path, options.get("dir_fd")))
            return real[name](path, *rest, **options)

        return call

    def two(name: str) -> Callable[..., Any]:
        def call(source: Any, target: Any, **options: Any) -> Any:
            if name in ("rename", "replace"):
                changed.append(located(source, options.get("src_dir_fd")))
            changed.append(located(target, options.get("dst_dir_fd", options.get("dir_fd"))))
            return real[name](source, target, **options)

        return call

    _opened = changed
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", open_watched)
        for names, wrapped in ((_ONE, one), (_TWO, two)):
            for name in names:
                patch.setattr(os, name, wrapped(name))
        try:
            yield changed
        finally:
            _opened = None
