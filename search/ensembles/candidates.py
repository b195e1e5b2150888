"""The candidates for an ensemble: models of trials with stored predictions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from celltune.models.errors import CheckpointError
from celltune.search.errors import ExperimentError, StorageError
from celltune.search.ledger.ensembles import EnsembleMember
from celltune.search.ledger.events import EpochReported
from celltune.search.ledger.order import Standing, sort_keys
from celltune.search.ledger.state import ExperimentState, TrialRecord
from celltune.search.storage.base import Experiment
from celltune.search.types import Metric, is_wide_only
from celltune.search.wording import counted


@dataclass(frozen=True)
class Library:
    """An experiment whose trials are candidates."""

    experiment: Experiment
    state: ExperimentState
    metric: Metric
    """Metric that ranks its trials."""
    seed: int
    """Seed of the experiment."""
    is_owner: bool
    """Whether the ensemble belongs to this experiment."""

    def models(self, most: int) -> Iterator[tuple[TrialRecord, EpochReported]]:
        """Yield the best epochs of the best trials, and of trials of the wide part alone.

        Args:
            most: maximum number of the best trials.
        """
        for rank, trial in enumerate(self.state.ranked(self.metric)):
            best = trial.best(self.metric)
            if best is not None and (rank < most or is_wide_only(trial.params)):
                yield trial, best


@dataclass(frozen=True, eq=False)
class Candidate:
    """A model that can become a member."""

    member: EnsembleMember
    """With a weight of 1."""
    log_probabilities: NDArray[np.float32]
    """(k, C), for the documents of `stored_documents`."""
    standing: Standing
    """Ranks it among single models, as in a leaderboard of all experiments."""


def read_candidates(
    libraries: Sequence[Library], most: int, shape: tuple[int, int]
) -> tuple[list[Candidate], list[str]]:
    """Read the candidates, in an order that does not depend on that of the experiments.

    Args:
        libraries: the experiments, all on the same data.
        most: maximum number of trials of each experiment, at least 1.
        shape: (k, C), the shape of the stored predictions.

    Returns:
        The candidates, and a sentence for each model that cannot be one.

    Raises:
        ExperimentError: no model can be a candidate.
        StorageError: a storage cannot be reached.
    """
    candidates: list[Candidate] = []
    notes: list[str] = []
    standings = _standings(libraries)
    for library in sorted(libraries, key=lambda library: library.experiment.name):
        for trial, epoch in sorted(library.models(most), key=lambda model: model[0].number):
            standing = standings[library.experiment.name, trial.number]
            found = _read(library, trial, epoch, standing, shape)
            if isinstance(found, str):
                notes.append(
                    f"Trial {trial.number} of '{library.experiment.name}' was skipped: {found}"
                )
            else:
                candidates.append(found)
    if not candidates:
        names = " and ".join(f"'{library.experiment.name}'" for library in libraries)
        reason = notes[0] if notes else "No trial has finished an epoch yet."
        raise ExperimentError(
            f"There is nothing to select an ensemble from: {names} contains "
            f"{counted(len(notes), 'model')} and none can be a member. {reason} "
            "Resume the search with more trials."
        )
    return candidates, notes


def _standings(libraries: Sequence[Library]) -> dict[tuple[str, int], Standing]:
    """Return what the trials are in comparison with the wide part alone of any experiment.

    A trial of an experiment without such a trial has to be better than that of another one, too.
    Experiments with different metrics are compared by accuracy, which all of them record.
    """
    metrics = {library.metric for library in libraries}
    metric = metrics.pop() if len(metrics) == 1 else "valid_accuracy"
    trials = [(library, trial) for library in libraries for trial in library.state.trials]
    keys = sort_keys([(library.state.created, trial) for library, trial in trials], metric)
    return {
        (library.experiment.name, trial.number): key[0]
        for (library, trial), key in zip(trials, keys, strict=True)
        if key is not None
    }


def _read(
    library: Library,
    trial: TrialRecord,
    epoch: EpochReported,
    standing: Standing,
    shape: tuple[int, int],
) -> Candidate | str:
    """Return the candidate, or why it cannot be one."""
    from celltune.search.tuning.trial import check_origin, trial_seed
    from celltune.search.tuning.valid_predictions import find_predictions

    if epoch.checkpoint is None:
        return f"epoch {epoch.epoch} was recorded without a checkpoint."
    checkpoints = library.experiment.checkpoints(trial.number)
    try:
        tensors, meta = checkpoints.load(epoch.checkpoint)
        seed = trial_seed(library.seed, trial.number)
        check_origin(meta, trial.params, seed=seed, epoch=epoch.epoch)
        found = find_predictions(tensors)
    except CheckpointError as error:
        return str(error)
    except OSError as error:
        raise StorageError(
            f"The checkpoint {checkpoints.location(epoch.checkpoint)} cannot be read: "
            f"{error.strerror}. Nothing was recorded. Fix the storage, then select the ensemble "
            "again."
        ) from error
    if found is None:
        return (
            "an earlier release trained it, whose checkpoints contain no predictions for the "
            "validation split."
        )
    if found.shape != shape:
        return f"it predicts {found.shape} values for the validation split instead of {shape}."
    member = EnsembleMember(
        experiment=None if library.is_owner else library.experiment.name,
        number=trial.number,
        epoch=epoch.epoch,
        checkpoint=epoch.checkpoint,
        weight=1.0,
        params=dict(trial.params),
        parameters=int(epoch.metrics.get("parameters", 0)),
        wide_parameters=int(epoch.metrics.get("wide_parameters", 0)),
        valid_loss=epoch.metrics["valid_loss"],
        valid_accuracy=epoch.metrics["valid_accuracy"],
    )
    return Candidate(member, found, standing)
