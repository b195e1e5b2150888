from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celltune.search.errors import LedgerError
from celltune.search.ledger.codec import decode, encode
from celltune.search.ledger.events import (
    EpochReported,
    Event,
    ExperimentCreated,
    TrialCreated,
    TrialFailed,
)
from celltune.search.ledger.ledger import Ledger, read

EVENTS: list[Event] = [
    ExperimentCreated(at=1.0, fingerprint="f"),
    TrialCreated(at=2.0, number=0, params={"cell": "gru", "dropout": 0.1}, max_epochs=2),
    EpochReported(at=3.0, number=0, epoch=1, metrics={"valid_loss": 0.5}, checkpoint="epoch-1"),
    TrialFailed(at=4.0, number=0, error="Zeile\nmit »Umlauten«", details='{"n": 1}'),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with Ledger(tmp_path / "ledger.jsonl") as ledger:
        ledger.append(*EVENTS)
    return tmp_path / "ledger.jsonl"


def test_appended_events_are_read(path: Path) -> None:
    assert read(path) == EVENTS
    with Ledger(path) as ledger:
        assert ledger.events == EVENTS
        ledger.append(EVENTS[2])
    assert read(path) == [*EVENTS, EVENTS[2]]


@given(
    st.text(),
    st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.text()),
    st.floats(0, 1),
)
def test_decode_inverts_encode(
    text: str, params: dict[str, bool | int | str | None], number: float
) -> None:
    for event in (
        TrialFailed(at=number, number=0, error=text, details=text),
        TrialCreated(at=number, number=0, params=params, max_epochs=1),
        EpochReported(at=0.0, number=0, epoch=1, metrics={text: number}, checkpoint=None),
    ):
        line = encode(7, event)
        assert line.count(b"\n") == 1
        assert decode(7, line[:-1]) == event


@given(cut=st.integers(min_value=1))
def test_torn_last_line_is_ignored_and_removed(
    cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("cut") / "ledger.jsonl"
    lines = [encode(number, event) for number, event in enumerate(EVENTS)]
    content = b"".join(lines)
    first = len(lines[0])
    path.write_bytes(content[: first + cut % (len(content) - first)])
    complete = path.read_bytes().count(b"\n")
    assert read(path) == EVENTS[:complete]
    with Ledger(path) as ledger:
        ledger.append(EVENTS[complete])
    assert path.read_bytes() == b"".join(lines[: complete + 1])


def test_a_file_without_a_complete_line_is_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_text("the only line of somebody's notes")
    with pytest.raises(LedgerError, match=r"has no complete line\. Nothing was changed"):
        Ledger(path)
    assert path.read_text() == "the only line of somebody's notes"


@given(position=st.integers(min_value=0), bit=st.integers(0, 7))
def test_every_flipped_bit_is_detected(
    position: int, bit: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("bit") / "ledger.jsonl"
    lines = [encode(number, event) for number, event in enumerate(EVENTS)]
    body = bytearray(b"".join(lines))
    index = position % (len(body) - 1)  # A last line without its \n is torn, not damaged.
    body[index] ^= 1 << bit
    path.write_bytes(bytes(body))
    with pytest.raises(LedgerError, match=r"is damaged in line [1-5]:"):
        read(path)


def test_damaged_line_is_reported_and_the_file_is_not_changed(path: Path) -> None:
    content = path.read_bytes().replace(b"epoch-1", b"epoch-9")
    path.write_bytes(content)
    with pytest.raises(LedgerError, match=r"damaged in line 3: its checksum .* before line 3"):
        Ledger(path)
    assert path.read_bytes() == content


def test_missing_line_is_reported(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], *lines[2:]]))
    with pytest.raises(LedgerError, match="damaged in line 2: its number is that of line 3"):
        read(path)


def test_unknown_event_is_reported(path: Path) -> None:
    import zlib

    data = b'{"event":"unknown","at":1.0}'
    line = b'{"n": 0, "crc": "%08x", "data": %b}\n' % (zlib.crc32(b"0:" + data), data)
    path.write_bytes(line * 2)
    with pytest.raises(
        LedgerError, match=r"line 1: it is not a valid event .*unknown.* remove the"
    ):
        read(path)


def test_missing_ledger_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match=r"is missing. Restore the file from a copy"):
        read(tmp_path / "none.jsonl")
    with pytest.raises(LedgerError, match="cannot be written: No such file"):
        Ledger(tmp_path / "no" / "none.jsonl")


def test_full_disk_rejects_all_further_events(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write

    def half(handle: int, data: bytes) -> int:
        real(handle, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    with Ledger(path) as ledger:
        monkeypatch.setattr(os, "write", half)
        with pytest.raises(LedgerError, match="cannot be written: No space left"):
            ledger.append(EVENTS[2])
        monkeypatch.undo()
        with pytest.raises(LedgerError, match="cannot be written: No space left"):
            ledger.append(EVENTS[2])
        assert ledger.events == EVENTS
    assert read(path) == EVENTS
