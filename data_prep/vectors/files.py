"""Word vectors in files: GloVe and word2vec text, plain, gzipped or in a zip; word2vec binary.

Shapes: E numbers a vector.
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
WIDEST = 1 << 16
"""A binary file that says its vectors are wider isn't what it seems: none is wider than a few
thousand numbers."""

Vector = NDArray[np.float32]


def read_vectors(
    path: Path, wanted: Collection[str], *, member: str | None = None
) -> tuple[dict[str, Vector], int]:
    """The vectors of the wanted words. Other lines are looked at, but never kept.

    Args:
        path: a file; binary if its name ends in .bin or .bin.gz, text else.
        wanted: the words to look for. If a word stands twice, its first vector counts.
        member: of a zip; None if it holds only one file.

    Returns:
        ``(E,)`` vectors by word, and E.

    Raises:
        DataError: a missing, empty, damaged or cut file, a line whose width isn't the others', or
            numbers that aren't.
    """
    binary = path.name.endswith((".bin", ".bin.gz"))
    with reading(path), _opened(path, member) as file:
        found, width = (_binary if binary else _text)(path, file, frozenset(wanted))
    if not width:
        raise DataError(f"{path} is empty; it needs a word and its vector a line")
    return found, width


@contextmanager
def _opened(path: Path, member: str | None) -> Iterator[IO[bytes]]:
    with path.open("rb") as raw:
        magic = raw.read(4)
        raw.seek(0)
        if magic == ZIP_MAGIC:
            with _zipped(path, raw, member) as file:
                yield file
        elif magic[:2] == GZIP_MAGIC:
            with gzip.open(raw) as file:
                yield io.BufferedReader(file, 1 << 20)
        else:
            yield raw


@contextmanager
def _zipped(path: Path, raw: IO[bytes], member: str | None) -> Iterator[IO[bytes]]:
    try:
        with zipfile.ZipFile(raw) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
            if member is None and len(names) == 1:
                member = names[0]
            if member not in names:
                raise DataError(
                    f"{path} holds {', '.join(names[:8])}; set data.vectors.member to the one to "
                    f"read{f', {member!r} is none of them' if member else ''}"
                )
            with archive.open(member) as file:
                yield file
    except zipfile.BadZipFile as error:
        raise DataError(
            f"{path} is damaged or cut short ({error}); get the file again and compare its size "
            f"with the original's"
        ) from error
    except (RuntimeError, NotImplementedError) as error:
        # So Python's zipfile tells a member that is encrypted, or packed in a way it doesn't know.
        raise DataError(
            f"{path} can't be unpacked ({error}); unpack it by hand and set data.vectors.path to "
            f"the file"
        ) from error


def _text(path: Path, file: IO[bytes], wanted: frozenset[str]) -> tuple[dict[str, Vector], int]:
    found: dict[str, Vector] = {}
    width = number = promised = 0
    for number, line in enumerate(file, start=1):
        pieces = line.rstrip().split(b" ")
        if number == 1 and len(pieces) == 2 and all(piece.isdigit() for piece in pieces):
            promised = 1 + int(pieces[0])  # word2vec's header: how many words, how wide
            continue
        width = width or len(pieces) - 1
        where = f"{path}, line {number}"
        if len(pieces) != width + 1:
            pieces = _with_blanks_in_the_word(where, pieces, width)
        word = _word(where, pieces[0])
        if word in wanted and word not in found:
            found[word] = _numbers(where, pieces[1:])
    if number < promised:
        raise DataError(
            f"{path} has {number - 1} vectors where its first line says {promised - 1}: the file "
            f"is cut short; get it again"
        )
    return found, width


def _with_blanks_in_the_word(where: str, pieces: list[bytes], width: int) -> list[bytes]:
    # glove.840B holds words such as ". . ."; a number among them means another width.
    extra = len(pieces) - 1 - width
    if extra < 0 or any(_is_number(piece) for piece in pieces[1 : 1 + extra]):
        raise DataError(
            f"{where} has {len(pieces) - 1} numbers where the lines before have {width}; all "
            f"vectors of a file are of one width. Get the file again"
        )
    return [b" ".join(pieces[: 1 + extra]), *pieces[1 + extra :]]


def _is_number(piece: bytes) -> bool:
    try:
        float(piece)
    except ValueError:
        return False
    return True


def _numbers(where: str, pieces: list[bytes]) -> Vector:
    try:
        vector = np.array([float(piece) for piece in pieces], dtype=np.float32)
    except ValueError as error:
        raise DataError(f"{where}: {error}; a line holds a word and then numbers only") from error
    return _finite(where, vector)


def _finite(where: str, vector: Vector) -> Vector:
    if not np.isfinite(vector).all():
        raise DataError(f"{where}: a vector holds a number that isn't finite; get the file again")
    return vector


def _word(where: str, word: bytes) -> str:
    try:
        return word.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where}: byte 0x{word[error.start]:02x} of the word isn't utf-8; get the file again"
        ) from error


def _binary(path: Path, file: IO[bytes], wanted: frozenset[str]) -> tuple[dict[str, Vector], int]:
    header = file.readline(64).split()
    if not header:
        return {}, 0
    if len(header) != 2 or not all(piece.isdigit() for piece in header) or not int(header[1]):
        raise DataError(
            f"{path} doesn't begin with a count and a width, as word2vec's binary files do; if it "
            f"is text, its name must not end in .bin"
        )
    count, width = map(int, header)
    if width > WIDEST:
        raise DataError(
            f"{path} says that its vectors have {width} numbers each; at most {WIDEST} are read. "
            f"Get the file again"
        )
    unpack = struct.Struct(f"<{width}f")
    found: dict[str, Vector] = {}
    for number in range(1, count + 1):
        where = f"{path}, vector {number} of {count}"
        word, content = _binary_word(file), file.read(unpack.size)
        if len(content) < unpack.size:
            raise DataError(f"{where}: the file is cut short; get it again")
        # Words from C aren't always whole utf-8; such a one is no word of ours.
        text = word.decode("utf-8", "replace")
        if text in wanted and text not in found:
            found[text] = _finite(where, np.frombuffer(content, "<f4").astype(np.float32))
    return found, width


def _binary_word(file: IO[bytes]) -> bytes:
    word = bytearray()
    while (letter := file.read(1)) and letter != b" ":
        word += letter
    return bytes(word.lstrip(b"\n"))
