"""Files that commands write."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from celltune.search.cli.output import write
from celltune.search.errors import OptionError


def test_a_special_file_is_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OptionError, match=r"pipe is a device or another special file\. Choose"):
        write(pipe, "content", overwrite=True)
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]
