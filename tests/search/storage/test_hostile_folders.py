"""Folders of experiments that contain links, special files and other people's files."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from celltune.search.errors import ConfigError, ExperimentError, LedgerError
from celltune.search.ledger.events import ExperimentCreated
from celltune.search.storage.local import LocalExperiment
from celltune.search.storage.locate import find_experiment, open_storage
from tests.search.command_line import run
from tests.search.simulated_search import make_config

FIRST = ExperimentCreated(at=1.0, fingerprint="f")


@pytest.fixture
def experiment(tmp_path: Path) -> LocalExperiment:
    return create(tmp_path / "storage" / "demo")


def create(path: Path) -> LocalExperiment:
    experiment = LocalExperiment(path)
    experiment.create(make_config(), FIRST)
    return experiment


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        # The path of a socket is short, whatever the folder.
        folder = os.open(path.parent, os.O_RDONLY)
        listener.bind(f"/proc/self/fd/{folder}/{path.name}")
        os.close(folder)


SPECIAL: dict[str, Callable[[Path], object]] = {
    "FIFO": os.mkfifo,
    "folder": Path.mkdir,
    "socket": a_socket,
    "endless device": lambda path: path.symlink_to("/dev/zero"),
    "dangling link": lambda path: path.symlink_to("nowhere"),
}


ERRORS = (ExperimentError, LedgerError, ConfigError)


def write(experiment: LocalExperiment) -> None:
    with experiment.locked():
        experiment.config()
        with experiment.open_ledger():
            pass


def put(path: Path, kind: str) -> None:
    path.unlink(missing_ok=True)
    SPECIAL[kind](path)


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("name", ["lock", "ledger.jsonl", "experiment.yaml"])
def test_special_files_are_rejected_without_waiting(
    experiment: LocalExperiment, name: str, kind: str
) -> None:
    put(experiment.path / name, kind)
    before = sorted(experiment.path.iterdir())

    with pytest.raises(ERRORS, match="cannot be read: Not a regular"):
        find_experiment("demo", experiment.path.parent).snapshot()
    with pytest.raises(ERRORS, match=r"special file|: Not a regular file"):
        write(experiment)

    assert set(experiment.path.iterdir()) - {experiment.path / "lock"} == set(before) - {
        experiment.path / "lock"
    }


@pytest.mark.parametrize("kind", SPECIAL)
def test_a_damaged_experiment_does_not_hide_the_others(
    experiment: LocalExperiment,
    kind: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("lock", "ledger.jsonl", "experiment.yaml"):
        put(create(experiment.path.with_name(f"bad-{name.partition('.')[0]}")).path / name, kind)
    (experiment.path.parent / "bad-link").symlink_to("demo")
    put(experiment.path.parent / "bad-file", kind)

    code, shown, _ = run(capsys, monkeypatch, "list", "--storage", experiment.path.parent)

    assert code == 0
    rows, reasons = shown.splitlines()[2:7], shown.splitlines()[7:]
    states = dict(line.split()[:2] for line in rows)
    assert states.pop("demo") == "killed"
    bad = [f"bad-{name}" for name in ("experiment", "ledger", "link", "lock")]
    assert states == dict.fromkeys(bad, "damaged")
    assert [reason.split(" is damaged: ")[0] for reason in reasons] == bad


def test_a_lock_that_is_a_link_keeps_its_target(experiment: LocalExperiment) -> None:
    precious = experiment.path.with_name("precious")
    precious.write_text("precious")
    (experiment.path / "lock").symlink_to(precious)

    with pytest.raises(ExperimentError, match=r"contains .*/lock, which is a symbolic link or"):
        experiment.locked().__enter__()

    assert precious.read_text() == "precious"


@pytest.mark.parametrize("name", ["lock", "ledger.jsonl"])
def test_a_file_that_has_another_name_is_not_written(
    experiment: LocalExperiment, name: str
) -> None:
    with experiment.locked():
        pass
    other = experiment.path.with_name("other")
    other.hardlink_to(experiment.path / name)
    before = other.read_bytes()

    with pytest.raises(ERRORS, match=f"cannot be written: '{name}' is a hard link: a write would"):
        write(experiment)
    assert other.read_bytes() == before
    assert experiment.snapshot().running is False

    other.unlink()
    write(experiment)


def test_a_lock_with_another_content_is_not_overwritten(experiment: LocalExperiment) -> None:
    (experiment.path / "lock").write_text("precious")

    with pytest.raises(ExperimentError, match="lock is not the lock of an experiment: it contai"):
        experiment.locked().__enter__()

    assert (experiment.path / "lock").read_text() == "precious"


@pytest.mark.parametrize(
    "place", ["trials", "trials/3", "trials/3/epoch-1", "tensorboard", "tensorboard/trial-0/x"]
)
def test_links_and_special_files_are_found_before_a_run(
    experiment: LocalExperiment, place: str, tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    link = experiment.path / place
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(tmp_path / "outside")
    with pytest.raises(ExperimentError, match=f"contains .*{place}, which is a symbolic link or"):
        experiment.locked().__enter__()
    link.unlink()
    os.mkfifo(link)
    with pytest.raises(ExperimentError, match=f"contains .*{place}, which is a symbolic link or"):
        experiment.locked().__enter__()
    link.unlink()
    with experiment.locked():
        assert experiment.is_locked()


def test_an_experiment_that_is_a_link_is_neither_read_nor_written(
    experiment: LocalExperiment,
) -> None:
    link = experiment.path.with_name("link")
    link.symlink_to("demo")
    found = find_experiment("link", experiment.path.parent)

    with pytest.raises(ExperimentError, match="'link' is a symbolic link, which is not followed"):
        found.snapshot()
    with pytest.raises(ExperimentError, match="cannot be written: 'link' is a symbolic link"):
        found.locked().__enter__()
    with pytest.raises(ExperimentError, match=r"stop request cannot be written .*'link' is a symb"):
        found.request_stop()
    with pytest.raises(ExperimentError, match="'link' already exists"):
        found.create(make_config(), FIRST)
    assert sorted(path.name for path in experiment.path.iterdir()) == [
        "experiment.yaml",
        "ledger.jsonl",
    ]


def test_a_stop_request_changes_no_other_file(experiment: LocalExperiment) -> None:
    precious = experiment.path.with_name("precious")
    precious.write_text("precious")
    (experiment.path / "stop").hardlink_to(precious)
    experiment.request_stop()
    assert experiment.stop_requested()
    assert precious.read_text() == "precious"
    experiment.clear_stop()
    assert not experiment.stop_requested()


def test_names_from_elsewhere_do_not_lead_out(experiment: LocalExperiment) -> None:
    victim = experiment.path.parent / "victim"
    victim.mkdir()
    (experiment.path / "trials" / "0").mkdir(parents=True)
    checkpoints = experiment.checkpoints(0)
    for name in ("../../../victim", str(victim), "..", ""):
        with pytest.raises(OSError, match="is not the name of a file"):
            checkpoints.remove(name)
        with pytest.raises(OSError, match="is not the name of a file"):
            checkpoints.set_aside(name)
    assert victim.is_dir()
    with pytest.raises(ExperimentError, match=r"has no experiment '\.\./x'"):
        find_experiment("../x", open_storage(experiment.path.parent))
