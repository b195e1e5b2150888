from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from celltune.search.errors import ExperimentError, LedgerError
from celltune.search.ledger.events import ExperimentCreated, TrialCreated
from celltune.search.ledger.ledger import Ledger
from celltune.search.storage.local import LocalExperiment
from celltune.search.storage.locate import find_experiment, new_experiment, open_storage
from tests.search.support import make_config

FIRST = ExperimentCreated(at=1.0, fingerprint="f")


@pytest.fixture
def folder(tmp_path: Path) -> LocalExperiment:
    folder = new_experiment("demo", tmp_path / "storage")
    folder.create(make_config(), FIRST)
    return folder


def test_what_was_created_is_found_whole(folder: LocalExperiment) -> None:
    found = find_experiment("demo", folder.path.parent)
    assert found.config() == make_config()
    assert found.state().created == FIRST
    assert open_storage(folder.path.parent).names() == ["demo"]
    assert sorted(path.name for path in folder.path.parent.iterdir()) == ["demo"]


def test_a_taken_name_is_refused_with_the_command_to_go_on(folder: LocalExperiment) -> None:
    root = folder.path.parent
    for attempt in (
        lambda: new_experiment("demo", root),
        lambda: folder.create(make_config(), FIRST),
    ):
        with pytest.raises(ExperimentError, match=f"already exists in {root}. Resume it"):
            attempt()
    assert folder.state().trials == []
    assert sorted(path.name for path in root.iterdir()) == ["demo"]


@pytest.mark.parametrize("name", ["", "a/b", "..", "-x", "a b", "x" * 101])
def test_a_name_that_is_no_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="is not a valid experiment name"):
        new_experiment(name, tmp_path)


def test_an_unknown_experiment_is_told_with_the_nearest(
    folder: LocalExperiment, tmp_path: Path
) -> None:
    with pytest.raises(ExperimentError, match=r"no experiment 'demp'.*Did you mean 'demo'"):
        find_experiment("demp", folder.path.parent)
    with pytest.raises(ExperimentError, match="It contains no experiments"):
        find_experiment("demo", tmp_path / "empty")
    assert open_storage(tmp_path / "empty").names() == []


def test_a_crash_while_creating_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    folder = new_experiment("demo", tmp_path)
    with pytest.raises((ExperimentError, LedgerError), match="No space left"):
        folder.create(make_config(), FIRST)
    assert list(tmp_path.iterdir()) == []


def test_a_storage_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ExperimentError, match=r"cannot be written: .* another folder"):
        LocalExperiment(tmp_path / "file" / "demo").create(make_config(), FIRST)


def test_a_storage_that_can_not_be_is_told_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ExperimentError, match=r"is a file\. Set `storage` to a folder"):
        new_experiment("demo", tmp_path / "file")
    with pytest.raises(ExperimentError, match=r"is a file\. Set `storage` to a folder"):
        open_storage(tmp_path / "file").names()
    too_long = tmp_path / ("x" * 5000)
    with pytest.raises(ExperimentError, match="cannot be read: File name too long"):
        new_experiment("demo", too_long)
    with pytest.raises(ExperimentError, match="cannot be read: File name too long"):
        open_storage(too_long).names()


def test_a_second_driver_is_refused_and_a_dead_ones_lock_is_free(folder: LocalExperiment) -> None:
    assert not folder.is_locked()
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path\n"
            "from celltune.search.storage.local import LocalExperiment\n"
            "with LocalExperiment(Path(sys.argv[1])).locked():\n"
            "    print('held', flush=True); sys.stdin.read()",
            str(folder.path),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert holder.stdout.readline() == b"held\n"
    assert folder.is_locked()
    with (
        pytest.raises(ExperimentError, match=f"run by another process .pid {holder.pid} on"),
        folder.locked(),
    ):
        pass
    holder.kill()
    holder.wait()
    holder.stdout.close()
    holder.stdin.close()
    assert not folder.is_locked()
    with folder.locked():
        assert folder.is_locked()


def test_a_folder_that_can_not_be_written_can_not_be_locked(tmp_path: Path) -> None:
    with (
        pytest.raises(ExperimentError, match="cannot be written: No such file"),
        LocalExperiment(tmp_path / "none").locked(),
    ):
        pass


def test_a_ledger_that_contradicts_itself_is_told(folder: LocalExperiment) -> None:
    with Ledger(folder.ledger) as ledger:
        ledger.append(TrialCreated(at=1.0, number=5, params={}, max_epochs=1))
    with pytest.raises(LedgerError, match="contradicts itself in line 2: trial 5 can't be created"):
        folder.state()


def test_the_storage_is_the_callers_then_the_environments_then_the_homes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CELLTUNE_STORAGE", raising=False)
    assert str(open_storage()) == str(tmp_path / "celltune_results")
    monkeypatch.setenv("CELLTUNE_STORAGE", str(tmp_path / "env"))
    assert str(open_storage()) == str(tmp_path / "env")
    assert str(open_storage("~/mine")) == str(tmp_path / "mine")
