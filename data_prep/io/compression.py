"""Streams of compressed files, which are recognized by their first bytes, not by their names."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from typing import Any, BinaryIO, Protocol, cast

from celltune.data_prep.io.files import GZIP_MAGIC

SUFFIXES = ("gz", "bz2", "xz", "zst")
"""Endings of names of compressed files."""
XZ_MEMORY = 1 << 27
"""Most memory that an xz file may need: 128 MiB. `xz -9` writes files that need 65 MiB, but the
header of a file can ask for 4 GiB."""

_CHUNK_BYTES = 1 << 16
_HEAD_BYTES = 10
_BZIP2, _BZIP2_BLOCKS = b"BZh", (b"1AY&SY", b"\x17rE8P\x90")
_XZ_MAGIC, _ZSTD_MAGIC = b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"


class Stream(Protocol):
    """What is read of a stream."""

    def read1(self, count: int, /) -> bytes:
        """Return up to `count` bytes; none at the end."""


def decompressed(raw: BinaryIO) -> Stream:
    """Return the content of an open file: plain, gzip, bzip2, xz or Zstandard.

    Memory does not depend on the content. Damage raises an EOFError or an error of `gzip`, which
    `celltune.data_prep.io.files.reading` converts.
    """
    head = raw.read(_HEAD_BYTES)
    raw.seek(0)
    if head.startswith(GZIP_MAGIC):
        return gzip.GzipFile(fileobj=raw)
    if head.startswith(_BZIP2) and head[4:10] in _BZIP2_BLOCKS:
        return _Members(raw, bz2.BZ2Decompressor)
    if head.startswith(_XZ_MAGIC):
        return _Members(raw, lambda: lzma.LZMADecompressor(memlimit=XZ_MEMORY))
    if head.startswith(_ZSTD_MAGIC):
        return _Zstandard(raw)
    return cast(Stream, raw)


class _Members:
    """The content of one or more compressed streams that follow each other in a file."""

    def __init__(self, raw: BinaryIO, create: Callable[[], Any]) -> None:
        self._raw, self._create = raw, create
        self._member = create()

    def read1(self, count: int, /) -> bytes:
        while True:
            chunk = b""
            if self._member.eof:
                chunk = self._after_end()
                if not chunk:
                    return b""
                self._member = self._create()
            elif self._member.needs_input:
                chunk = self._raw.read(_CHUNK_BYTES)
                if not chunk:
                    raise EOFError("the compressed content has no end")
            if content := self._decompress(chunk, count):
                return content

    def _after_end(self) -> bytes:
        """Return the first bytes of the next stream; none at the end of the file."""
        chunk: bytes = self._member.unused_data
        while not chunk.strip(b"\0"):  # xz files may be padded with zeros
            chunk = self._raw.read(_CHUNK_BYTES)
            if not chunk:
                return b""
        return chunk.lstrip(b"\0")

    def _decompress(self, chunk: bytes, count: int) -> bytes:
        try:
            content: bytes = self._member.decompress(chunk, count)
        except (lzma.LZMAError, OSError, ValueError) as error:
            raise EOFError(str(error)) from error
        return content


class _Zstandard:
    """The content of a Zstandard file, read by pyarrow."""

    def __init__(self, raw: BinaryIO) -> None:
        import pyarrow as pa

        self._stream: Any = pa.CompressedInputStream(raw, "zstd")

    def read1(self, count: int, /) -> bytes:
        import pyarrow as pa

        try:
            content: bytes = self._stream.read(count)
        except (pa.ArrowException, OSError) as error:
            # Arrow raises an OSError without a number for damage; errors of the disk have one.
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise EOFError(str(error)) from error
        return content
