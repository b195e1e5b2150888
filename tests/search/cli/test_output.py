"""Content that commands print, and files that they write."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from celltune.search.cli.output import emit_json, write
from celltune.search.errors import OptionError


def test_a_special_file_is_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OptionError, match=r"pipe is a device or another special file\. Choose"):
        write(pipe, "content", overwrite=True)
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


def test_json_is_one_object_of_ascii_with_every_digit(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"name": "\x1b[2J\ud800é", "share": 0.1 + 0.2, "none": None, "rows": [{"n": 1}]}
    emit_json(value)
    out = capsys.readouterr().out
    assert out.isascii()
    assert json.loads(out) == value


def test_json_contains_no_numbers_that_other_programs_reject() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        emit_json({"loss": float("nan")})
