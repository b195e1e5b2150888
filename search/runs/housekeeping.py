"""Delete, prune, copy and measure experiments.

Each function leaves either what was there before or its complete result, whenever the process dies
(see `Experiment.delete` and `Experiment.create`).
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from celltune.errors import InputError
from celltune.search.config.schema import SearchConfig
from celltune.search.errors import ExperimentError
from celltune.search.ledger.events import CheckpointsKept, Event
from celltune.search.ledger.state import ExperimentState
from celltune.search.storage.base import Experiment, Storage
from celltune.search.storage.launched import renamed_event
from celltune.search.storage.local import TRIALS
from celltune.search.storage.snapshot import Snapshot, first_event
from celltune.search.uris import without_secrets

CheckpointSizes = Mapping[tuple[int, str], int]
"""Bytes of each stored checkpoint, by the number of its trial and its name."""


@dataclass(frozen=True)
class Usage:
    """The storage that an experiment uses."""

    nbytes: int
    """Size of all files."""
    checkpoints: CheckpointSizes

    @property
    def checkpoint_bytes(self) -> int:
        """Size of all checkpoints."""
        return sum(self.checkpoints.values())


def usage_of(experiment: Experiment) -> Usage:
    """Return what an experiment stores.

    Raises:
        ExperimentError: its storage cannot be read.
    """
    total = 0
    checkpoints: dict[tuple[int, str], int] = {}
    for file in experiment.files():
        total += file.size
        if len(file.parts) == 4 and file.parts[0] == TRIALS and file.parts[1].isdecimal():
            key = (int(file.parts[1]), file.parts[2])
            checkpoints[key] = checkpoints.get(key, 0) + file.size
    return Usage(total, checkpoints)


# ---------------------------------------------------------------------------------------------
# Deleting


@dataclass(frozen=True)
class Deletion:
    """An experiment that can be deleted."""

    experiment: Experiment
    snapshot: Snapshot | None
    """None if the experiment is damaged."""
    nbytes: int

    @property
    def fingerprint(self) -> str:
        """The fingerprint of its prepared data; empty if it is unknown."""
        created = self.snapshot.state.created if self.snapshot else None
        return created.fingerprint if created else ""

    @property
    def left_behind(self) -> list[str]:
        """What other tools keep of the experiment, as sentences."""
        if self.snapshot is None:
            return []
        tracking, name = self.snapshot.config.tracking, self.experiment.name
        sentences = []
        if isinstance(tracking.tensorboard, str):
            folder = Path(tracking.tensorboard) / name
            if folder.is_dir():
                sentences.append(f"TensorBoard's files of '{name}' stay in {folder}.")
        if tracking.mlflow is not None:
            sentences.append(
                f"MLflow keeps the runs of '{name}' at {without_secrets(tracking.mlflow)}, in its "
                f"experiment '{self.snapshot.config.name}'."
            )
        return sentences


def plan_deletion(experiments: Sequence[Experiment]) -> list[Deletion]:
    """Check that experiments can be deleted together, and describe them.

    Raises:
        ExperimentError: one is running, or an ensemble of another experiment needs its models.
    """
    deletions = []
    names = {experiment.name for experiment in experiments}
    for experiment in experiments:
        if experiment.is_locked():
            raise ExperimentError(
                f"The experiment '{experiment.name}' is running, so it cannot be deleted. Stop it "
                "first. Nothing was deleted."
            )
        try:
            snapshot = experiment.snapshot(check_running=False)
        except InputError:
            snapshot = None
        if snapshot is not None:
            _check_not_needed(experiment, snapshot.state, names)
        deletions.append(Deletion(experiment, snapshot, usage_of(experiment).nbytes))
    return deletions


def _check_not_needed(
    experiment: Experiment, state: ExperimentState, deleted: Collection[str]
) -> None:
    for owner, kept in state.kept_for.items():
        if not kept.checkpoints or owner in deleted:
            continue
        if experiment.storage.experiment(owner).is_complete():
            raise ExperimentError(
                f"The ensemble of '{owner}' has models of '{experiment.name}', which it would "
                f"lose. Select the ensemble of '{owner}' again without them, or delete both. "
                "Nothing was deleted."
            )


def delete(deletion: Deletion) -> list[str]:
    """Delete an experiment, and release the models of others that its ensemble needed.

    Returns:
        What could not be released, as sentences.

    Raises:
        ExperimentError: the experiment is running, or cannot be removed.
    """
    experiment, snapshot = deletion.experiment, deletion.snapshot
    experiment.delete()
    ensemble = snapshot.state.ensemble if snapshot else None
    others = {m.experiment for m in ensemble.members} if ensemble else set()
    notes = []
    for name in sorted(filter(None, others)):
        other = experiment.storage.experiment(name)
        if not other.is_complete():
            continue
        try:
            _release(other, experiment.name)
        except InputError as error:
            notes.append(f"'{name}' still keeps checkpoints for '{experiment.name}'. {error}")
    return notes


def _release(experiment: Experiment, owner: str) -> None:
    """Record that the ensemble of a deleted experiment needs no checkpoints any more."""
    with experiment.locked():
        kept = experiment.state().kept_for.get(owner)
        if kept is None or not kept.checkpoints:
            return
        with experiment.open_ledger() as ledger:
            ledger.append(CheckpointsKept(at=time.time(), owner=owner, checkpoints={}))


def others_with_data(storage: Storage, fingerprint: str, without: Collection[str]) -> list[str]:
    """Return the names of the other experiments of a storage that use the same prepared data."""
    found = []
    for name in storage.names():
        if name in without:
            continue
        try:
            created = first_event(storage.experiment(name).events(), name)
        except InputError:
            continue
        if created.fingerprint == fingerprint:
            found.append(name)
    return found


# ---------------------------------------------------------------------------------------------
# Pruning


@dataclass(frozen=True)
class Pruning:
    """The checkpoints of an experiment that are kept, and those that are removed."""

    kept: tuple[int, ...]
    """The trials that keep their checkpoints."""
    removed: CheckpointSizes

    @property
    def trials(self) -> list[int]:
        """The trials that lose checkpoints."""
        return sorted({number for number, _ in self.removed})

    @property
    def nbytes(self) -> int:
        """Size of the removed checkpoints."""
        return sum(self.removed.values())


def plan_pruning(experiment: Experiment, keep: int) -> Pruning:
    """Return which checkpoints are removed if only the best trials keep theirs.

    Unfinished trials keep theirs, too, because a resume needs them, and so do the members of
    ensembles.

    Args:
        experiment: the experiment.
        keep: number of trials, the best of the leaderboard.

    Raises:
        InputError: the experiment is running or damaged.
    """
    snapshot = experiment.snapshot()
    if snapshot.running:
        raise ExperimentError(
            f"The experiment '{experiment.name}' is running, so it cannot be pruned. Stop it first."
        )
    return _pruning(usage_of(experiment).checkpoints, snapshot.config, snapshot.state, keep)


def _pruning(
    stored: CheckpointSizes, config: SearchConfig, state: ExperimentState, keep: int
) -> Pruning:
    best = {trial.number for trial in state.ranked(config.metric)[:keep]}
    unfinished = {trial.number for trial in state.trials if trial.status == "unfinished"}
    removed = {
        (number, name): size
        for (number, name), size in stored.items()
        if number not in best | unfinished and name not in state.members_of_ensembles(number)
    }
    kept = {number for number, name in stored if (number, name) not in removed}
    return Pruning(tuple(sorted(kept)), removed)


def prune(experiment: Experiment, keep: int) -> Pruning:
    """Remove the checkpoints of all but the best trials; see `plan_pruning`.

    Raises:
        InputError: the experiment is running or damaged, or a checkpoint cannot be removed.
    """
    with experiment.locked():
        snapshot = experiment.snapshot(check_running=False)
        stored = usage_of(experiment).checkpoints
        pruning = _pruning(stored, snapshot.config, snapshot.state, keep)
        for number, name in pruning.removed:
            checkpoints = experiment.checkpoints(number)
            try:
                checkpoints.remove(name)
            except OSError as error:
                raise ExperimentError(
                    f"The checkpoint {checkpoints.location(name)} cannot be removed: "
                    f"{error.strerror}. Check the permissions, then prune again."
                ) from error
        return pruning


# ---------------------------------------------------------------------------------------------
# Copying


@dataclass(frozen=True)
class Copied:
    """What was copied."""

    experiment: Experiment
    events: int
    checkpoints: int
    left_out: tuple[str, ...]
    """Addresses of damaged checkpoints, which were not copied."""


def copy(source: Experiment, target: Experiment) -> Copied:
    """Copy an experiment with its intact checkpoints, in the same or another storage.

    The copy is an experiment of its own: it has another id, to which the checksums of its ledger
    are bound, and its name is in its config. It keeps no checkpoints for ensembles of others.

    Args:
        source: the experiment; it must not be running.
        target: the experiment that is created.

    Raises:
        InputError: the source is running or damaged, or the target exists or cannot be written.
    """
    left_out: list[str] = []
    copied: list[str] = []
    with source.locked():
        snapshot = source.snapshot(check_running=False)
        config = source.config().model_copy(update={"name": target.name})
        events: list[Event] = [renamed_event(first_event(snapshot.events, source.location), config)]
        events += [e for e in snapshot.events[1:] if not isinstance(e, CheckpointsKept)]
        files = _checkpoint_files(source, snapshot.state, copied, left_out)
        target.create(config, *events, files=files)
    return Copied(target, len(events), len(copied), tuple(left_out))


def _checkpoint_files(
    source: Experiment, state: ExperimentState, copied: list[str], left_out: list[str]
) -> Iterator[tuple[tuple[str, ...], bytes]]:
    """Yield the files of all intact checkpoints that the ledger names and that still exist."""
    # torch takes seconds to import.
    from celltune.models.errors import CheckpointError
    from celltune.models.training import checkpoint

    stored = usage_of(source).checkpoints
    for trial in state.trials:
        checkpoints = source.checkpoints(trial.number)
        for name in dict.fromkeys(epoch.checkpoint for epoch in trial.epochs):
            if name is None or (trial.number, name) not in stored:
                continue
            try:
                tensors, description = checkpoint.pack(checkpoints.load(name))
            except CheckpointError:
                left_out.append(checkpoints.location(name))
                continue
            except OSError as error:
                raise ExperimentError(
                    f"The checkpoint {checkpoints.location(name)} cannot be read: "
                    f"{error.strerror}. Nothing was copied."
                ) from error
            folder = (TRIALS, str(trial.number), name)
            yield (*folder, checkpoint.TENSORS), tensors
            yield (*folder, checkpoint.STATE), description
            copied.append(name)
