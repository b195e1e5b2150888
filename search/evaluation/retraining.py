"""Train a trial's parameters from scratch, and measure what came of it. Pure: no Ray, no Optuna.

The two are apart: `retrain` never sees the test split, `measure` reads it once, at the end. Like
a trial's, the numbers are a function of (parameters, seed, data, epochs), however often the
training was cut and taken up again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from celltune.data_prep.dataset.subsets import concatenate
from celltune.data_prep.dataset.tensorized import PreparedData, TensorizedSplit
from celltune.data_prep.types import JSON
from celltune.models.errors import CheckpointError
from celltune.models.network.predict import log_probabilities
from celltune.models.training.trainer import Trainer
from celltune.search.errors import StorageError
from celltune.search.evaluation.metrics import Scores, SplitScores, combine_scores, score_split
from celltune.search.objective import sign
from celltune.search.storage.checkpoints import Checkpoints
from celltune.search.tuning.trial import make_trainer, train_epoch
from celltune.search.types import KeptEpoch, Metric, ParameterValue, TrainingSplits

LAST, BEST = "-last", "-best"
MEASURING_BATCH = 64
"""Reviews a batch when a finished model is measured."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Retraining:
    """What is trained, and how it is measured."""

    params: Mapping[str, ParameterValue]
    seed: int
    """Of the weights, the order of batches and dropout."""
    on: TrainingSplits
    """What is learned from. With train+valid no epoch can be chosen by validation."""
    epochs: int
    keep: KeptEpoch
    """Which epoch's weights are measured: the best by `metric`, or the last."""
    metric: Metric
    storage: Checkpoints
    """Where checkpoints go."""
    name: str
    """What they are called, with `LAST` or `BEST` behind it."""
    device: str = "cpu"


@dataclass(frozen=True)
class Trained:
    """Weights that wait to be measured, in the folder of their training."""

    epoch: int
    """Epochs that they were trained."""
    metrics: dict[str, float]
    """seconds, seconds_per_epoch, parameters; valid_loss and valid_accuracy where they decided."""


def retrain(task: Retraining, data: PreparedData) -> Trained:
    """Train to the end; a training that was cut goes on from its last whole epoch.

    Args:
        task: what to train.
        data: training and validation reviews.

    Raises:
        TrialError: its loss is no number.
        StorageError: a checkpoint can't be written, or the storage not be reached.
    """
    trainer = _trainer(task, data)
    curve = _taken_up(trainer, task)
    while trainer.epoch < task.epochs:
        curve.append(_epoch(trainer, task.on, task.metric))
        if task.keep == "best" and _best(curve, task.metric) == trainer.epoch:
            _save(trainer, task, BEST, curve)
        _save(trainer, task, LAST, curve)
    epoch = _best(curve, task.metric) if task.keep == "best" else trainer.epoch
    seconds = sum(each["seconds"] for each in curve)
    decided = {key: value for key, value in curve[epoch - 1].items() if key.startswith("valid_")}
    return Trained(
        epoch,
        {
            **decided,
            "seconds": seconds,
            "seconds_per_epoch": seconds / len(curve),
            "parameters": float(trainer.parameters),
        },
    )


def score_model(
    task: Retraining, trained: Trained, data: PreparedData, test: TensorizedSplit
) -> Scores:
    """Let the finished model classify what it learned from, and the test split.

    Args:
        task: as it was trained.
        trained: what `retrain` gave.
        data: as it was trained on.
        test: the test split.

    Raises:
        TrialError: its weights are gone or damaged.
        StorageError: they can't be read now.
    """
    trainer = _trainer(task, data)
    name = task.name + (BEST if task.keep == "best" else LAST)
    try:
        trainer.load_state(*task.storage.load(name))
    except OSError as error:
        raise _out_of_reach(task, "read", name, error) from error
    learned = _measures(trainer, _learned_from(task.on, data), data.num_classes)
    begun = time.perf_counter()
    tested = _measures(trainer, test, data.num_classes)
    milliseconds = 1e3 * (time.perf_counter() - begun) / len(test)
    more = {**trained.metrics, "milliseconds_per_review": milliseconds}
    return combine_scores(learned, tested, more)


def _measures(trainer: Trainer, split: TensorizedSplit, classes: int) -> SplitScores:
    logs = log_probabilities(trainer.model, split, batch_size=MEASURING_BATCH)
    return score_split(split.labels, logs.argmax(1), logs, classes)


def _trainer(task: Retraining, data: PreparedData) -> Trainer:
    learned = replace(data, train=_learned_from(task.on, data))
    return make_trainer(task.params, learned, seed=task.seed, device=task.device)


def _learned_from(on: TrainingSplits, data: PreparedData) -> TensorizedSplit:
    return data.train if on == "train" else concatenate(data.train, data.valid)


def _epoch(trainer: Trainer, on: TrainingSplits, metric: Metric) -> dict[str, float]:
    if on == "train":
        metrics = train_epoch(trainer, [metric])
        return {"epoch": float(trainer.epoch), **metrics}
    begun = time.perf_counter()
    trainer.train_epoch()
    return {"seconds": time.perf_counter() - begun}


def _best(curve: list[dict[str, float]], metric: Metric) -> int:
    """The epoch with the best value, the earlier one of equals; the first is 1."""
    values = [sign(metric) * each[metric] for each in curve]
    return 1 + values.index(max(values))


def _taken_up(trainer: Trainer, task: Retraining) -> list[dict[str, float]]:
    name = task.name + LAST
    try:
        tensors, meta = task.storage.load(name)
        curve = meta.get("curve")
        if meta.get("epochs") != task.epochs or not isinstance(curve, list):
            return []  # it was to train for another number of epochs
        trainer.load_state(tensors, meta)
    except CheckpointError as error:
        # Most often there is none yet.
        _log.info("A retraining starts anew: %s", error)
        return []
    except OSError as error:
        raise _out_of_reach(task, "read", name, error) from error
    return [dict(each) for each in curve if isinstance(each, dict)]  # type: ignore[arg-type]


def _save(trainer: Trainer, task: Retraining, kind: str, curve: list[dict[str, float]]) -> None:
    tensors, meta = trainer.state()
    kept: list[JSON] = [dict(each) for each in curve]
    name = task.name + kind
    try:
        task.storage.save((tensors, {**meta, "epochs": task.epochs, "curve": kept}), name)
    except OSError as error:
        raise _out_of_reach(task, "write", name, error) from error


def _out_of_reach(task: Retraining, what: str, name: str, error: OSError) -> StorageError:
    return StorageError(
        f"A retraining can't {what} its checkpoint {task.storage.location(name)}: "
        f"{error.strerror}. What was measured before is safe; mend the storage, "
        "then give the same command again."
    )
