"""Special files in place of regular ones."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from random import Random

from _hostile.box import Box, remove

ACTIONS = (
    "fifo",
    "zero",
    "random",
    "link to a file outside",
    "link to a folder outside",
    "dangling link",
    "loop",
    "missing",
    "folder",
    "filled folder",
    "empty file",
    "socket",
    "huge sparse file",
    "full",
)


def replace(path: Path, action: str, box: Box) -> None:
    """Replace a file or folder by something special; its folder must exist."""
    remove(path)
    if action == "fifo":
        os.mkfifo(path)
    elif action in ("zero", "random", "full"):
        path.symlink_to(
            {"zero": "/dev/zero", "random": "/dev/urandom", "full": "/dev/full"}[action]
        )
    elif action == "link to a file outside":
        path.symlink_to(box / "outside/victim.txt")
    elif action == "link to a folder outside":
        path.symlink_to(box / "outside/victim")
    elif action == "dangling link":
        path.symlink_to(box / "outside/created")
    elif action == "loop":
        path.symlink_to(path.name)
    elif action == "folder":
        path.mkdir()
    elif action == "filled folder":
        path.mkdir()
        (path / "file").write_text("content")
    elif action == "empty file":
        path.write_bytes(b"")
    elif action == "huge sparse file":
        with path.open("wb") as file:
            file.truncate(1 << 36)
    elif action == "socket":
        _bind(path)


def _bind(path: Path) -> None:
    # The address of a socket is limited to 108 bytes, so it is bound from its own folder.
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


def replace_any(paths: list[Path], box: Box, random: Random) -> str:
    """Replace one of several paths, and return how."""
    path, action = random.choice(paths), random.choice(ACTIONS)
    replace(path, action, box)
    return f"{path.relative_to(box.root)}: {action}"
