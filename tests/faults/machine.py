"""A machine that dies, or whose disk fills, at the n-th change of the disk.

`os`'s own functions are wrapped, those that every write, rename and removal of the storage goes
through. Once dead, every further change raises as well, so that no `finally` and no `except` tidies
up what a dead process couldn't. `cut_power` takes back what wasn't brought to the disk by an
`fsync`: bytes of files, and entries of folders.
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
"""What of `os` changes the disk; `open` only where it creates or empties a file."""


class Crash(BaseException):
    """The machine is dead."""


class Machine:
    """Counts the changes of the disk and dies at one of them.

    Args:
        die_at: the change at which it dies; that one isn't made, a write only by half.
        error: what is raised; a Crash leaves the machine dead, an OSError fails only this once.
    """

    def __init__(self, die_at: int = 10**9, error: BaseException | None = None) -> None:
        self.die_at = die_at
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
            dead = isinstance(self.error, Crash) and self.count > self.die_at
            if self.count == self.die_at and name == "write":
                self._note("write", args, kwargs)
                self._real["write"](args[0], bytes(args[1])[: len(args[1]) // 2])
            if dead or self.count == self.die_at:
                raise self.error
            self._note(name, args, kwargs)
            return self._real[name](*args, **kwargs)

        return call

    def _note(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Remember how to take a change back, and forget it once it is on the disk."""
        if name in ("write", "ftruncate"):
            path = _path_of(args[0])
            self._synced.setdefault(path, os.fstat(args[0]).st_size)
        elif name == "fsync":
            path = _path_of(args[0])
            self._synced.pop(path, None)
            self._undo = [(parent, undo) for parent, undo in self._undo if parent != path]
        elif name == "rename":
            source, target = Path(args[0]), Path(args[1])
            self._undo.append(
                (str(target.parent), lambda: source.exists() or target.rename(source))
            )
        elif name == "mkdir":
            made = Path(args[0])
            self._undo.append((str(made.parent), lambda: shutil.rmtree(made, ignore_errors=True)))
        elif name == "open" and not Path(args[0]).exists():
            made = Path(args[0])
            self._undo.append((str(made.parent), lambda: made.unlink(missing_ok=True)))

    def cut_power(self) -> None:
        """Take back what no fsync brought to the disk. Removals stay: nothing relies on them."""
        for path, size in self._synced.items():
            if Path(path).exists():
                os.truncate(path, min(size, Path(path).stat().st_size))
        for _, undo in reversed(self._undo):
            undo()


def _path_of(handle: int) -> str:
    return str(Path(f"/proc/self/fd/{handle}").readlink())


def _rename_back(source: str | Path, target: str | Path) -> None:
    if not Path(source).exists():
        Path(target).rename(source)


def changes(action: Callable[[], Any]) -> int:
    """How many changes of the disk an undisturbed `action` makes."""
    machine = Machine()
    with machine.running():
        action()
    return machine.count


def crash(action: Callable[[], Any], die_at: int, *, power: bool) -> None:
    """Run `action` on a machine that dies at a change; with a power cut, or as a killed process."""
    machine = Machine(die_at)
    with pytest.raises(Crash), machine.running():
        action()
    if power:
        machine.cut_power()
