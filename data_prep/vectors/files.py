"""Readers of word vector files.

Supported are GloVe and word2vec text files (plain, gzipped or in a zip archive), and word2vec
binary files.

Shapes: E components of a vector.
"""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.errors import DataError
from celltune.data_prep.io.files import GZIP_MAGIC, reading

ZIP_MAGIC = b"PK\x03\x04"
MAX_WIDTH = 1 << 16
"""Maximum E of a binary file. Real vectors have at most a few thousand components, so a larger
value means that the file has another format."""

Vector = NDArray[np.float32]


def read_vectors(
    path: Path, words: Collection[str], *, member: str | None = None
) -> tuple[dict[str, Vector], int]:
    """Read the vectors of the given words; other lines are validated and skipped.

    Args:
        path: the file; it is binary if its name ends in .bin or .bin.gz, otherwise text.
        words: the words to look up. The first vector counts if a word occurs twice.
        member: name of the file in a zip archive; None if the archive contains a single file.

    Returns:
        `(E,)` vectors by word, and E.

    Raises:
        DataError: the file is missing, empty, damaged or truncated, a line has another width than
            the first one, or a value is not a finite number.
    """
    read = _read_binary if path.name.endswith((".bin", ".bin.gz")) else _read_text
    with reading(path), _open(path, member) as file:
        vectors, width = read(path, file, frozenset(words))
    if not width:
        raise DataError(f"{path} is empty. Each line has to contain a word and its vector.")
    return vectors, width


@contextmanager
def _open(path: Path, member: str | None) -> Iterator[IO[bytes]]:
    with path.open("rb") as raw:
        magic = raw.read(4)
        raw.seek(0)
        if magic == ZIP_MAGIC:
            with _open_member(path, raw, member) as file:
                yield file
        elif magic[:2] == GZIP_MAGIC:
            with gzip.open(raw) as file:
                yield io.BufferedReader(file, 1 << 20)
        else:
            yield raw


@contextmanager
def _open_member(path: Path, raw: IO[bytes], member: str | None) -> Iterator[IO[bytes]]:
    try:
        with zipfile.ZipFile(raw) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
            if member is None and len(names) == 1:
                member = names[0]
            if member not in names:
                missing = f"{path} has no file '{member}'. " if member else ""
                raise DataError(
                    f"{missing}The files in {path} are: {', '.join(names[:8])}. Set "
                    f"data.vectors.member to the file to read."
                )
            with archive.open(member) as file:
                yield file
    except zipfile.BadZipFile as error:
        raise DataError(
            f"{path} is damaged or truncated ({error}). Get the file again and compare its size "
            f"with the original."
        ) from error
    except (RuntimeError, NotImplementedError) as error:
        # Raised by zipfile for encrypted members and unsupported compression methods.
        raise DataError(
            f"{path} cannot be unpacked ({error}). Unpack it by hand and set data.vectors.path to "
            f"the unpacked file."
        ) from error


def _read_text(path: Path, file: IO[bytes], words: frozenset[str]) -> tuple[dict[str, Vector], int]:
    vectors: dict[str, Vector] = {}
    width = number = expected_lines = 0
    for number, line in enumerate(file, start=1):
        fields = line.rstrip().split(b" ")
        if number == 1 and len(fields) == 2 and all(field.isdigit() for field in fields):
            expected_lines = 1 + int(fields[0])  # header of word2vec: number of words, width
            continue
        width = width or len(fields) - 1
        place = f"{path}, line {number}"
        if len(fields) != width + 1:
            fields = _join_word(place, fields, width)
        word = _decode_word(place, fields[0])
        if word in words and word not in vectors:
            vectors[word] = _parse_vector(place, fields[1:])
    if number < expected_lines:
        raise DataError(
            f"{path} contains {number - 1} vectors, but its first line states "
            f"{expected_lines - 1}. The file is truncated. Get it again."
        )
    return vectors, width


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
        float(field)
    except ValueError:
        return False
    return True


def _parse_vector(place: str, fields: list[bytes]) -> Vector:
    try:
        vector = np.array([float(field) for field in fields], dtype=np.float32)
    except ValueError as error:
        raise DataError(
            f"{place}: {error}. A line has to contain a word followed by numbers."
        ) from error
    return _require_finite(place, vector)


def _require_finite(place: str, vector: Vector) -> Vector:
    if not np.isfinite(vector).all():
        raise DataError(
            f"{place}: the vector contains a value that is not finite. Get the file again."
        )
    return vector


def _decode_word(place: str, word: bytes) -> str:
    try:
        return word.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{place}: byte 0x{word[error.start]:02x} of the word is not valid UTF-8. Get the file "
            f"again."
        ) from error


def _read_binary(
    path: Path, file: IO[bytes], words: frozenset[str]
) -> tuple[dict[str, Vector], int]:
    count, width = _read_binary_header(path, file)
    layout = struct.Struct(f"<{width}f")
    vectors: dict[str, Vector] = {}
    for number in range(1, count + 1):
        place = f"{path}, vector {number} of {count}"
        word, content = _read_binary_word(file), file.read(layout.size)
        if len(content) < layout.size:
            raise DataError(f"{place}: the file is truncated. Get it again.")
        # The original word2vec can cut a word within a UTF-8 sequence; such a word is skipped.
        text = word.decode("utf-8", "replace")
        if text in words and text not in vectors:
            vector = np.frombuffer(content, "<f4").astype(np.float32)
            vectors[text] = _require_finite(place, vector)
    return vectors, width


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
    count, width = map(int, header)
    if width > MAX_WIDTH:
        raise DataError(
            f"{path} declares vectors of {width} numbers, but at most {MAX_WIDTH} are "
            f"supported. Get the file again."
        )
    return count, width


def _read_binary_word(file: IO[bytes]) -> bytes:
    word = bytearray()
    while (letter := file.read(1)) and letter != b" ":
        word += letter
    return bytes(word.lstrip(b"\n"))
