"""Whatever a ledger and a folder contain, nothing outside of the experiment changes."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from celltune.errors import CelltuneError
from celltune.models.errors import CheckpointError
from celltune.models.training.checkpoint import State
from celltune.search.config.loading import dump_config
from celltune.search.evaluation.checkpoints import remove_used_checkpoints
from celltune.search.ledger.events import RunStarted
from celltune.search.ledger.state import ExperimentState
from celltune.search.runs import housekeeping
from celltune.search.storage.checkpoints import Checkpoints
from celltune.search.storage.local import LocalExperiment
from celltune.search.storage.retention import CheckpointRetention
from tests.search.simulated_search import make_config
from tests.search.storage.watched_changes import watched_changes
from tests.strategies.ledgers import PATHS, ledger_bytes, ledgers, valid_events

PARAMS = {"cell": "gru"}
STATE: State = ({"w": torch.arange(2.0)}, {"epoch": 1})
CONFIG = make_config(space={"cell": ["gru", "lstm"]})
PLACES = (
    *("lock", "stop", "ledger.jsonl", "experiment.yaml", "trials", "trials/0", "trials/1"),
    *(f"trials/0/epoch-{epoch}" for epoch in (1, 2, 3)),
    *("trials/0/epoch-2/state.json", "trials/0/.epoch-2.old", "trials/0/epoch-2.damaged"),
    *("trials/0/.epoch-2.x.new", "trials/1/epoch-1", "tensorboard", "scratch"),
)
KINDS = ("link to a folder", "link to a file", "hard link", "FIFO", "folder", "file", "dangling")
LAYOUTS = st.dictionaries(st.sampled_from(PLACES), st.sampled_from(KINDS), max_size=2)

NAMES = (*PATHS, "../../../../outside/epoch-1", "../../../../x")


def put(path: Path, kind: str, outside: Path) -> None:
    """Replace what is at a path, if its parent is a folder."""
    if path.is_dir() and not path.is_symlink():
        path.rename(path.with_name(f"{path.name}-moved"))
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind.startswith("link"):
        path.symlink_to(outside / ("file" if kind.endswith("file") else "epoch-1"))
    elif kind == "dangling":
        path.symlink_to(outside / "absent")
    elif kind == "hard link":
        path.hardlink_to(outside / "file")
    elif kind == "FIFO":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"{}")


def use(experiment: LocalExperiment) -> None:
    """Do everything that a driver and its workers do with the files, except for training."""
    experiment.request_stop()
    with experiment.locked():
        experiment.clear_stop()
        config, state = experiment.config(), experiment.state()
        with experiment.open_ledger() as ledger:
            retention, past = CheckpointRetention(experiment, config.metric), ExperimentState()
            for event in ledger.events:
                past.apply(event)
                retention(event, past)
            for trial in state.trials:
                for epoch in trial.epochs:
                    use_checkpoint(experiment.checkpoints(trial.number), str(epoch.checkpoint))
            remove_used_checkpoints(experiment, state)
            ledger.append(RunStarted(at=1.0, resumed=True, celltune="1", host="h", pid=1))


def use_checkpoint(checkpoints: Checkpoints, name: str) -> None:
    with suppress(OSError):
        checkpoints.save(STATE, name)
    try:
        checkpoints.load(name)
    except (CheckpointError, OSError):
        with suppress(OSError):
            checkpoints.set_aside(name)
    with suppress(OSError):
        checkpoints.remove(name)


def make(base: Path, content: bytes) -> LocalExperiment:
    outside = base / "outside"
    # It looks like the folder of a checkpoint, of a trial and of all trials: a link would work.
    for folder in (outside / "epoch-1", outside / "epoch-1/epoch-1", outside / "epoch-1/0/epoch-1"):
        folder.mkdir(parents=True)
        (folder / "state.json").write_text("precious")
    (outside / "file").write_text("precious")
    (base / "x").mkdir()
    experiment = LocalExperiment(base / "storage" / "demo")
    experiment.path.mkdir(parents=True)
    (experiment.path / "experiment.yaml").write_text(dump_config(CONFIG))
    experiment.ledger.write_bytes(content)
    return experiment


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }


def assert_nothing_changes_outside(experiment: LocalExperiment) -> list[Path]:
    """Use an experiment; return what changed in it."""
    outside = experiment.path.parent.parent / "outside"
    before = contents(outside)
    with watched_changes() as changed, suppress(CelltuneError):
        use(experiment)
    allowed = Path(os.path.realpath(experiment.path))
    assert [path for path in changed if not path.is_relative_to(allowed)] == []
    assert contents(outside) == before
    return changed


def test_an_intact_experiment_is_changed(tmp_path: Path) -> None:
    experiment = make(tmp_path, ledger_bytes(valid_events(PARAMS)))
    changed = {path.name for path in assert_nothing_changes_outside(experiment)}
    assert {"lock", "stop", "ledger.jsonl", "trials", "epoch-1", "state.json"} <= changed
    assert isinstance(experiment.events()[-1], RunStarted)


@settings(max_examples=40, deadline=None)
@given(
    content=ledgers(PARAMS) | st.just(ledger_bytes(valid_events(PARAMS))),
    layout=LAYOUTS,
)
def test_no_ledger_and_no_folder_leads_out(content: bytes, layout: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        experiment = make(Path(folder), content)
        for place, kind in layout.items():
            with suppress(OSError):
                put(experiment.path / place, kind, Path(folder) / "outside")
        assert_nothing_changes_outside(experiment)


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(["epoch-1", "epoch-2"]) | st.sampled_from(NAMES) | st.text(max_size=6),
    layout=LAYOUTS,
)
@example(name="epoch-1", layout={"trials": "link to a folder"})
@example(name="epoch-1", layout={"trials/0": "link to a folder"})
@example(name="epoch-1", layout={"trials/0/epoch-1": "link to a folder"})
@example(
    name="epoch-2",
    layout={"trials/0/epoch-2": "folder", "trials/0/.epoch-2.old": "link to a folder"},
)
def test_no_name_of_a_checkpoint_leads_out(name: str, layout: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        experiment = make(Path(folder), b"")
        outside = Path(folder) / "outside"
        for place, kind in layout.items():
            with suppress(OSError):
                put(experiment.path / place, kind, outside)
        before = contents(outside)
        with watched_changes() as changed, suppress(OSError):
            use_checkpoint(experiment.checkpoints(0), name)
        inside = Path(os.path.realpath(experiment.path))
        assert [path for path in changed if not path.is_relative_to(inside)] == []
        assert contents(outside) == before
        assert (Path(folder) / "x").is_dir()


def test_changes_are_noticed(tmp_path: Path) -> None:
    experiment = make(tmp_path, b"")
    outside = tmp_path / "outside"
    with watched_changes() as changed:
        (outside / "file").write_text("changed")
        (outside / "epoch-1" / "state.json").unlink()
        (tmp_path / "x").rename(tmp_path / "y")
        os.close(os.open(experiment.path / "new", os.O_CREAT | os.O_WRONLY))
    names = [path.name for path in changed]
    assert names == ["file", "state.json", "x", "y", "new"]


@settings(max_examples=30, deadline=None)
@given(
    content=ledgers(PARAMS) | st.just(ledger_bytes(valid_events(PARAMS))),
    layout=LAYOUTS,
)
@example(content=ledger_bytes(valid_events(PARAMS)), layout={"trials": "link to a folder"})
@example(content=ledger_bytes(valid_events(PARAMS)), layout={"trials/0/epoch-1": "link to a file"})
@example(content=b"", layout={"lock": "link to a file"})
def test_housekeeping_changes_nothing_outside(content: bytes, layout: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        experiment = make(base, content)
        for place, kind in layout.items():
            with suppress(OSError):
                put(experiment.path / place, kind, base / "outside")
        before = contents(base / "outside")
        copied = LocalExperiment(base / "storage" / "copied")
        with watched_changes() as changed:
            for action in (
                lambda: housekeeping.usage_of(experiment),
                lambda: housekeeping.copy(experiment, copied),
                lambda: housekeeping.prune(experiment, 1),
                lambda: housekeeping.delete(*housekeeping.plan_deletion([experiment])),
            ):
                with suppress(CelltuneError):
                    action()
        storage = Path(os.path.realpath(base / "storage"))
        assert [path for path in changed if not path.is_relative_to(storage)] == []
        assert contents(base / "outside") == before
