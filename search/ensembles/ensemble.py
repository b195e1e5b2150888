"""Selection of an ensemble from the trials of one or several experiments."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.types import Progress
from celltune.search.decisions import Fit
from celltune.search.ensembles.candidates import Candidate, Library, read_candidates
from celltune.search.ensembles.estimates import compare
from celltune.search.ensembles.selection import SMALLEST, Floats, Predictions, select
from celltune.search.errors import ExperimentError, OptionError
from celltune.search.ledger.ensembles import EnsembleMember
from celltune.search.ledger.events import CheckpointsKept, EnsembleSelected, Event
from celltune.search.objective import BY_ACCURACY, sign
from celltune.search.storage.base import Experiment
from celltune.search.storage.locate import find_experiment
from celltune.search.storage.prepared_data import load_prepared
from celltune.search.tuning.trial import fit_of
from celltune.search.tuning.valid_predictions import stored_documents
from celltune.search.types import Metric

Clock = Callable[[], float]


@dataclass(frozen=True)
class EnsembleResult:
    """A selected ensemble."""

    experiment: Experiment
    """The experiment that it belongs to."""
    selected: EnsembleSelected
    """The members, and the scores of the ensemble and of the best single trial."""
    notes: tuple[str, ...]
    """Sentences about trials that could not be considered."""


def ensemble(
    *names: str,
    size: int = 8,
    trials_considered: int = 30,
    storage: Path | str | None = None,
    progress: Progress | None = None,
    clock: Clock = time.time,
) -> EnsembleResult:
    """Select an ensemble of trained models, and record it in the first experiment.

    The candidates are the best epochs of the best trials, whose checkpoints contain their
    predictions for the validation split, and trials of the wide part alone. Greedy forward
    selection with replacement minimizes the cross-entropy of the averaged probabilities. No model
    is trained, and the test split is not read. The same call again selects the same ensemble.

    Args:
        names: the experiments, all on the same data and none running. The ensemble belongs to the
            first.
        size: number of selections. A model that is selected k times has the weight k / `size`.
        trials_considered: number of the best trials of each experiment that are candidates.
        storage: folder or URI of the experiments; None: $CELLTUNE_STORAGE or ~/celltune_results.
        progress: called while the data is prepared again because the cache does not contain it.
        clock: returns the seconds since 1970.

    Raises:
        InputError: an argument is invalid, an experiment does not exist or is running, the
            experiments used different data, or there is no candidate. Nothing was recorded.
        StorageError: a checkpoint cannot be read.
    """
    for argument, value in (("size", size), ("trials_considered", trials_considered)):
        if value < 1:
            raise OptionError(f"`{argument}` is {value}; it must be at least 1.")
    if not names:
        raise OptionError("`names` is empty. Give the name of at least one experiment.")
    experiments = [find_experiment(name, storage) for name in dict.fromkeys(names)]
    with ExitStack() as locks:
        for experiment in experiments:
            locks.enter_context(experiment.locked())
        configs = [one.config() for one in experiments]
        libraries = [
            Library(one, one.state(), config.metric, config.seed, one is experiments[0])
            for one, config in zip(experiments, configs, strict=True)
        ]
        fingerprint = _common_fingerprint(libraries)
        owner, metric = experiments[0], libraries[0].metric
        data = load_prepared(owner.name, owner.config().data, fingerprint, progress)
        labels = data.valid.labels[stored_documents(len(data.valid), data.num_classes)]
        shape = (len(labels), data.num_classes)
        candidates, notes = read_candidates(libraries, trials_considered, shape)
        logs = np.stack([candidate.log_probabilities for candidate in candidates])
        event = _selected(
            candidates, Predictions(logs, labels), size, metric, fit_of(configs[0])
        ).model_copy(update={"at": clock(), "fingerprint": fingerprint})
        _record(libraries, event)
    return EnsembleResult(owner, event, tuple(notes))


def _common_fingerprint(libraries: Sequence[Library]) -> str:
    """Return the fingerprint of the data that all experiments used.

    Raises:
        ExperimentError: they used different data, or a ledger does not contain the fingerprint.
    """
    found = {
        library.experiment.name: library.state.created.fingerprint if library.state.created else ""
        for library in libraries
    }
    if len(set(found.values())) > 1:
        listed = ", ".join(f"'{name}' {value[:12] or 'unknown'}" for name, value in found.items())
        raise ExperimentError(
            "The experiments used different data, so their models cannot be averaged (fingerprints "
            f"of the prepared data: {listed}). Give experiments on the same data."
        )
    return next(iter(found.values()))


def _selected(
    candidates: Sequence[Candidate], predictions: Predictions, size: int, metric: Metric, fit: Fit
) -> EnsembleSelected:
    """Select and score the ensemble; the time and the fingerprint are missing in the event."""

    def select_ensemble(known: Predictions) -> Floats:
        return select(known.of_labels(), size)

    standings = np.array([candidate.standing for candidate in candidates])

    def select_single(known: Predictions) -> Floats:
        return _best_single(known, metric, standings, Fit(fit.threshold))

    weights, single, comparison = compare(predictions, select_ensemble, select_single)
    members = [
        candidate.member.model_copy(update={"weight": float(weight)})
        for candidate, weight in zip(candidates, weights, strict=True)
        if weight > 0
    ]
    average = np.log(np.maximum(predictions.average(weights), SMALLEST))
    decision, fitted = fit.metrics(predictions.labels, average)
    if metric not in BY_ACCURACY:
        fitted[metric] = decision.metric(metric, predictions.labels, average)
    return EnsembleSelected(
        at=0.0,
        fingerprint="",
        size=size,
        members=sorted(members, key=lambda member: -member.weight),
        best=candidates[int(single.argmax())].member,
        metric=metric,
        candidates=len(candidates),
        documents=len(predictions.labels),
        folds=comparison.folds,
        ensemble=comparison.ensemble,
        single=comparison.single,
        loss_gain=comparison.loss_gain,
        accuracy_gain=comparison.accuracy_gain,
        fitted=fitted,
    )


def _best_single(
    known: Predictions, metric: Metric, standings: NDArray[np.int64], fit: Fit
) -> Floats:
    """Return (M,) weights: 1 for the best candidate, in the order of a leaderboard.

    Args:
        known: the predictions by which it is chosen.
        metric: the metric that ranks; of equal values, the smaller loss is better.
        standings: (M,) `Standing` of each candidate, which comes before its metric.
        fit: the threshold that is fitted to each candidate, as after an epoch.
    """
    values = []
    for logs in known.log_probabilities.astype(np.float64):
        decision = fit.decision(known.labels, logs)
        values.append(sign(metric) * decision.metric(metric, known.labels, logs))
    weights = np.zeros(len(values))
    losses = -np.log(known.of_labels()).mean(axis=1)
    weights[np.lexsort((losses, -np.array(values), standings))[0]] = 1.0
    return weights


def _record(libraries: Sequence[Library], event: EnsembleSelected) -> None:
    """Append the event to the first ledger, and to the others which checkpoints it needs.

    At each moment, every experiment keeps the checkpoints of the ensemble that is current then.
    """
    owner, *others = libraries
    needed = [(other, _checkpoints_in(other.experiment, event.members)) for other in others]
    for other, checkpoints in needed:
        current = _kept(other, owner)
        both = {
            number: sorted({*current.get(number, ()), *checkpoints.get(number, ())})
            for number in sorted({*current, *checkpoints})
        }
        _keep(other, owner, both, event.at)
    recorded = owner.state.ensemble
    if recorded is None or recorded != event.model_copy(update={"at": recorded.at}):
        _append(owner, event)
    for other, checkpoints in needed:
        _keep(other, owner, checkpoints, event.at)


def _checkpoints_in(
    experiment: Experiment, members: Sequence[EnsembleMember]
) -> dict[int, list[str]]:
    """Return the checkpoints of the members in an experiment, by trial."""
    checkpoints: dict[int, list[str]] = {}
    for member in sorted(members, key=lambda member: (member.number, member.checkpoint)):
        if member.experiment == experiment.name:
            checkpoints.setdefault(member.number, []).append(member.checkpoint)
    return checkpoints


def _kept(library: Library, owner: Library) -> Mapping[int, Sequence[str]]:
    event = library.state.kept_for.get(owner.experiment.name)
    return event.checkpoints if event else {}


def _keep(library: Library, owner: Library, checkpoints: dict[int, list[str]], at: float) -> None:
    if checkpoints != _kept(library, owner):
        name = owner.experiment.name
        _append(library, CheckpointsKept(at=at, owner=name, checkpoints=checkpoints))


def _append(library: Library, event: Event) -> None:
    with library.experiment.open_ledger() as ledger:
        ledger.append(event)
    library.state.apply(event)
