"""Streams the plain files of a .tar.gz archive without unpacking it to disk.

This reader replaces Python's `tarfile` for three reasons: `tarfile` takes 40 microseconds per
member, about 4 s for the 100,000 members of the IMDB archive; it accepts a truncated archive as a
shorter one; and it supports links and devices, which an archive of texts never contains. This
reader supports plain files and folders only and rejects everything else.

Source of the layout: POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar
Format".
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from celltune.data_prep.errors import DataError
from celltune.data_prep.io.contents import MAX_DOCUMENT_BYTES, open_content, too_long
from celltune.data_prep.io.files import CHUNK_BYTES, reading
from celltune.printable import quoted

BLOCK = 512
_FILE, _FOLDER = b"0\0", b"5"
_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL = b"L", b"K", b"x", b"g"
_MAGIC, _MAGIC_OFFSET = b"ustar\x00", 257
_MAX_EXTENSION_BYTES = 1 << 20
_OCTAL = re.compile(rb"[ \0]*([0-7]+)[ \0]*")
_LONGEST_NUMBER = 18
"""Digits of a decimal number in an extended header."""


class _Header(NamedTuple):
    name: str
    size: int
    kind: bytes


def read_members(
    path: Path, is_requested: Callable[[str], bool], max_bytes: int | None = None
) -> Iterator[tuple[str, bytes]]:
    """Yield the name and content of each requested file, in the order of the archive.

    Args:
        path: a gzipped tar archive.
        is_requested: decides by a member's name whether its content is yielded.
        max_bytes: limit for the archive after decompression (see `content_limit`).

    Raises:
        DataError: the archive is damaged, truncated or too large, a requested member is too long,
            or any member, requested or not, is outside the archive's tree or neither a plain file
            nor a folder.
    """
    with (
        reading(path),
        open_content(path, max_bytes, has_lines=False, gzipped=True) as unzipped,
        ThreadPoolExecutor(1) as executor,
    ):
        stream = io.BufferedReader(_ReadAhead(unzipped, executor), CHUNK_BYTES)
        overrides: dict[str, str] = {}
        while header := _next_header(stream):
            if header.kind in (_PAX, _PAX_GLOBAL, _LONG_NAME, _LONG_LINK):
                if header.size > _MAX_EXTENSION_BYTES:
                    raise tarfile.ReadError("an extended header is too long")
                overrides.update(_extension(header, _content(stream, header.size)))
                continue
            name = overrides.pop("path", header.name)
            size = int(overrides.pop("size", header.size))
            _check_member(path, name, header.kind)
            if header.kind in _FILE and is_requested(name):
                if size > MAX_DOCUMENT_BYTES:
                    raise too_long(f"{path}: the member {quoted(name)}")
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

    def __init__(self, unzipped: BinaryIO, executor: Executor) -> None:
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
    # Python's `int` also accepts signs, underscores and prefixes.
    match = _OCTAL.fullmatch(field)
    if match is None:
        raise tarfile.ReadError(f"the {what} of a member is not a number")
    return int(match[1], 8)


def _extension(header: _Header, content: bytes) -> dict[str, str]:
    """Return the path and size that an extension header sets for the next member."""
    if header.kind == _LONG_NAME:
        return {"path": _text(content)}
    values: dict[str, str] = {}
    at = 0
    while header.kind == _PAX and at < len(content):
        digits = content[at : at + _LONGEST_NUMBER].partition(b" ")[0]
        end = at + (int(digits) if digits.isdigit() else 0)
        if end <= at + len(digits) or end > len(content):
            raise tarfile.ReadError("a record of an extended header has no length")
        key, _, value = content[at + len(digits) + 1 : end - 1].partition(b"=")
        if key.startswith(b"GNU.sparse"):
            raise tarfile.ReadError("a member has holes, which texts have not")
        if key == b"size" and not (value.isdigit() and len(value) <= _LONGEST_NUMBER):
            raise tarfile.ReadError("the size of a member is not a number")
        if key in (b"path", b"size"):
            values[key.decode()] = value.decode("utf-8", "surrogateescape")
        at = end
    return values


def _check_member(path: Path, name: str, kind: bytes) -> None:
    if name.startswith("/") or ".." in name.split("/"):
        raise DataError(
            f"{path}: the member {quoted(name)} is outside the archive's own tree. The official "
            f"archive has no such member, so get it again."
        )
    if kind not in _FILE and kind != _FOLDER:
        raise DataError(
            f"{path}: the member {quoted(name)} is not a plain file. The official archive has no "
            f"links or devices, so get it again."
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
