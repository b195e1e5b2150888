"""Simulation of a machine that crashes, or whose disk fills, at the n-th change of the disk.

It wraps the functions of `os` through which every write, rename and removal of a storage goes.
After a crash every further change raises as well, so that no `finally` or `except` cleans up what a
dead process could not. `cut_power` reverts the changes that no `fsync` made durable: the content of
files and the entries of folders.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHANGES = ("open", "write", "fsync", "rename", "mkdir", "unlink", "rmdir", "ftruncate")
"""Functions of `os` that change the disk; `open` only if it creates or truncates a file."""


class Crash(BaseException):
    """The machine crashed."""


class Machine:
    """A machine that counts the changes of the disk and fails at one of them.

    Args:
        fail_at: the number of the change that fails. It is not made, except for half of a write.
        error: the exception to raise. After a `Crash` all further changes fail, after an `OSError`
            none.
    """

    def __init__(self, fail_at: int = 10**9, error: BaseException | None = None) -> None:
        self.fail_at = fail_at
        self.error = error or Crash()
        self.count = 0
        self.log: list[str] = []
        self._real = {name: getattr(os, name) for name in CHANGES}
        self._synced: dict[str, int] = {}
        self._undo: list[tuple[str, Callable[[], Any]]] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for name in CHANGES:
                patch.setattr(os, name, self._wrapped(name))
            yield

    def _wrapped(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if name == "open" and not args[1] & (os.O_CREAT | os.O_TRUNC):
                return self._real["open"](*args, **kwargs)
            self.count += 1
            self.log.append(name)
            crashed = isinstance(self.error, Crash) and self.count > self.fail_at
            if self.count == self.fail_at and name == "write":
                self._record("write", args, kwargs)
                self._real["write"](args[0], bytes(args[1])[: len(args[1]) // 2])
            if crashed or self.count == self.fail_at:
                raise self.error
            self._record(name, args, kwargs)
            return self._real[name](*args, **kwargs)

        return call

    def _record(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Record how to revert a change, or that earlier changes are durable."""
        if name in ("write", "ftruncate"):
            path = _path_of(args[0])
            self._synced.setdefault(path, os.fstat(args[0]).st_size)
        elif name == "fsync":
            path = _path_of(args[0])
            self._synced.pop(path, None)
            self._undo = [(parent, undo) for parent, undo in self._undo if parent != path]
        elif name == "rename":
            source = _path_in(args[0], kwargs.get("src_dir_fd"))
            target = _path_in(args[1], kwargs.get("dst_dir_fd"))
            self._undo.append(
                (str(target.parent), lambda: source.exists() or target.rename(source))
            )
        elif name == "mkdir":
            created = _path_in(args[0], kwargs.get("dir_fd"))
            self._undo.append(
                (str(created.parent), lambda: shutil.rmtree(created, ignore_errors=True))
            )
        elif name == "open" and not _path_in(args[0], kwargs.get("dir_fd")).exists():
            created = _path_in(args[0], kwargs.get("dir_fd"))
            self._undo.append((str(created.parent), lambda: created.unlink(missing_ok=True)))

    def cut_power(self) -> None:
        """Revert all changes without an fsync, except removals, on which nothing relies."""
        for path, size in self._synced.items():
            if Path(path).exists():
                os.truncate(path, min(size, Path(path).stat().st_size))
        for _, undo in reversed(self._undo):
            undo()


def _path_in(path: str | Path, folder: int | None) -> Path:
    return Path(path) if folder is None else Path(_path_of(folder)) / path


def _path_of(handle: int) -> str:
    return str(Path(f"/proc/self/fd/{handle}").readlink())


def count_changes(action: Callable[[], Any]) -> int:
    """Return the number of changes of the disk that an action makes."""
    machine = Machine()
    with machine.running():
        action()
    return machine.count


def crash(action: Callable[[], Any], fail_at: int, *, power_cut: bool) -> None:
    """Run an action that crashes at a change, because the process dies or the power fails."""
    machine = Machine(fail_at)
    with pytest.raises(Crash), machine.running():
        action()
    if power_cut:
        machine.cut_power()
