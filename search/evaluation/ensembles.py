"""Scores of an ensemble on the train and test splits, from the checkpoints of its members."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.dataset.tensorized import PreparedData, TensorizedSplit
from celltune.models.training.trainer import Trainer
from celltune.models.training.wide_only import WideOnly
from celltune.search.decisions import DEFAULT, Decision
from celltune.search.ensembles.members import find_origins
from celltune.search.errors import StorageError
from celltune.search.evaluation.retraining import SCORING_BATCH
from celltune.search.ledger.ensembles import EnsembleMember
from celltune.search.metrics import Scores, combine_scores
from celltune.search.storage.base import Experiment
from celltune.search.storage.checkpoints import Checkpoints
from celltune.search.tuning.trial import make_trainer, trial_seed
from celltune.search.tuning.valid_predictions import remove_predictions


@dataclass(frozen=True)
class StoredMember:
    """A member of an ensemble, and where its weights are. Picklable."""

    member: EnsembleMember
    seed: int
    """Seed of its training."""
    checkpoints: Checkpoints
    seconds: float
    """Time that its training took up to its epoch."""


def stored_members(experiment: Experiment, members: Sequence[EnsembleMember]) -> list[StoredMember]:
    """Find the members of an ensemble in their experiments.

    Args:
        experiment: the experiment that the ensemble belongs to.
        members: its members.

    Raises:
        InputError: the experiment of a member is missing or damaged, or does not have this model.
    """
    return [
        StoredMember(
            member,
            trial_seed(snapshot.config.seed, member.number),
            origin.checkpoints(member.number),
            sum(
                epoch.metrics.get("seconds", 0.0)
                for epoch in snapshot.state.trials[member.number].epochs[: member.epoch]
            ),
        )
        for member, (origin, snapshot) in zip(
            members, find_origins(experiment, members), strict=True
        )
    ]


def score_ensemble(
    members: Sequence[StoredMember],
    device: str,
    data: PreparedData,
    test: TensorizedSplit,
    decision: Decision = DEFAULT,
) -> Scores:
    """Score an ensemble on its training documents and on the test split.

    Args:
        members: the members.
        device: a torch device name.
        data: the data that the members were trained on.
        test: the test split.
        decision: turns the averaged probabilities into predictions.

    Raises:
        TrialError: a checkpoint is missing or damaged.
        StorageError: the storage cannot be read.
    """
    models = [_load(stored, device, data) for stored in members]
    weights = [stored.member.weight for stored in members]
    train_logs = _log_average(models, weights, data.train)
    start = time.perf_counter()
    test_logs = _log_average(models, weights, test)
    seconds = time.perf_counter() - start
    train_scores, test_scores = (
        decision.scores(split.labels, logs)
        for split, logs in ((data.train, train_logs), (test, test_logs))
    )
    costs = {
        "parameters": float(_parameters(models)),
        "seconds": sum(stored.seconds for stored in members),
        "milliseconds_per_review": 1e3 * seconds / len(test),
        **decision.metrics(),
    }
    return combine_scores(train_scores, test_scores, costs)


def _parameters(models: Sequence[Trainer | WideOnly]) -> int:
    """Return the number of parameters of all models; those of the wide part count once."""
    own = sum(model.parameters - model.wide_parameters for model in models)
    return own + max(model.wide_parameters for model in models)


def _load(stored: StoredMember, device: str, data: PreparedData) -> Trainer | WideOnly:
    name = stored.member.checkpoint
    trainer = make_trainer(stored.member.params, data, seed=stored.seed, device=device)
    try:
        trainer.load_state(*remove_predictions(stored.checkpoints.load(name)))
    except OSError as error:
        raise StorageError(
            f"The checkpoint {stored.checkpoints.location(name)} of the ensemble cannot be read: "
            f"{error.strerror}. Fix the storage, then run the evaluation again."
        ) from error
    return trainer


def _log_average(
    models: Sequence[Trainer | WideOnly], weights: Sequence[float], split: TensorizedSplit
) -> NDArray[np.float64]:
    """Return the logarithms of the weighted averages of the probabilities, (n, C)."""
    average = sum(
        weight * np.exp(model.log_probabilities(split, SCORING_BATCH))
        for model, weight in zip(models, weights, strict=True)
    )
    logs: NDArray[np.float64] = np.log(np.maximum(average, np.finfo(np.float64).tiny))
    return logs
