"""Readers of word vector files.

Supported are GloVe and word2vec text files (plain, compressed or in a zip archive), with spaces or
tabs between the numbers, and word2vec binary files. Words of GloVe can contain spaces.

Shapes: E components of a vector.
"""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.errors import DataError
from celltune.data_prep.io.contents import (
    BYTES_PER_VECTOR,
    content_limit,
    limit_of_file,
    limited,
    open_content,
    too_large,
    too_many,
)
from celltune.data_prep.io.files import reading
from celltune.data_prep.io.regular import open_regular
from celltune.data_prep.types import Progress
from celltune.printable import printable, quoted

ZIP_MAGIC = b"PK\x03\x04"
MAX_WIDTH = 1 << 16
"""Maximum E. Real vectors have at most a few thousand components, so a larger value means that the
file has another format."""
MAX_WORD_BYTES = 1 << 16
"""Longest word of a binary file."""
PROGRESS_INTERVAL = 10_000
"""Number of vectors between two progress reports."""
_LONGEST_COUNT = 12
"""Digits of a number in the header of a file."""

_MOST_UNDECODABLE = 0.01
"""Share of the words that may be invalid UTF-8; with more of them, the file is of another
encoding or damaged."""

Vector = NDArray[np.float32]
_Step = Callable[[int], None]


class WordVectors(NamedTuple):
    """The vectors of some words."""

    vectors: Mapping[str, Vector]
    """`(E,)` vectors, by word."""
    width: int
    """E; 0 if the file contains no vector."""
    undecodable: int = 0
    """Number of words that are not valid UTF-8, whose vectors were skipped."""


def read_vectors(
    path: Path,
    words: Collection[str],
    *,
    member: str | None = None,
    max_bytes: int | None = None,
    progress: Progress | None = None,
) -> WordVectors:
    """Read the vectors of the given words; other lines are validated and skipped.

    Words that are not valid UTF-8 are skipped and counted: the largest published files have some.

    Args:
        path: the file; it is binary if its name ends in .bin or .bin.gz, otherwise text.
        words: the words to look up. The first vector counts if a word occurs twice.
        member: name of the file in a zip archive; None if the archive contains a single file.
        max_bytes: limit for the file after decompression (see `content_limit`).
        progress: is called with `("vector file", vectors read, None)`.

    Raises:
        DataError: the file is missing, empty, damaged, truncated or too large, a line has another
            width than the first one, a value is not a finite number, or more than 1 % of the words
            are not valid UTF-8.
    """
    count = 0

    def step(number: int) -> None:
        nonlocal count
        count = number
        if number > most:
            raise too_many(path, limit, "vector", BYTES_PER_VECTOR)
        if progress and number % PROGRESS_INTERVAL == 1:
            progress("vector file", number, None)

    is_binary = path.name.endswith((".bin", ".bin.gz"))
    read = _read_binary if is_binary else _read_text
    with reading(path), _open(path, member, max_bytes, has_lines=not is_binary) as file:
        limit = content_limit(path.stat().st_size, max_bytes)
        most = limit // BYTES_PER_VECTOR
        found = read(path, file, frozenset(words), step)
    if not found.width:
        raise DataError(f"{path} is empty. Each line has to contain a word and its vector.")
    if found.undecodable > max(1, _MOST_UNDECODABLE * count):
        raise DataError(
            f"{path}: {found.undecodable:,} of {count:,} words are not valid UTF-8. Convert the "
            f"file to UTF-8, or get it again."
        )
    return found


@contextmanager
def _open(
    path: Path, member: str | None, max_bytes: int | None, *, has_lines: bool
) -> Iterator[IO[bytes]]:
    with open_regular(path) as raw:
        if raw.read(len(ZIP_MAGIC)) == ZIP_MAGIC:
            limit = limit_of_file(raw, max_bytes)
            with (
                _open_member(path, raw, member, limit) as unzipped,
                limited(path, unzipped, limit, has_lines=has_lines) as content,
            ):
                yield content
            return
    with open_content(path, max_bytes, has_lines=has_lines) as content:
        yield content


@contextmanager
def _open_member(path: Path, raw: IO[bytes], member: str | None, limit: int) -> Iterator[IO[bytes]]:
    try:
        with zipfile.ZipFile(raw) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
            if member is None and len(names) == 1:
                member = names[0]
            if member not in names:
                missing = f"{path} has no file {quoted(member)}. " if member else ""
                shown = ", ".join(printable(name, 80) for name in names[:8])
                raise DataError(
                    f"{missing}The files in {path} are: {shown}. Set data.vectors.member to the "
                    f"file to read."
                )
            if archive.getinfo(member).file_size > limit:
                raise too_large(path, limit)
            with archive.open(member) as file:
                yield file
    except (RuntimeError, NotImplementedError) as error:
        # Raised by zipfile for encrypted members and unsupported compression methods.
        raise DataError(
            f"{path} cannot be unpacked ({printable(error, 200)}). Unpack it by hand and set "
            f"data.vectors.path to the unpacked file."
        ) from error
    except (
        zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, ValueError,
        OverflowError, OSError,
    ) as error:  # fmt: skip
        # The decompressors raise an OSError without a number for damage; errors of the disk have
        # one.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DataError(
            f"{path} is damaged or truncated ({printable(error, 200)}). Get the file again and "
            f"compare its size with the original."
        ) from error


def _read_text(path: Path, file: IO[bytes], words: frozenset[str], step: _Step) -> WordVectors:
    vectors: dict[str, Vector] = {}
    width = count = stated = undecodable = 0
    for number, line in enumerate(file, start=1):
        step(number)
        content = line.rstrip()
        if not content:
            continue
        fields = (content.replace(b"\t", b" ") if b"\t" in content else content).split(b" ")
        if number == 1 and len(fields) == 2 and all(field.isdigit() for field in fields):
            # The header of word2vec: number of words, width.
            stated = _count(path, fields[0])
            _count(path, fields[1])
            continue
        count += 1
        place = f"{path}, line {number}"
        if not width:
            width = _checked_width(place, _width_of_first(fields))
        if len(fields) != width + 1:
            fields = _join_word(place, fields, width)
        word = _decoded(fields[0])
        if word is None:
            undecodable += 1
        elif word in words and word not in vectors:
            vectors[word] = _parse_vector(place, fields[1:])
    if count < stated:
        raise DataError(
            f"{path} contains {count} vectors, but its first line states {stated}. The file is "
            f"truncated. Get it again."
        )
    return WordVectors(vectors, width, undecodable)


def _width_of_first(fields: list[bytes]) -> int:
    """Return the number of components in the first line, whose word can contain spaces."""
    if len(fields) > MAX_WIDTH + 1:
        return len(fields) - 1
    numbers = 0
    while numbers < len(fields) - 1 and _is_number(fields[-1 - numbers]):
        numbers += 1
    has_number = any(map(_is_number, fields[1 : len(fields) - numbers]))
    # Otherwise a component is not a number, which the parser reports.
    return numbers if numbers and not has_number else len(fields) - 1


def _count(path: Path, field: bytes) -> int:
    """Return a number of the file's header."""
    if len(field) > _LONGEST_COUNT:
        raise DataError(
            f"{path}, line 1 states the number {quoted(field.decode('latin1'))}, which is larger "
            f"than any file of vectors. Get the file again."
        )
    return int(field)


def _checked_width(place: str, width: int) -> int:
    if not width:
        raise DataError(
            f"{place} has a word without numbers. A line has to contain a word followed by numbers."
        )
    if width > MAX_WIDTH:
        raise DataError(
            f"{place} has vectors of {width:,} numbers, but at most {MAX_WIDTH:,} are supported. "
            f"Get the file again."
        )
    return width


def _join_word(place: str, fields: list[bytes], width: int) -> list[bytes]:
    """Join the fields of a word that contains spaces, such as ". . ." in glove.840B."""
    extra = len(fields) - 1 - width
    if extra < 0 or any(_is_number(field) for field in fields[1 : 1 + extra]):
        raise DataError(
            f"{place} has {len(fields) - 1} numbers, but the lines before it have {width}. Get the "
            f"file again."
        )
    return [b" ".join(fields[: 1 + extra]), *fields[1 + extra :]]


def _is_number(field: bytes) -> bool:
    try:
        _numbers([field])
    except ValueError:
        return False
    return True


def _numbers(fields: list[bytes]) -> list[float]:
    # Python accepts underscores in numbers, writers of vectors do not.
    if b"_" in b" ".join(fields):
        raise ValueError("a number contains an underscore")
    return [float(field) for field in fields]


def _parse_vector(place: str, fields: list[bytes]) -> Vector:
    try:
        # A number beyond float32 becomes infinite, which `_require_finite` rejects.
        with np.errstate(over="ignore"):
            vector = np.array(_numbers(fields), dtype=np.float32)
    except ValueError as error:
        invalid = next(field for field in fields if not _is_number(field))
        raise DataError(
            f"{place}: {quoted(invalid.decode('latin1'))} is not a number. A line has to contain a "
            f"word followed by numbers."
        ) from error
    return _require_finite(place, vector)


def _require_finite(place: str, vector: Vector) -> Vector:
    if not np.isfinite(vector).all():
        raise DataError(
            f"{place}: the vector contains a value that is not finite. Get the file again."
        )
    return vector


def _decoded(word: bytes) -> str | None:
    """Return a word, or None if it is not valid UTF-8."""
    try:
        return word.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _read_binary(path: Path, file: IO[bytes], words: frozenset[str], step: _Step) -> WordVectors:
    count, width = _read_binary_header(path, file)
    layout = struct.Struct(f"<{width}f")
    vectors: dict[str, Vector] = {}
    undecodable = 0
    for number in range(1, count + 1):
        step(number)
        place = f"{path}, vector {number} of {count}"
        word, content = _read_binary_word(place, file), file.read(layout.size)
        if len(content) < layout.size:
            raise DataError(f"{place}: the file is truncated. Get it again.")
        # The original word2vec can cut a word within a UTF-8 sequence.
        text = _decoded(word)
        if text is None:
            undecodable += 1
        elif text in words and text not in vectors:
            vector = np.frombuffer(content, "<f4").astype(np.float32)
            vectors[text] = _require_finite(place, vector)
    return WordVectors(vectors, width, undecodable)


def _read_binary_header(path: Path, file: IO[bytes]) -> tuple[int, int]:
    """Return the number of vectors and their width; (0, 0) if the file is empty."""
    header = file.readline(64).split()
    if not header:
        return 0, 0
    if len(header) != 2 or not all(field.isdigit() for field in header) or not int(header[1]):
        raise DataError(
            f"{path} is not a word2vec binary file, which begins with the number of vectors and "
            f"their width. If it is a text file, rename it so that it does not end in .bin."
        )
    count, width = (_count(path, field) for field in header)
    return count, _checked_width(f"{path}, line 1", width)


def _read_binary_word(place: str, file: IO[bytes]) -> bytes:
    word = bytearray()
    while (letter := file.read(1)) and letter != b" ":
        word += letter
        if len(word) > MAX_WORD_BYTES:
            raise DataError(
                f"{place}: the word is longer than {MAX_WORD_BYTES:,} bytes. Get the file again."
            )
    return bytes(word.lstrip(b"\n"))
