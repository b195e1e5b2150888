from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celltune.data_prep.sources.plain_pickle import PlainPickleError, load_plain

MEMORY = 1 << 20
keys = st.text(max_size=9) | st.integers(-(1 << 32) + 1, (1 << 32) - 1)
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(1 << 3000), 1 << 3000)
    | st.floats(allow_nan=False)
    | st.text()
    | st.sets(keys)
    | st.frozensets(keys)
)
plain = st.recursive(
    leaves,
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(keys, inner),
    max_leaves=12,
)
protocols = st.integers(0, pickle.HIGHEST_PROTOCOL)


@settings(derandomize=True)
@given(plain, protocols)
def test_reads_what_pickle_writes(value: Any, protocol: int) -> None:
    repeated = [value, value, {"a": value}]
    content = pickle.dumps(repeated, protocol)
    loaded = load_plain(content, MEMORY)
    assert loaded == repeated
    assert type(loaded[0]) is type(value)
    if value and isinstance(value, (list, dict, str)):
        assert loaded[0] is loaded[1]


def mutations() -> st.SearchStrategy[bytes]:
    """Pickles with bytes that were replaced, removed or inserted, and sequences of instructions."""
    codes = st.sampled_from([bytes([code]) for code in pickle_codes()])
    programs = st.lists(codes | st.binary(max_size=5), max_size=30).map(b"".join)
    edit = st.tuples(st.integers(0, 400), st.integers(0, 3), codes | st.binary(max_size=3))
    pickles = st.builds(pickle.dumps, plain, protocols)
    return programs | st.builds(edited, pickles, st.lists(edit, max_size=4))


def pickle_codes() -> list[int]:
    names = [name for name in vars(pickle) if name.isupper()]
    values = [getattr(pickle, name) for name in names]
    return [value[0] for value in values if isinstance(value, bytes) and len(value) == 1]


def edited(content: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for position, removed, inserted in edits:
        at = position % (len(content) + 1)
        content = content[:at] + inserted + content[at + removed :]
    return content


@settings(derandomize=True)
@given(mutations())
def test_any_content_is_plain_data_or_an_error(content: bytes) -> None:
    try:
        loaded = load_plain(content, MEMORY)
    except PlainPickleError:
        return
    pending, seen = [loaded], 0
    while pending and (seen := seen + 1) < 1000:
        value = pending.pop()
        assert type(value) in PLAIN
        if isinstance(value, (list, tuple, set, frozenset)):
            pending.extend(value)
        elif isinstance(value, dict):
            pending.extend([*value, *value.values()])


PLAIN = (
    type(None), bool, int, float, str, bytes, list, tuple, dict, set, frozenset, type
)  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b".",
        b"\x80\x04",
        b"\x8c\x05abc",
        b"\x8b\xff\xff\xff\xff.",
        b"\x8e" + b"\xff" * 8 + b".",
        b"\x96" + b"\xff" * 8 + b".",
        b"\x95" + b"\xff" * 8,
        b"I" + b"1" * 5000 + b"\n.",
        b"Np" + b"1" * 5000 + b"\n.",
        b"S'abc\n.",
        b"h\x00.",
        b"Na.",
        b"(K\x01d.",
        b"NN\x93.",
        b"\x8c\x01\xff.",
    ],
)
def test_damaged_pickle_is_rejected(content: bytes) -> None:
    with pytest.raises(PlainPickleError, match=r"^it is truncated or damaged$"):
        load_plain(content, MEMORY)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"cposix\nsystem\n.", "it loads 'posix.system', which is not plain data"),
        (b"c\x1b[31m\n" + b"x" * 999 + b"\n.", r"it loads '\\x1b\[31m\.x+…', which"),
        (b"\x8c\x08builtins\x8c\x04eval\x93.", "it loads 'builtins.eval'"),
        (b"c__builtin__\nset\n)R.", "it calls a function"),
        (b"N)R.", "it calls a function"),
        (b"Nb.", "it contains the instruction 0x62 at byte 1, which does not build plain data"),
        (b"(iposix\nsystem\n.", "it contains the instruction 0x69"),
        (b"Nq\x00\x81.", "it contains the instruction 0x81"),
        (b"P1\n.", "it refers to an object outside the file"),
        (b"}))s.", "a key of a mapping or a member of a set is neither"),
        (b"}\x8a\x06\0\0\0\0\0\x01Ns.", "a key of a mapping or a member of a set is neither"),
        (b"\x8f(G01234567\x90.", "a key of a mapping or a member of a set is neither"),
        (b"]" * 5000, "it contains too many containers"),
        (b"N" + b"2" * 50_000, "it contains too many objects"),
        (b"(" * 50_000, "it contains too many objects"),
    ],
)
def test_anything_but_plain_data_of_limited_size_is_rejected(content: bytes, message: str) -> None:
    with pytest.raises(PlainPickleError, match=message):
        load_plain(content, MEMORY)


def test_memory_does_not_grow_with_announced_positions() -> None:
    assert load_plain(b"Nr\xff\xff\xff\xff.", MEMORY) is None


@pytest.mark.parametrize("nest", [b"\x85", b"\x85" * 2, b"]q\x00h\x00a\x85"])
def test_nesting_is_not_limited_and_does_not_overflow_the_stack(nest: bytes) -> None:
    assert type(load_plain(b")" + nest * (100_000 // len(nest)) + b".", 1 << 26)) is tuple
