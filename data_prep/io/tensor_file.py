"""Read safetensors files that may come from someone else.

::

    8 bytes     size N of the header, little-endian
    N bytes     JSON: for each tensor its type, its shape, and where its bytes are in the data
    the rest    the data

The header is read and checked first, so that a reader can compare the shapes with the model that it
expects before it reads or allocates anything of their size. The arrays are views of the content.

Source: the format is documented at https://github.com/huggingface/safetensors#format.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.io.strict_json import parse_json
from celltune.printable import quoted

_MOST_HEADER_BYTES = 1 << 24
"""Enough for the tensors of an ensemble of 10,000 models."""
_MOST_DIMENSIONS = 8
_MOST_ITEMS = 1 << 48
_SIZE_BYTES = 8
_METADATA = "__metadata__"
_KEYS = {"dtype", "shape", "data_offsets"}
_TYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}


LARGEST_WEIGHT = 1e18
"""Largest magnitude of a weight. The product of two larger ones is no float32, so no training
arrives at them."""


class TensorSpec(NamedTuple):
    """Type and shape of a tensor."""

    dtype: str
    """Name of the type in numpy and torch, such as "float32"."""
    shape: tuple[int, ...]

    def __str__(self) -> str:
        """Return type and shape for messages."""
        return f"{self.dtype} {self.shape}"


Specs = Mapping[str, TensorSpec]


@dataclass(frozen=True)
class TensorHeader:
    """The header of a file."""

    specs: Specs
    """The tensors by name."""
    starts: Mapping[str, int]
    """Offset of the first byte of each tensor in the file."""

    def arrays(self, content: bytes) -> dict[str, NDArray[Any]]:
        """Return the arrays in the content of the whole file, as read-only views of it."""
        found: dict[str, NDArray[Any]] = {}
        for name, (dtype, shape) in self.specs.items():
            count = math.prod(shape)
            array = np.frombuffer(content, dtype, count, self.starts[name]).reshape(shape)
            # Compiled code reads aligned numbers; files of other programs may contain others.
            found[name] = np.require(array, requirements="A")
        return found


def read_header(file: BinaryIO, size: int) -> TensorHeader:
    """Read and check the header of a safetensors file.

    Args:
        file: the file, at its start.
        size: size of the file in bytes.

    Raises:
        ValueError: the header is invalid or does not describe a file of this size exactly: a tensor
            overlaps another one, bytes belong to no tensor, or the file is too short. The message
            is a clause about the file.
        OSError: the file cannot be read.
    """
    if size < _SIZE_BYTES:
        _reject(f"it has {size} bytes, fewer than the size of its header takes")
    header_size = int.from_bytes(file.read(_SIZE_BYTES), "little")
    data_size = size - _SIZE_BYTES - header_size
    if header_size > _MOST_HEADER_BYTES or data_size < 0:
        _reject(f"its header would have {header_size:,} bytes")
    try:
        header = parse_json(file.read(header_size))
    except ValueError as error:
        raise ValueError(f"its header cannot be read: {error}") from error
    if not isinstance(header, dict):
        _reject("its header is not an object")
    header.pop(_METADATA, None)
    ranges: list[tuple[int, int, str]] = []
    specs: dict[str, TensorSpec] = {}
    for name, entry in header.items():
        specs[name], (begin, end) = _tensor(name, entry)
        ranges.append((begin, end, name))
    _check_ranges(ranges, data_size)
    data_start = _SIZE_BYTES + header_size
    return TensorHeader(specs, {name: data_start + begin for begin, _, name in ranges})


def specs_of(arrays: Mapping[str, NDArray[Any]]) -> dict[str, TensorSpec]:
    """Return the type and shape of arrays."""
    return {name: TensorSpec(str(array.dtype), array.shape) for name, array in arrays.items()}


def are_weights(values: NDArray[Any]) -> bool:
    """Return whether no value is NaN or larger in magnitude than `LARGEST_WEIGHT`."""
    # The extremes are NaN if a value is.
    return not values.size or bool(
        float(values.min()) >= -LARGEST_WEIGHT and float(values.max()) <= LARGEST_WEIGHT
    )


def _tensor(name: str, entry: Any) -> tuple[TensorSpec, tuple[int, int]]:
    """Return type, shape, begin and end of a tensor from its entry in the header."""
    where = f"its tensor {quoted(name)}"
    if not isinstance(entry, dict) or entry.keys() != _KEYS:
        _reject(f"{where} needs exactly the entries {', '.join(sorted(_KEYS))}")
    dtype = _TYPES.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    if dtype is None:
        _reject(f"{where} has the type {quoted(entry['dtype'])}. Allowed: {', '.join(_TYPES)}")
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not _are_sizes(shape) or len(shape) > _MOST_DIMENSIONS:
        _reject(f"{where} has the shape {quoted(shape)}")
    if not _are_sizes(offsets) or len(offsets) != 2:
        _reject(f"{where} has the offsets {quoted(offsets)}")
    # An empty array may have dimensions that no memory could hold.
    if math.prod(max(length, 1) for length in shape) > _MOST_ITEMS:
        _reject(f"{where} has the shape {quoted(shape)}")
    begin, end = offsets
    if end - begin != math.prod(shape) * dtype.itemsize:
        _reject(f"{where} has {end - begin} bytes, which do not match its type and shape")
    return TensorSpec(dtype.name, tuple(shape)), (begin, end)


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(
        type(value) is int and 0 <= value <= _MOST_ITEMS for value in values
    )


def _check_ranges(ranges: list[tuple[int, int, str]], data_size: int) -> None:
    """Check that the tensors fill the data without gap or overlap."""
    position = 0
    for begin, end, name in sorted(ranges):
        if begin != position:
            problem = "overlaps another one" if begin < position else "follows unused bytes"
            _reject(f"its tensor {quoted(name)} {problem}")
        position = end
    if position != data_size:
        _reject(f"its tensors have {position:,} bytes, but {data_size:,} bytes follow its header")


def _reject(problem: str) -> NoReturn:
    raise ValueError(problem)
