"""Locks are regular files: anything else in their place is an error at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from celltune.data_prep.io.files import locked


@pytest.mark.parametrize("kind", ["fifo", "folder", "link", "device"])
def test_a_lock_is_a_regular_file(kind: str, tmp_path: Path) -> None:
    path, other = tmp_path / "lock", tmp_path / "other"
    other.write_text("content")
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "device" else other)
    with pytest.raises(OSError, match=r"Not a regular file|Is a directory|symbolic links"):
        locked(path).__enter__()
    assert other.read_text() == "content"


def test_a_lock_keeps_its_content(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("content")
    with locked(tmp_path / "lock"):
        pass
    assert (tmp_path / "lock").read_text() == "content"
