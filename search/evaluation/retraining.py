"""Retraining of a trial's hyperparameters from scratch, and scoring of the retrained model.

Neither Ray nor Optuna is used. `retrain` never reads the test split; `score_model` reads it once.
As for a trial, the results are a function of (hyperparameters, seed, data, epochs), however often
the training was interrupted and continued.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from celltune.data_prep.dataset.subsets import concatenate
from celltune.data_prep.dataset.tensorized import PreparedData, TensorizedSplit
from celltune.data_prep.types import JSON
from celltune.models.errors import CheckpointError
from celltune.models.training.state import read_epoch
from celltune.models.training.trainer import Trainer
from celltune.models.training.wide_only import WideOnly
from celltune.search.decisions import DEFAULT, NOTHING, Decision, Fit
from celltune.search.errors import StorageError
from celltune.search.evaluation.checkpoints import BEST, LAST, curve_of
from celltune.search.metrics import Scores, SplitScores, combine_scores
from celltune.search.objective import sign
from celltune.search.storage.checkpoints import Checkpoints
from celltune.search.tuning.stopping import stagnates
from celltune.search.tuning.trial import make_trainer, train_epoch
from celltune.search.types import KeptEpoch, Metric, ParameterValue, TrainingSplits

SCORING_BATCH = 64
"""Number of documents in a batch when a model is scored."""

EpochMetrics = dict[str, float]
"""Metrics of one epoch; only `seconds` and `cpu_seconds` (of the process, which depend less on
other load) if the validation split is part of the training data."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Retraining:
    """A model to retrain."""

    params: Mapping[str, ParameterValue]
    seed: int
    """Seed of the initial weights, the order of batches, and dropout."""
    on: TrainingSplits
    """Splits to train on. With train+valid, validation cannot choose the epoch."""
    epochs: int
    keep: KeptEpoch
    """Epoch whose weights are scored."""
    metric: Metric
    """Metric by which the best epoch is chosen."""
    checkpoints: Checkpoints
    name: str
    """Name of the checkpoints, without the suffixes `LAST` and `BEST`."""
    device: str = "cpu"
    patience: int | None = None
    """Number of epochs without improvement that end the training, if the best epoch is kept."""
    fit: Fit = NOTHING
    """What is fitted to the predictions for the validation split, if it is not trained on."""
    decision: Decision = DEFAULT
    """Turns probabilities into predictions if the validation split is trained on."""

    @property
    def kept_checkpoint(self) -> str:
        """Name of the checkpoint whose weights are scored."""
        return self.name + (BEST if self.keep == "best" else LAST)


@dataclass(frozen=True)
class RetrainedModel:
    """Result of a retraining; the weights are in its checkpoint."""

    epoch: int
    """Number of epochs that the kept weights were trained for."""
    metrics: dict[str, float]
    """seconds, seconds_per_epoch, cpu_seconds, parameters; the threshold and the temperature, if
    there are any; also valid_loss and valid_accuracy, if known."""


def retrain(task: Retraining, data: PreparedData) -> RetrainedModel:
    """Train a model to the end; an interrupted training continues from its last checkpoint.

    Raises:
        TrialError: the loss is not a finite number.
        StorageError: the storage cannot be read or written.
    """
    trainer = _make_trainer(task, data)
    history = _restore(trainer, task)
    while trainer.epoch < task.epochs and not _has_converged(task, history):
        history.append(_run_epoch(trainer, task))
        if task.keep == "best" and _best_epoch(history, task.metric) == trainer.epoch:
            _save(trainer, task, BEST, history)
        _save(trainer, task, LAST, history)
    epoch = _best_epoch(history, task.metric) if task.keep == "best" else trainer.epoch
    seconds = sum(metrics["seconds"] for metrics in history)
    cpu_seconds = sum(metrics.get("cpu_seconds", math.nan) for metrics in history)
    kept_metrics = history[epoch - 1]
    decision = Decision.of(kept_metrics) if task.on == "train" else task.decision
    return RetrainedModel(
        epoch,
        {
            **{name: value for name, value in kept_metrics.items() if name.startswith("valid_")},
            **decision.metrics(),
            "seconds": seconds,
            "seconds_per_epoch": seconds / len(history),
            # A training that an older release began has no CPU time of its first epochs.
            **({} if math.isnan(cpu_seconds) else {"cpu_seconds": cpu_seconds}),
            "parameters": float(trainer.parameters),
        },
    )


def score_model(
    task: Retraining, model: RetrainedModel, data: PreparedData, test: TensorizedSplit
) -> Scores:
    """Score a retrained model on its training documents and on the test split.

    Args:
        task: the model's retraining.
        model: the result of `retrain`.
        data: the data that the model was trained on.
        test: the test split.

    Raises:
        TrialError: the model's checkpoint is missing or damaged.
        StorageError: the storage cannot be read.
    """
    trainer = _make_trainer(task, data)
    try:
        trainer.load_state(*task.checkpoints.load(task.kept_checkpoint))
    except OSError as error:
        raise _unavailable(task, "read", task.kept_checkpoint, error) from error
    decision = Decision.of(model.metrics)
    train_scores = _score(trainer, _training_split(task.on, data), decision)
    start = time.perf_counter()
    test_scores = _score(trainer, test, decision)
    milliseconds = 1e3 * (time.perf_counter() - start) / len(test)
    other_metrics = {**model.metrics, "milliseconds_per_review": milliseconds}
    return combine_scores(train_scores, test_scores, other_metrics)


def _score(trainer: Trainer | WideOnly, split: TensorizedSplit, decision: Decision) -> SplitScores:
    return decision.scores(split.labels, trainer.log_probabilities(split, SCORING_BATCH))


def _make_trainer(task: Retraining, data: PreparedData) -> Trainer | WideOnly:
    training_data = replace(data, train=_training_split(task.on, data))
    return make_trainer(task.params, training_data, seed=task.seed, device=task.device)


def _training_split(on: TrainingSplits, data: PreparedData) -> TensorizedSplit:
    return data.train if on == "train" else concatenate(data.train, data.valid)


def _run_epoch(trainer: Trainer | WideOnly, task: Retraining) -> EpochMetrics:
    start, cpu_start = time.perf_counter(), time.process_time()
    if task.on == "train":
        values = train_epoch(trainer, [task.metric], task.fit)
        metrics = {"epoch": float(trainer.epoch + 1), **values}
    else:
        trainer.train_epoch()
        metrics = {"seconds": time.perf_counter() - start}
    return {**metrics, "cpu_seconds": time.process_time() - cpu_start}


def _best_epoch(history: list[EpochMetrics], metric: Metric) -> int:
    """Return the epoch with the best value, counted from 1; of equal ones, the earliest."""
    values = [sign(metric) * metrics[metric] for metrics in history]
    return 1 + values.index(max(values))


def _has_converged(task: Retraining, history: Sequence[EpochMetrics]) -> bool:
    """Return whether a training ends early, as a trial of the search does (`epoch_patience`)."""
    if task.keep != "best":
        return False
    values = [metrics[task.metric] for metrics in history]
    return stagnates(values, task.metric, task.patience)


def _restore(trainer: Trainer | WideOnly, task: Retraining) -> list[EpochMetrics]:
    """Load the last checkpoint, if there is a valid one, and return the metrics of its epochs."""
    name = task.name + LAST
    try:
        tensors, meta = task.checkpoints.load(name)
        history = curve_of(meta)
        # A training for another number of epochs may already have passed this one.
        if meta.get("epochs") != task.epochs or not history:
            return []
        _check_curve(history, meta, task)
        trainer.load_state(tensors, meta)
    except CheckpointError as error:
        # In most cases, there is no checkpoint yet.
        _log.info("The retraining starts from scratch: %s", error)
        return []
    except OSError as error:
        raise _unavailable(task, "read", name, error) from error
    return history


def _check_curve(
    history: Sequence[EpochMetrics], meta: Mapping[str, JSON], task: Retraining
) -> None:
    """Check that the metrics are those of the epochs of a state, and rank these if needed.

    Raises:
        CheckpointError: they are not.
    """
    if len(history) != read_epoch(meta):
        raise CheckpointError(f"The state has the metrics of {len(history)} epochs, not of all.")
    if task.keep == "best" and not all(task.metric in metrics for metrics in history):
        raise CheckpointError(f"The state has no {task.metric} of an epoch.")


def _save(
    trainer: Trainer | WideOnly, task: Retraining, suffix: str, history: list[EpochMetrics]
) -> None:
    tensors, meta = trainer.state()
    curve: list[JSON] = [dict(metrics) for metrics in history]
    name = task.name + suffix
    try:
        task.checkpoints.save((tensors, {**meta, "epochs": task.epochs, "curve": curve}), name)
    except OSError as error:
        raise _unavailable(task, "write", name, error) from error


def _unavailable(task: Retraining, action: str, name: str, error: OSError) -> StorageError:
    return StorageError(
        f"A retraining cannot {action} its checkpoint {task.checkpoints.location(name)}: "
        f"{error.strerror}. Finished evaluations are saved. Fix the storage, then run the "
        "evaluation again."
    )
