"""Headers of tensor files: equal to the reference implementation, or rejected by it as well."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from celltune.data_prep.io.tensor_file import read_header, specs_of

ARRAYS: dict[str, NDArray[Any]] = {
    "weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "empty": np.zeros((0, 4), np.int64),
    "step": np.array(7.0),
    "text": np.arange(3, dtype=np.uint8),
}
CONTENT: bytes = save(ARRAYS, metadata={"format": "np"})
SIZE = int.from_bytes(CONTENT[:8], "little")
DATA = CONTENT[8 + SIZE :]
HEADER: dict[str, Any] = json.loads(CONTENT[8 : 8 + SIZE])

SINGLE = [-1, 0, 1, 3, 2**31, 2**63, 10**30, 1.5, True, None, "F32", "BF16", {}, {"dtype": "F32"}]
LISTS = [[], [0], [2, 3], [-2, -3], [0, 24], [24, 0], [0, 10**30], [2**40] * 3]
HOSTILE = st.sampled_from([*SINGLE, *LISTS])


def read(content: bytes) -> dict[str, NDArray[Any]]:
    return read_header(io.BytesIO(content), len(content)).arrays(content)


def read_or_problem(content: bytes) -> tuple[dict[str, NDArray[Any]] | None, str]:
    try:
        return read(content), ""
    except ValueError as error:
        return None, str(error)


def with_header(header: Any, data: bytes = DATA) -> bytes:
    encoded = json.dumps(header).encode()
    return len(encoded).to_bytes(8, "little") + encoded + data


def test_arrays_are_those_of_the_reference() -> None:
    found = read(CONTENT)
    assert specs_of(found) == specs_of(ARRAYS)
    for name, array in load(CONTENT).items():
        assert np.array_equal(found[name], array)


def test_unaligned_tensors_are_copied() -> None:
    header = json.dumps(HEADER).encode()
    header += b" " * (3 - len(header) % 8)
    content = len(header).to_bytes(8, "little") + header + DATA
    for name, array in read(content).items():
        assert array.flags.aligned
        assert np.array_equal(array, ARRAYS[name])


@settings(max_examples=80, derandomize=True, deadline=None)
@given(data=st.data())
def test_changed_headers_are_rejected_or_read_as_by_the_reference(data: st.DataObject) -> None:
    header = json.loads(json.dumps(HEADER))
    name = data.draw(st.sampled_from(sorted(ARRAYS)))
    key = data.draw(st.sampled_from(["dtype", "shape", "data_offsets", None, "extra"]))
    if key is None:
        header[data.draw(st.sampled_from([name, "other"]))] = data.draw(HOSTILE)
    elif key in header[name] and data.draw(st.booleans()) and key != "dtype":
        at = data.draw(st.integers(0, len(header[name][key])))
        header[name][key][at : at + 1] = [data.draw(HOSTILE)]
    else:
        header[name][key] = data.draw(HOSTILE)
    cut = data.draw(st.integers(0, 2))
    content = with_header(header, DATA[: len(DATA) - cut] + bytes(data.draw(st.integers(0, 1))))
    found, problem = read_or_problem(content)
    assert len(problem) < 300
    assert problem.isprintable()
    if found is not None:
        assert specs_of(found) == specs_of(load(content))


@settings(max_examples=60, derandomize=True, deadline=None)
@given(position=st.integers(0, len(CONTENT) - 1), value=st.integers(0, 255))
def test_changed_bytes_never_give_other_shapes_than_the_reference(
    position: int, value: int
) -> None:
    content = bytearray(CONTENT)
    content[position] = value
    found, _ = read_or_problem(bytes(content))
    if found is not None:
        assert specs_of(found) == specs_of(load(bytes(content)))


def test_what_the_reference_rejects_is_rejected() -> None:
    for content in (CONTENT[:-1], CONTENT + b"x", b"", CONTENT[:7], with_header({}, b"x")):
        with pytest.raises(SafetensorError):
            load(content)
        with pytest.raises(ValueError, match=r"^its? "):
            read(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"short", "it has 5 bytes, fewer than the size of its header"),
        ((2**63).to_bytes(8, "little"), "its header would have 9,223,372,036,854,775,808 bytes"),
        (with_header([]), "its header is not an object"),
        (with_header(HEADER)[:60], "its header would have"),
        (
            (2).to_bytes(8, "little") + b"{{",
            r"its header cannot be read: it is not valid JSON \(Expecting",
        ),
        (
            (46).to_bytes(8, "little") + b'{"x":{"dtype":"F32","shape":[],"shape":[1]}}  ',
            "its header cannot be read: the key 'shape' is there twice",
        ),
        (
            with_header({"x": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}, b"ab"),
            "its tensor 'x' has the type 'BF16'. Allowed: F64, F32",
        ),
        (
            with_header({"x": {"dtype": "U8", "shape": [0, 2**48], "data_offsets": [0, 0]}}, b"a"),
            "its tensors have 0 bytes, but 1 bytes follow",
        ),
        (
            with_header({"x": {"dtype": "U8", "shape": [0, 2**48, 2], "data_offsets": [0, 0]}}),
            "its tensor 'x' has the shape",
        ),
        (
            with_header({"x": {"dtype": "U8", "shape": [2], "data_offsets": [1, 3]}}, b"abc"),
            "its tensor 'x' follows unused bytes",
        ),
        (
            with_header(
                {
                    "x": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]},
                    "y": {"dtype": "U8", "shape": [2], "data_offsets": [1, 3]},
                },
                b"abc",
            ),
            "its tensor 'y' overlaps another one",
        ),
        (
            with_header({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, b"abcd"),
            "its tensor 'x' has 4 bytes, which do not match its type and shape",
        ),
        (with_header({"x": {"dtype": "F32"}}), "its tensor 'x' needs exactly the entries data_off"),
        (
            with_header({"x": {"dtype": "U8", "shape": [0], "data_offsets": [0]}}),
            r"its tensor 'x' has the offsets '\[0\]'",
        ),
    ],
)
def test_the_problem_is_named(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(content)
