"""Compressed files are read as streams of constant memory."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celltune.data_prep.errors import DataError
from celltune.data_prep.io import compression
from celltune.data_prep.io.contents import open_content
from celltune.data_prep.io.files import reading

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": lambda content: bz2.compress(content, 1),
    "xz": lambda content: lzma.compress(content, preset=0),
    "zstd": lambda content: pa.Codec("zstd").compress(content, asbytes=True),
}
every_packer = pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS.keys())


def read(path: Path, max_bytes: int | None = None) -> bytes:
    with reading(path), open_content(path, max_bytes, has_lines=False) as content:
        return content.read()


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True, deadline=None
)
@given(
    parts=st.lists(st.binary(max_size=50), min_size=1, max_size=4),
    name=st.sampled_from(sorted(PACKERS)),
)
def test_files_of_one_or_more_streams_are_read_exactly(
    tmp_path: Path, parts: list[bytes], name: str
) -> None:
    (path := tmp_path / "data").write_bytes(b"".join(map(PACKERS[name], parts)))
    assert read(path) == b"".join(parts)


@every_packer
def test_large_content_is_read_in_parts(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    content = bytes(range(256)) * 4000
    (path := tmp_path / "data").write_bytes(pack(content))
    assert read(path) == content


@every_packer
def test_content_beyond_the_limit_is_not_kept_in_memory(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    content = pack(b"word " * 1_200_000)
    (path := tmp_path / "data").write_bytes(content)
    with pytest.raises(DataError, match=r"data contains more than 2,000,000 bytes"):
        read(path, 2_000_000)
    tracemalloc.start()
    try:
        with reading(path), open_content(path, None, has_lines=False) as stream:
            while stream.read(1 << 16):
                pass
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


@every_packer
@pytest.mark.parametrize("damage", [lambda each: each[:-9], lambda each: each[:20] + b"\xff" * 30])
def test_damaged_file_is_an_error(
    tmp_path: Path, pack: Callable[[bytes], bytes], damage: Callable[[bytes], bytes]
) -> None:
    content = pack(bytes(range(256)) + b"words, words and more words" * 50)
    (path := tmp_path / "data").write_bytes(damage(content))
    with pytest.raises(DataError, match="data is damaged or truncated"):
        read(path)


def test_zeros_after_an_xz_stream_are_padding(tmp_path: Path) -> None:
    (path := tmp_path / "data").write_bytes(lzma.compress(b"a") + bytes(8) + lzma.compress(b"b"))
    assert read(path) == b"ab"


def test_xz_file_that_needs_much_memory_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compression, "XZ_MEMORY", 1 << 20)
    (path := tmp_path / "data").write_bytes(lzma.compress(b"a" * 1000, preset=6))
    with pytest.raises(DataError, match=r"damaged or truncated \(Memory usage limit"):
        read(path)


def test_text_that_begins_like_a_compressed_file_is_plain(tmp_path: Path) -> None:
    (path := tmp_path / "data").write_bytes(b"BZh is a name, no file\n")
    assert read(path) == b"BZh is a name, no file\n"
