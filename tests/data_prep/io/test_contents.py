from __future__ import annotations

import gzip
import hashlib
import io
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celltune.data_prep.errors import DataError
from celltune.data_prep.io import contents
from celltune.data_prep.io.contents import (
    content_digest,
    content_limit,
    limited,
    open_content,
    open_text,
)
from celltune.data_prep.io.files import reading
from celltune.data_prep.io.regular import NotRegularFileError


def test_default_limit_is_a_multiple_of_the_size_between_two_bounds() -> None:
    sizes = (0, 10**6, 10**7, 10**12)
    assert [content_limit(size, None) for size in sizes] == [1 << 27, 1 << 27, 5 * 10**8, 1 << 34]
    assert content_limit(10**12, 7) == 7


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzipped"])
def test_content_up_to_the_limit_is_read_and_more_is_not(tmp_path: Path, pack: object) -> None:
    path = tmp_path / "file"
    path.write_bytes(pack(b"x" * 100))  # type: ignore[operator]
    with open_content(path, 100) as content:
        assert content.read() == b"x" * 100
    message = r"file contains more than 99 bytes .* set data\.max_bytes to a higher limit\.$"
    with pytest.raises(DataError, match=message), open_content(path, 99) as content:
        content.read()


def test_number_of_lines_is_limited(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"\n" * 300_000 + b"\r" * 300_000)
    with open_text(path, 9_600_000) as text:
        assert len(list(text)) == 600_000
    message = r"more than 99,999 lines\. .* higher than 1,599,999 bytes, .* line per 16 bytes\.$"
    with pytest.raises(DataError, match=message), open_text(path, 1_599_999) as text:
        list(text)


@given(
    st.lists(st.sampled_from([b"a", b"bc" * 5, b"d" * 30, b"\n", b"\r", b"\r\n"]), max_size=40),
    st.integers(1, 60),
    st.integers(20, 70),
)
def test_lines_are_limited_wherever_chunks_end(
    parts: list[bytes], chunk: int, longest: int
) -> None:
    content = b"".join(parts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contents, "MAX_DOCUMENT_BYTES", longest)
        patch.setattr(contents, "BUFFER_BYTES", min(chunk, longest))
        reader = limited(Path("file"), io.BytesIO(content), 1 << 30)
        if all(len(line) <= longest for line in content.replace(b"\r", b"\n").split(b"\n")):
            assert b"".join(reader) == content
        else:
            with pytest.raises(DataError, match="the line is longer than"):
                list(reader)


def test_error_of_a_long_line_names_its_position(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "MAX_DOCUMENT_BYTES", 1000)
    monkeypatch.setattr(contents, "BUFFER_BYTES", 600)
    path = tmp_path / "file.txt"
    path.write_bytes(b"a\n" * 100 + b"x" * 1001)
    message = r"file\.txt, byte 200: the line is longer than 1,000 bytes, .* Split or shorten it\.$"
    with pytest.raises(DataError, match=message), open_text(path) as text:
        list(text)


def test_digest_of_a_file_beyond_its_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(1 << 36)  # takes no space; 64 GiB take about a minute to read
    with pytest.raises(DataError, match=r"file contains more than 17,179,869,184 bytes"):
        content_digest(path, None)
    with path.open("wb") as file:
        file.truncate(100)
    assert content_digest(path, 100) == hashlib.sha256(bytes(100)).hexdigest()
    with pytest.raises(DataError, match=r"file contains more than 99 bytes"):
        content_digest(path, 99)


def test_pipe_is_rejected_without_waiting_for_its_writer(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    message = r"pipe is not a regular file, .* Write its content to a file first; a shell's <\("
    with pytest.raises(DataError, match=message), reading(path), open_text(path):
        pass
    with pytest.raises(NotRegularFileError, match="Not a regular file"):
        open_content(Path("/dev/zero"), None).__enter__()
