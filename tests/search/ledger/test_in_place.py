"""A ledger that is removed, moved or changed while it is open."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from celltune.data_prep.io.enclosed import EnclosedPath
from celltune.search.errors import LedgerError, StorageError
from celltune.search.ledger.events import Event, ExperimentCreated, TrialCreated
from celltune.search.ledger.ledger import Ledger, read

FIRST = ExperimentCreated(at=1.0, fingerprint="f")
TRIALS: list[Event] = [
    TrialCreated(at=2.0, number=number, params={"cell": "gru"}, max_epochs=2) for number in range(3)
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "demo").mkdir()
    path = tmp_path / "demo" / "ledger.jsonl"
    with Ledger(path) as ledger:
        ledger.append(FIRST)
    return path


def rename(path: Path) -> None:
    path.parent.rename(path.parent.with_name("renamed"))


def replace(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)


def hide(path: Path) -> None:
    moved = path.rename(path.with_name("moved"))
    path.symlink_to(moved)


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "folder removed": (
        lambda path: shutil.rmtree(path.parent),
        r"was removed while the search was running.* Its 2 recorded events are lost, unless",
    ),
    "ledger removed": (Path.unlink, "Its 2 recorded events are lost, unless there is a copy"),
    "folder renamed": (rename, r"was moved .*The moved file keeps all 2 recorded events; unfini"),
    "replaced": (replace, "Its 2 recorded events are lost, unless there is a copy"),
    "replaced by a link": (hide, "was moved or replaced while the search was running"),
    "truncated": (
        lambda path: path.write_bytes(b""),
        r"was changed by another program .*: it has [\d,]+ bytes instead of [\d,]+\. .*Restore",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_ledger_that_is_no_longer_in_its_place_acknowledges_nothing(
    path: Path, change: str
) -> None:
    act, message = CHANGES[change]
    with Ledger(path) as ledger:
        ledger.append(TRIALS[0])
        ledger.check_in_place()
        act(path)
        with pytest.raises(StorageError, match=message):
            ledger.check_in_place()
        for _ in range(2):
            with pytest.raises(StorageError, match=message.replace("bytes instead of", ".*")):
                ledger.append(TRIALS[1])
        assert ledger.events == [FIRST, TRIALS[0]]


def test_a_moved_ledger_keeps_what_was_recorded(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.append(TRIALS[0])
        rename(path)
        with pytest.raises(StorageError, match="was moved"):
            ledger.append(TRIALS[1])
    moved = path.parent.with_name("renamed") / path.name
    assert read(moved)[:2] == [FIRST, TRIALS[0]]
    assert not path.parent.exists()
    with Ledger(moved) as ledger:
        ledger.append(TRIALS[2].model_copy(update={"number": len(ledger.events) - 1}))


def test_a_second_writer_is_rejected_without_the_lock_of_the_experiment(path: Path) -> None:
    with Ledger(path) as ledger:
        with pytest.raises(LedgerError, match=r"is being written by another process\. Wait"):
            Ledger(path)
        ledger.append(TRIALS[0])
    with Ledger(path) as ledger:
        ledger.append(TRIALS[1])
    ledger.check_in_place()


@pytest.mark.parametrize("place", ["ledger.jsonl", "demo"])
def test_a_link_is_neither_read_nor_written(tmp_path: Path, path: Path, place: str) -> None:
    linked = path if place == "ledger.jsonl" else path.parent
    moved = linked.rename(tmp_path / "moved")
    linked.symlink_to(moved)
    before = (moved if moved.is_file() else moved / path.name).read_bytes()
    enclosed = EnclosedPath(tmp_path, ("demo", "ledger.jsonl"))

    with pytest.raises(LedgerError, match=r"cannot be read: (Not a regular|'demo' is a symbolic)"):
        read(enclosed)
    with pytest.raises(LedgerError, match=r"cannot be written: (Not a regular|'demo' is a symb)"):
        Ledger(enclosed)

    assert (moved if moved.is_file() else moved / path.name).read_bytes() == before
