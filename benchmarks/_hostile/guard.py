"""An audit hook that records what a command writes outside of its folders, and what it executes.

Python raises audit events (https://peps.python.org/pep-0578/) for all functions of `os` that change
files. `os.open` does not report its `dir_fd`, so it is wrapped.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_HARMLESS_TO_OPEN = ("/dev/null", "/dev/full", "/dev/tty", "/proc/self")
COMPILERS = ("c++", "g++", "clang++", "cc", "gcc")
_EXECUTING = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "pty.spawn")
_CHANGED_PATHS: dict[str, tuple[tuple[int, int], ...]] = {
    "os.remove": ((0, 1),),
    "os.rmdir": ((0, 1),),
    "os.mkdir": ((0, 2),),
    "os.rename": ((0, 2), (1, 3)),
    "os.link": ((1, 3),),
    "os.symlink": ((1, 2),),
    "os.chmod": ((0, 2),),
    "os.chown": ((0, 3),),
    "os.truncate": ((0, -1),),
    "os.utime": ((0, 3),),
    "os.mkfifo": ((0, 2),),
    "os.setxattr": ((0, -1),),
    "sqlite3.connect": ((0, -1),),
}
"""Positions of the changed paths and of their `dir_fd` in the arguments of an event; -1: none."""


class Guard:
    """Records writes outside of `allowed` and executions while it is active."""

    def __init__(self) -> None:
        """Install the hook, which stays inactive; a process cannot remove it."""
        self.allowed: tuple[str, ...] = ()
        self.writes: list[str] = []
        self.executions: list[str] = []
        self._active = False
        self._folder: int | None = None
        self._open = os.open
        vars(os)["open"] = self._open_with_folder
        sys.addaudithook(self._hook)

    def start(self, allowed: tuple[Path, ...]) -> None:
        """Start to record.

        Args:
            allowed: folders and files that may be changed.
        """
        # A change of a link and a change of what it leads to are both allowed.
        resolved = (os.path.realpath(path) for path in allowed)
        self.allowed = (*resolved, *(_full_path(path, None) for path in allowed))
        self.writes, self.executions = [], []
        self._active = True

    def stop(self) -> None:
        """Stop to record; the records are kept."""
        self._active = False

    def _open_with_folder(
        self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None
    ) -> int:
        self._folder = dir_fd
        try:
            return self._open(path, flags, mode, dir_fd=dir_fd)
        finally:
            self._folder = None

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._active:
            return
        if event == "open":
            self._check_open(*arguments)
        elif event in _CHANGED_PATHS:
            self._check_change(event, arguments)
        elif event in _EXECUTING:
            self._check_execution(event, arguments)

    def _check_open(self, path: Any, mode: str | None, flags: int) -> None:
        if isinstance(path, int) or not flags & _WRITING:
            return
        if mode is not None and not set(mode) & set("wax+"):
            return
        full = _full_path(path, self._folder)
        if not flags & os.O_NOFOLLOW:
            full = os.path.realpath(full)
        if not _is_below(full, _HARMLESS_TO_OPEN):
            self._record(f"open {full}", full)

    def _check_change(self, event: str, arguments: tuple[Any, ...]) -> None:
        for position, folder in _CHANGED_PATHS[event]:
            if isinstance(path := arguments[position], int) or path == ":memory:":
                continue
            dir_fd = arguments[folder] if 0 <= folder < len(arguments) else None
            full = _full_path(path, dir_fd if isinstance(dir_fd, int) and dir_fd >= 0 else None)
            self._record(f"{event} {full}", full)

    def _check_execution(self, event: str, arguments: tuple[Any, ...]) -> None:
        if Path(os.fsdecode(arguments[0])).name not in COMPILERS:
            self.executions.append(f"{event} {arguments[:2]!r:.200}")

    def _record(self, text: str, full: str) -> None:
        if not _is_below(full, self.allowed):
            self.writes.append(text)


def _is_below(path: str, roots: tuple[str, ...]) -> bool:
    return any(path == root or path.startswith(f"{root.rstrip('/')}/") for root in roots)


def _full_path(path: Any, dir_fd: int | None) -> str:
    """Return a path whose folder is resolved, while a symbolic link at its end is kept."""
    text = os.fsdecode(path)
    if dir_fd is not None and not text.startswith("/"):
        text = f"{Path(f'/proc/self/fd/{dir_fd}').readlink()}/{text}"
    folder, name = os.path.split(os.path.abspath(text))  # noqa: PTH100 (the path may be hostile)
    return f"{os.path.realpath(folder).rstrip('/')}/{name}"
