"""The content of data files, decompressed and limited while it is read.

A few kilobytes can decompress to more than any memory holds, and one line of a text file can be as
long as the file. Real texts are rarely compressed to less than 5 % of their size, so a file that is
far larger after decompression was probably made to exhaust the memory.
"""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TextIO, cast

from celltune.data_prep.errors import DataError
from celltune.data_prep.io.compression import Stream, decompressed
from celltune.data_prep.io.files import file_digest, reading
from celltune.data_prep.io.regular import open_regular
from celltune.data_prep.types import Progress
from celltune.printable import printable

BUFFER_BYTES = 1 << 18
MAX_DOCUMENT_BYTES = 1 << 24
"""Size of the longest document, and of the longest line of a text file: 16 MiB, which is about
three million words."""
BYTES_PER_DOCUMENT = 256
"""Memory that a document needs besides its text; limits the number of documents of a file."""
BYTES_PER_VECTOR = 64
"""Limits the number of vectors of a file: a reader skips the ones that it does not need."""
BYTES_PER_LINE = 16
"""Limits the number of lines of a file: a reader skips blank ones, which compress best of all."""
UNLIMITED = 1 << 62
"""For readers whose memory does not grow with the file."""

_EXPANSION = 50
_LEAST, _MOST = 1 << 27, 1 << 34


def content_limit(size: int, max_bytes: int | None) -> int:
    """Return how many bytes a file may contain after decompression.

    Args:
        size: of the file in bytes, as it is stored.
        max_bytes: `data.max_bytes`; None for 50 times the size of the file, but at least 128 MiB
            and at most 16 GiB.
    """
    if max_bytes is not None:
        return max_bytes
    return min(_MOST, max(_LEAST, _EXPANSION * size))


def limit_of_file(file: IO[bytes], max_bytes: int | None) -> int:
    """Return how many bytes an open file may contain after decompression (see `content_limit`)."""
    return content_limit(os.fstat(file.fileno()).st_size, max_bytes)


def content_digest(path: Path, max_bytes: int | None, progress: Progress | None = None) -> str:
    """Return the SHA-256 of a data file as it is stored.

    A file that is larger than its limit even before decompression is rejected before it is read.

    Args:
        path: the file.
        max_bytes: as for `content_limit`.
        progress: as for `file_digest`.

    Raises:
        DataError: the file cannot be read or is too large.
    """
    with reading(path):
        size = path.stat().st_size
        limit = content_limit(size, max_bytes)
        if size > limit:
            raise too_large(path, limit)
        return file_digest(path, progress=progress)


def joint_digest(digests: Sequence[str]) -> str:
    """Return a single digest as it is, or the SHA-256 of several digests."""
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


@contextmanager
def open_content(
    path: Path,
    max_bytes: int | None,
    *,
    has_lines: bool = True,
    gzipped: bool = False,
    encoding: str | None = None,
) -> Iterator[io.BufferedReader]:
    """Open the content of a regular file, plain or compressed; reading raises if it is too large.

    Args:
        path: the file.
        max_bytes: as for `content_limit`.
        has_lines: whether no line may be longer than `MAX_DOCUMENT_BYTES`.
        gzipped: whether it has to be gzipped; otherwise the compression is recognized.
        encoding: of a text that is converted to UTF-8; None or utf-8 to leave the bytes as they
            are.

    Raises:
        OSError: the file cannot be opened or is not a regular file.
    """
    with open_regular(path) as raw:
        stream: Stream = gzip.GzipFile(fileobj=raw) if gzipped else decompressed(raw)
        if encoding not in (None, "utf-8"):
            stream = _AsUtf8(path, stream, encoding)
        limit = limit_of_file(raw, max_bytes)
        with limited(path, stream, limit, has_lines=has_lines) as content:
            yield content


@contextmanager
def open_text(
    path: Path,
    max_bytes: int | None = None,
    encoding: str | None = None,
    *,
    has_lines: bool = True,
) -> Iterator[TextIO]:
    """Open a regular text file, plain or compressed, for reading.

    A byte order mark is skipped, line breaks are kept, and bytes that are not valid UTF-8 are
    decoded to lone surrogates. Reading raises a `DataError` where the file exceeds a limit, or
    contains bytes that are not valid in another encoding.

    Args:
        path: the file.
        max_bytes: as for `content_limit`.
        encoding: of the text; None for UTF-8.
        has_lines: as for `open_content`.

    Raises:
        OSError: as for `open_content`.
    """
    with (
        open_content(path, max_bytes, has_lines=has_lines, encoding=encoding) as content,
        io.TextIOWrapper(
            content, encoding="utf-8-sig", errors="surrogateescape", newline=""
        ) as text,
    ):
        yield text


def limited_reader(text: TextIO) -> LimitedReader:
    """Return the reader at the bottom of a file that `open_text` opened."""
    return cast(LimitedReader, cast(io.BufferedReader, text.buffer).raw)


class _AsUtf8:
    """A stream of text in another encoding, converted to UTF-8.

    The limits of lines and of the content then mean the same for every encoding.
    """

    def __init__(self, path: Path, stream: Stream, encoding: str) -> None:
        self._path, self._stream, self._encoding = path, stream, encoding
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._position = 0

    def read1(self, count: int, /) -> bytes:
        # No byte of any encoding becomes more than four bytes of UTF-8.
        while chunk := self._stream.read1(max(1, count // 4)):
            if text := self._decoded(chunk):
                return text.encode()
        return self._decoded(b"", final=True).encode()

    def _decoded(self, chunk: bytes, *, final: bool = False) -> str:
        try:
            text = self._decoder.decode(chunk, final)
        except UnicodeDecodeError as error:
            at = self._position + len(chunk) - len(error.object) + error.start
            byte = f"0x{error.object[error.start]:02x}"
            raise self._invalid(f"byte {at:,}: {byte} is not valid") from error
        except UnicodeError as error:
            # A file in UTF-16 or UTF-32 has no byte order mark.
            raise self._invalid(f"the file is not valid ({error})") from error
        self._position += len(chunk)
        return text

    def _invalid(self, problem: str) -> DataError:
        return DataError(
            f"{printable(self._path)}, {problem} in the encoding {self._encoding}. Set "
            f"data.encoding to the encoding of the file, or save the file as UTF-8."
        )


def too_large(path: Path, limit: int) -> DataError:
    """Return the error for a file that is larger than its limit after decompression."""
    return DataError(
        f"{printable(path)} contains more than {limit:,} bytes (after decompression). If this is "
        f"intended, set data.max_bytes to a higher limit."
    )


def too_many(
    path: Path, limit: int, part: str = "document", share: int = BYTES_PER_DOCUMENT
) -> DataError:
    """Return the error for a file that contains too many parts for its limit.

    Args:
        path: the file.
        limit: for its content in bytes.
        part: what there are too many of.
        share: bytes of the limit per part.
    """
    return DataError(
        f"{printable(path)} contains more than {limit // share:,} {part}s. If this is intended, "
        f"set data.max_bytes to a limit higher than {limit:,} bytes, which allows one {part} per "
        f"{share} bytes."
    )


def too_long(place: str) -> DataError:
    """Return the error for a document or line that is too long.

    Args:
        place: the file, and where in it the document is; completes "... is longer than".
    """
    return DataError(
        f"{place} is longer than {MAX_DOCUMENT_BYTES:,} bytes, the limit for one document. Split "
        f"or shorten it."
    )


class LimitedReader(io.RawIOBase):
    """Reads a stream and raises a `DataError` where it exceeds a limit.

    It checks chunks, not lines, so that reading takes as long as without it.
    """

    def __init__(self, path: Path, stream: Any, limit: int, *, has_lines: bool = True) -> None:
        """Create a reader.

        Args:
            path: the file, for messages.
            stream: decompressed content, as an `io.BufferedIOBase`.
            limit: number of bytes that it may contain.
            has_lines: whether no line may be longer than `MAX_DOCUMENT_BYTES`.
        """
        self._path, self._stream = path, stream
        self._limit, self._has_lines = limit, has_lines
        self._position = self._line_start = self._lines = 0
        self.has_nul = False
        """Whether what was read contains a NUL byte."""

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read the next bytes.

        Raises:
            DataError: a limit is exceeded.
        """
        # read1 does not wait for more than what a pipe contains.
        chunk: bytes = self._stream.read1(len(buffer))
        if self._position + len(chunk) > self._limit:
            raise too_large(self._path, self._limit)
        if self._has_lines:
            self._check_lines(chunk)
        self._position += len(chunk)
        self.has_nul = self.has_nul or b"\0" in chunk
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def _check_lines(self, chunk: bytes) -> None:
        """Check the line that began in an earlier chunk; one within a chunk is never too long."""
        breaks = [at for at in (chunk.find(b"\n"), chunk.find(b"\r")) if at >= 0]
        end = self._position + min(breaks, default=len(chunk))
        if end - self._line_start > MAX_DOCUMENT_BYTES:
            raise too_long(f"{printable(self._path)}, byte {self._line_start:,}: the line")
        if breaks:
            last = max(chunk.rfind(b"\n"), chunk.rfind(b"\r"))
            self._line_start = self._position + last + 1
        most = self._limit // BYTES_PER_LINE
        # Counting is slow, and there are not more lines than bytes.
        if self._position > most:
            self._lines += chunk.count(b"\n") + chunk.count(b"\r")
            if self._lines > most:
                raise too_many(self._path, self._limit, "line", BYTES_PER_LINE)


def limited(path: Path, stream: Any, limit: int, *, has_lines: bool = True) -> io.BufferedReader:
    """Return a buffered `LimitedReader`."""
    return io.BufferedReader(LimitedReader(path, stream, limit, has_lines=has_lines), BUFFER_BYTES)
