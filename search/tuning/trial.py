"""One trial: trains a model and yields a report after each epoch. Uses neither Ray nor Optuna.

The metrics of an epoch are a function of (hyperparameters, seed, data, epoch): a trial that was
interrupted and resumed reports the same metrics as an uninterrupted one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.dataset.tensorized import PreparedData
from celltune.models.errors import CheckpointError, TrialError
from celltune.printable import quoted
from celltune.search.config.space import model_and_training
from celltune.search.decisions import NOTHING, Fit
from celltune.search.errors import StorageError
from celltune.search.storage.checkpoints import Checkpoints
from celltune.search.tuning.valid_predictions import (
    add_predictions,
    in_document_order,
    remove_predictions,
)
from celltune.search.types import EpochReport, ParameterValue

if TYPE_CHECKING:
    from torch import Tensor

    from celltune.data_prep.types import JSON
    from celltune.models.config import ModelConfig, TrainingConfig
    from celltune.models.training.checkpoint import State
    from celltune.models.training.metrics import EpochMetrics, Predictions
    from celltune.models.training.trainer import Trainer
    from celltune.models.training.wide_only import WideOnly
    from celltune.search.config.schema import SearchConfig


@dataclass(frozen=True)
class TrialTask:
    """Everything that a worker needs to train a trial, except the data."""

    number: int
    params: Mapping[str, ParameterValue]
    seed: int
    """The experiment's seed."""
    checkpoints: Checkpoints
    """The store of the trial's checkpoints."""
    restore_from: tuple[str, ...] = ()
    """Names of the checkpoints to continue from, in order of preference; empty for a new trial."""
    metrics: tuple[str, ...] = ()
    """Metrics that are reported in addition to those of the trainer."""
    fit: Fit = NOTHING
    """What is fitted to the predictions for the validation split."""
    device: str = "cpu"
    max_epochs: int | None = None
    """Epoch that ends the trial, so that a worker reports it at once; None: unknown."""
    alone: bool = False
    """True if no other trial may share the worker."""


class Trained(Protocol):
    """A model in training, as checkpoints need it: a trainer, or a member of a pack."""

    @property
    def epoch(self) -> int:
        """Number of completed epochs."""

    @property
    def parameters(self) -> int:
        """Number of parameters."""

    @property
    def wide_parameters(self) -> int:
        """Number of these that belong to the wide part."""

    def state(self) -> State:
        """Return the training state."""

    def load_state(self, tensors: dict[str, Tensor], meta: dict[str, JSON]) -> None:
        """Continue from a state.

        Raises:
            CheckpointError: the state does not match.
        """


def fit_of(config: SearchConfig) -> Fit:
    """Return what a search fits to the predictions for the validation split."""
    return Fit(config.threshold, temperature=config.calibration is not None)


def checkpoint_name(epoch: int) -> str:
    """Return the folder name of the checkpoint after `epoch`."""
    return f"epoch-{epoch}"


def trial_seed(experiment_seed: int, number: int) -> int:
    """Return the seed (32 bits) of a trial's weights, batches and dropout."""
    return int(np.random.SeedSequence([experiment_seed, number]).generate_state(1)[0])


def make_trainer(
    params: Mapping[str, ParameterValue], data: PreparedData, *, seed: int, device: str
) -> Trainer | WideOnly:
    """Create the trainer of a trial's untrained model.

    Args:
        params: all active hyperparameters.
        data: training and validation split.
        seed: seed of the initial weights, the order of batches, and dropout.
        device: a torch device name.

    Raises:
        DataError: the data cannot be used with these hyperparameters.
        DeviceError: the device cannot train this model.
    """
    # Importing torch takes seconds, and a worker may be stopped before it trains.
    from celltune.models.training.wide_only import create_trainer

    return create_trainer(*trial_configs(params, data), data, seed=seed, device=device)


def trial_configs(
    params: Mapping[str, ParameterValue], data: PreparedData
) -> tuple[ModelConfig, TrainingConfig]:
    """Return the configs of a trial's model and of its training.

    Args:
        params: all active hyperparameters.
        data: word vectors determine the embedding size, unless it is a hyperparameter.
    """
    model, training = model_and_training(params)
    if data.vectors is not None and "embedding_size" not in params:
        model = model.model_copy(update={"embedding_size": data.vectors.shape[1]})
    return model, training


def run_trial(task: TrialTask, data: PreparedData) -> Iterator[EpochReport]:
    """Train without end, one epoch per iteration; to stop, abandon the iterator.

    Args:
        task: the trial, and where to continue.
        data: training and validation split.

    Raises:
        TrialError: the trial cannot continue, for example because its loss is not finite.
        StorageError: a checkpoint cannot be read or written.
    """
    # Importing torch takes seconds, and a worker may be stopped before it trains.
    from celltune.models.training.metrics import Predictions

    seed = trial_seed(task.seed, task.number)
    trainer = make_trainer(task.params, data, seed=seed, device=task.device)
    warnings = restore(trainer, task)
    while True:
        predictions = Predictions()
        metrics = epoch_metrics(trainer.run_epoch(predictions), task.metrics, predictions, task.fit)
        logs = in_document_order(predictions, data.valid)
        yield report_epoch(trainer, task, metrics, logs, warnings)
        warnings = ()


def check_origin(
    meta: Mapping[str, JSON], params: Mapping[str, ParameterValue], *, epoch: int, seed: int | None
) -> None:
    """Check that the state in a checkpoint is that of a trial after an epoch.

    Args:
        meta: the part of the state that is not a tensor.
        params: the hyperparameters of the trial.
        epoch: the epoch that the ledger recorded.
        seed: the trial's seed (see `trial_seed`); None if it is unknown.

    Raises:
        CheckpointError: it is another trial's, or after another epoch.
    """
    from celltune.models.training.state import check_identity

    model, _ = model_and_training(params)
    stored = meta.get("model")
    if "embedding_size" not in params and isinstance(stored, dict):
        # Word vectors determine it.
        stored = {**stored, "embedding_size": model.embedding_size}
    values: dict[str, JSON] = {} if seed is None else {"seed": seed}
    check_identity({"model": model}, values, {**meta, "model": stored})
    _check_epoch(meta, checkpoint_name(epoch))


def _check_epoch(meta: Mapping[str, JSON], name: str) -> None:
    from celltune.models.training.state import read_epoch

    if checkpoint_name(read_epoch(meta)) != name:
        raise CheckpointError(
            f"The state is that of epoch {quoted(meta['epoch'])}, but the checkpoint is {name}."
        )


def train_epoch(
    trainer: Trainer | WideOnly, metrics: Sequence[str] = (), fit: Fit = NOTHING
) -> dict[str, float]:
    """Train for an epoch and return the trainer's metrics and the requested ones.

    Args:
        trainer: the trainer.
        metrics: names of metrics in `METRICS`. Those that the trainer does not report are computed
            from the predictions for the validation split, which are collected only then.
        fit: what is fitted to these predictions.

    Raises:
        TrialError: a loss or a metric is not finite.
    """
    from celltune.models.training.metrics import Predictions

    predictions = Predictions() if missing_metrics(metrics) or fit else None
    return epoch_metrics(trainer.run_epoch(predictions), metrics, predictions, fit)


def missing_metrics(metrics: Sequence[str]) -> tuple[str, ...]:
    """Return the metrics that are computed from predictions, because trainers do not report them.

    Args:
        metrics: names of metrics in `METRICS`.
    """
    from celltune.models.training.metrics import EpochMetrics

    return tuple(name for name in metrics if name not in EpochMetrics.__dataclass_fields__)


def epoch_metrics(
    epoch: EpochMetrics,
    metrics: Sequence[str],
    predictions: Predictions | None,
    fit: Fit = NOTHING,
) -> dict[str, float]:
    """Return the metrics of a trained epoch by name: the trainer's and the requested ones.

    With a threshold, all metrics that depend on the predicted classes only are measured with it.

    Args:
        epoch: the metrics that the trainer reports.
        metrics: names of metrics in `METRICS`.
        predictions: predictions for the validation split, needed for `missing_metrics(metrics)` and
            for `fit`.
        fit: what is fitted to them.

    Raises:
        TrialError: a metric is not finite.
    """
    values = epoch.by_name()
    if predictions is not None:
        labels, log_probabilities = predictions.arrays()
        decision, fitted = fit.metrics(labels, log_probabilities)
        values |= fitted
        decided = ("valid_accuracy",) if decision.threshold is not None else ()
        for name in dict.fromkeys((*missing_metrics(metrics), *decided)):
            values[name] = decision.metric(name, labels, log_probabilities)
            if not math.isfinite(values[name]):
                raise TrialError(
                    f"The metric {name} is {values[name]} after epoch {epoch.epoch}. It must be "
                    "a finite number: fix the package that defines it, or use another metric."
                )
    return values


def report_epoch(
    trained: Trained,
    task: TrialTask,
    metrics: dict[str, float],
    log_probabilities: NDArray[np.float32],
    warnings: tuple[str, ...],
) -> EpochReport:
    """Write the checkpoint of an epoch and return the report that names it.

    Args:
        trained: the model after the epoch.
        task: the trial.
        metrics: the metrics of the epoch; `parameters` is added, and `wide_parameters` if the model
            contains the wide part.
        log_probabilities: (n, C) predictions for the validation split, see `in_document_order`.
        warnings: sentences to log.

    Raises:
        StorageError: the checkpoint cannot be written.
    """
    metrics = {**metrics, "parameters": float(trained.parameters)}
    if trained.wide_parameters:
        metrics["wide_parameters"] = float(trained.wide_parameters)
    name = checkpoint_name(trained.epoch)
    try:
        task.checkpoints.save(add_predictions(trained.state(), log_probabilities), name)
    except OSError as error:
        raise _storage_error(task, "write", name, error) from error
    return EpochReport(trained.epoch, metrics, name, warnings)


def restore(trained: Trained, task: TrialTask) -> tuple[str, ...]:
    """Load the first usable checkpoint of `task.restore_from`, if there is one.

    Args:
        trained: the model, untrained.
        task: the trial.

    Returns:
        A warning for each checkpoint that is not usable.

    Raises:
        StorageError: a checkpoint cannot be read.
    """
    warnings: list[str] = []
    for name in task.restore_from:
        try:
            tensors, meta = remove_predictions(task.checkpoints.load(name))
            _check_epoch(meta, name)
            trained.load_state(tensors, meta)
        except CheckpointError as error:
            warnings.append(
                f"Trial {task.number} skips the checkpoint {name}. {error}{_set_aside(task, name)} "
                "The trial continues from an older checkpoint, or from the start if there is none."
            )
        except OSError as error:
            raise _storage_error(task, "read", name, error) from error
        else:
            break
    return tuple(warnings)


def _set_aside(task: TrialTask, name: str) -> str:
    """Keep an unusable checkpoint under another name; return a sentence that says where."""
    try:
        return f" The checkpoint is kept as {task.checkpoints.set_aside(name)}."
    except OSError:
        return ""


def _storage_error(task: TrialTask, action: str, name: str, error: OSError) -> StorageError:
    return StorageError(
        f"Trial {task.number} cannot {action} its checkpoint {task.checkpoints.location(name)}: "
        f"{error.strerror}. Recorded epochs are safe, and no trial has failed. Fix the storage, "
        "then resume the search."
    )
