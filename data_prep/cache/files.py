"""Read the files of prepared data, which others may have written.

The header of an array is matched against the one form that numpy writes, instead of being evaluated
as Python, and compared with the size of the file before memory is allocated.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.io.regular import open_regular, read_regular
from celltune.data_prep.io.strict_json import parse_json

_JSON_BYTES = 1 << 27
_MAGIC = b"\x93NUMPY\x01\x00"
"""Start of an array of version 1.0; the size of its header follows in two bytes."""
_HEADER = re.compile(
    rb"\{'descr': '(<i4|<i8|<f4|\|u1)', 'fortran_order': False, "
    rb"'shape': \((\d{1,15}(?:, \d{1,15}){0,3}),?\), \} *\n"
)


def read_array(path: Path, digest: str) -> NDArray[Any]:
    """Return an array from a `.npy` file.

    Args:
        path: the file.
        digest: its SHA-256.

    Raises:
        ValueError: it is not an array of numbers that numpy wrote, or its checksum is wrong.
        OSError: it is not a regular file, or cannot be read.
    """
    with open_regular(path, follow=False) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            dtype, shape, start = _read_header(file)
        except ValueError as error:
            raise ValueError(f"{path.name} {error}") from error
        if start + math.prod(shape) * dtype.itemsize != size:
            raise ValueError(f"{path.name} has {size:,} bytes, which do not match its header")
        file.seek(0)
        content = np.fromfile(file, np.uint8, size)
        if len(content) != size:
            raise ValueError(f"{path.name} was truncated while it was read")
    _verify(path, content.data, digest)
    return np.require(content[start:].view(dtype).reshape(shape), requirements="A")


def read_json(path: Path, digest: str | None = None) -> Any:
    """Return the value in a JSON file.

    Args:
        path: the file.
        digest: its SHA-256, if it is known.

    Raises:
        ValueError: it is not valid JSON, or its checksum is wrong.
        OSError: it is not a regular file, is too large, or cannot be read.
    """
    content = read_regular(path, limit=_JSON_BYTES, follow=False)
    if digest is not None:
        _verify(path, content, digest)
    try:
        return parse_json(content)
    except ValueError as error:
        raise ValueError(f"{path.name} cannot be used: {error}") from error


def _read_header(file: BinaryIO) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """Return the type and the shape of an array, and where its numbers start."""
    prefix = file.read(len(_MAGIC) + 2)
    header = file.read(int.from_bytes(prefix[len(_MAGIC) :], "little"))
    match = _HEADER.fullmatch(header) if prefix.startswith(_MAGIC) else None
    if match is None:
        raise ValueError("is not an array of numbers in the format of numpy")
    shape = tuple(int(length) for length in match[2].split(b", "))
    return np.dtype(match[1].decode()), shape, len(prefix) + len(header)


def _verify(path: Path, content: bytes | memoryview, digest: str) -> None:
    if hashlib.sha256(content).hexdigest() != digest:
        raise ValueError(f"the checksum of {path.name} is wrong")
