"""Streams the plain files of a .tar.gz archive without unpacking it to disk.

This reader replaces Python's `tarfile` for three reasons: `tarfile` takes 40 microseconds per
member, about 4 s for the 100,000 members of the IMDB archive; it accepts a truncated archive as a
shorter one; and it supports links and devices, which an archive of texts never contains. This
reader supports plain files and folders only and rejects everything else.

Source of the layout: POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar
Format".
"""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from celltune.data_prep.errors import DataError
from celltune.data_prep.io.files import CHUNK_BYTES, reading

BLOCK = 512
_FILE, _FOLDER = b"0\0", b"5"
_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL = b"L", b"K", b"x", b"g"
_MAGIC, _MAGIC_OFFSET = b"ustar\x00", 257


class _Header(NamedTuple):
    name: str
    size: int
    kind: bytes


def read_members(path: Path, is_requested: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Yield the name and content of each requested file, in the order of the archive.

    Args:
        path: a gzipped tar archive.
        is_requested: decides by a member's name whether its content is yielded.

    Raises:
        DataError: the archive is damaged or truncated, or any member, requested or not, is
            outside the archive's tree or neither a plain file nor a folder.
    """
    with (
        reading(path),
        gzip.open(path) as unzipped,
        ThreadPoolExecutor(1) as executor,
    ):
        stream = io.BufferedReader(_ReadAhead(unzipped, executor), CHUNK_BYTES)
        overrides: dict[str, str] = {}
        while header := _next_header(stream):
            if header.kind in (_PAX, _PAX_GLOBAL, _LONG_NAME, _LONG_LINK):
                overrides.update(_extension(header, _content(stream, header.size)))
                continue
            name = overrides.pop("path", header.name)
            size = int(overrides.pop("size", header.size))
            _check_member(path, name, header.kind)
            if header.kind in _FILE and is_requested(name):
                yield name, _content(stream, size)
            else:
                _skip(stream, size)
        # gzip only verifies its checksum at the end of the file.
        while stream.read(CHUNK_BYTES):
            pass


class _ReadAhead(io.RawIOBase):
    """Decompresses the next chunk in a thread while the current one is parsed.

    zlib releases the GIL, so that both run in parallel.
    """

    def __init__(self, unzipped: gzip.GzipFile, executor: Executor) -> None:
        self._unzipped, self._executor = unzipped, executor
        self._next_chunk = executor.submit(unzipped.read, CHUNK_BYTES)
        self._chunk, self._position = b"", 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._position == len(self._chunk):
            self._chunk, self._position = self._next_chunk.result(), 0
            if self._chunk:
                self._next_chunk = self._executor.submit(self._unzipped.read, CHUNK_BYTES)
        size = min(len(buffer), len(self._chunk) - self._position)
        buffer[:size] = self._chunk[self._position : self._position + size]
        self._position += size
        return size


def _next_header(stream: BinaryIO) -> _Header | None:
    """Read the next header; None at the end mark of the archive."""
    block = stream.read(BLOCK)
    if len(block) < BLOCK:
        raise tarfile.ReadError("it ends inside a header" if block else "it has no end mark")
    if not block[0] and not any(block):
        return None
    checksum = _octal(block[148:156], "checksum")
    # Most bytes of a header are zero; removing them first makes the sum three times as fast.
    if checksum != sum((block[:148] + block[156:]).translate(None, b"\0")) + 8 * ord(" "):
        raise tarfile.ReadError("a member's header does not match its checksum")
    name = _text(block[:100])
    if block[_MAGIC_OFFSET:].startswith(_MAGIC) and block[345]:
        name = f"{_text(block[345:500])}/{name}"
    return _Header(name, _octal(block[124:136], "size"), block[156:157])


def _octal(field: bytes, what: str) -> int:
    try:
        return int(field.strip(b" \0"), 8)
    except ValueError as error:
        raise tarfile.ReadError(f"the {what} of a member is not a number") from error


def _extension(header: _Header, content: bytes) -> dict[str, str]:
    """Return the path and size that an extension header sets for the next member."""
    if header.kind == _LONG_NAME:
        return {"path": _text(content)}
    values: dict[str, str] = {}
    while header.kind == _PAX and content:
        length, _, rest = content.partition(b" ")
        if not length.isdigit() or int(length) <= len(length):
            raise tarfile.ReadError("a record of an extended header has no length")
        key, _, value = rest[: int(length) - len(length) - 2].partition(b"=")
        if key == b"path" or (key == b"size" and value.isdigit()):
            values[key.decode()] = value.decode("utf-8", "surrogateescape")
        content = content[int(length) :]
    return values


def _check_member(path: Path, name: str, kind: bytes) -> None:
    if name.startswith("/") or ".." in name.split("/"):
        raise DataError(
            f"{path}: the member {name!r} is outside the archive's own tree. The official archive "
            f"has no such member, so get it again."
        )
    if kind not in _FILE and kind != _FOLDER:
        raise DataError(
            f"{path}: the member {name!r} is not a plain file. The official archive has no links "
            f"or devices, so get it again."
        )


def _content(stream: BinaryIO, size: int) -> bytes:
    padded = stream.read(-(-size // BLOCK) * BLOCK)
    if len(padded) < size:
        raise tarfile.ReadError("it ends inside a member")
    return padded[:size]


def _skip(stream: BinaryIO, size: int) -> None:
    remaining = -(-size // BLOCK) * BLOCK
    while remaining:
        count = len(stream.read(min(remaining, CHUNK_BYTES)))
        if not count:
            raise tarfile.ReadError("it ends inside a member")
        remaining -= count


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
