"""Content that commands print, and files that they write."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from celltune.search.cli.output import (
    TextConsole,
    emit_json,
    end_before_output,
    hanging,
    make_console,
    say,
    say_next,
    write,
)
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


@pytest.mark.parametrize(
    ("line", "wrapped"),
    [
        ("short", ["short"]),
        ("one two three four five six", ["one two three four", "five six"]),
        ("  key    one two three", ["  key    one two", "         three"]),
        ("  a b  one two three four", ["  a b  one two three", "       four"]),
        ("  the first column is long  then", ["  the first column", "is long  then"]),
        ("  键值   one two three", ["  键值   one two", "         three"]),
    ],
)
def test_lines_are_wrapped_between_words_below_their_second_column(
    line: str, wrapped: list[str]
) -> None:
    assert hanging(TextConsole(width=20), line).plain.split("\n") == wrapped


def test_commands_and_their_purposes_are_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    say_next({"celltune a": "first", "celltune longer": "second"})
    assert capsys.readouterr().out == (
        "Next:\n  celltune a        first\n  celltune longer   second\n"
    )


@pytest.mark.parametrize("output", [lambda: say("x"), lambda: emit_json({}), make_console])
def test_a_drawing_ends_before_the_next_output(output: Callable[[], object]) -> None:
    ended: list[int] = []
    end_before_output(lambda: ended.append(1))
    output()
    output()
    assert ended == [1]
