"""A model that is the wide part of the data alone, behind the interface of a trainer.

Shapes: n documents, C classes, L = 1 for two classes and C for more.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel
from torch import Tensor

from celltune.data_prep.dataset.batching import evaluation_order
from celltune.data_prep.dataset.tensorized import PreparedData, TensorizedSplit
from celltune.data_prep.types import JSON
from celltune.models.config import ModelConfig, TrainingConfig
from celltune.models.network.input_checks import check_split, check_wide
from celltune.models.network.predict import class_log_probabilities
from celltune.models.training.losses import correct_labels, loss_sum, means
from celltune.models.training.metrics import EpochMetrics, Predictions
from celltune.models.training.state import check_identity, check_tensors, read_epoch
from celltune.models.training.trainer import Trainer


class WideOnly:
    """The wide part of the data, which was fitted when the data was prepared.

    An epoch computes metrics from the outputs that are stored with the data, and changes nothing.
    The metrics of the training split come from the cross-fitted outputs.
    """

    def __init__(
        self,
        model: ModelConfig,
        training: TrainingConfig,
        data: PreparedData,
        *,
        seed: int,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Check the splits.

        Args:
            model: the architecture, with `wide: only`.
            training: the settings of the training, which have no effect.
            data: the splits.
            seed: has no effect, but is part of the state.
            clock: a monotonic clock in seconds.

        Raises:
            DataError: a split is empty, has an empty document, an id or label out of range, or no
                outputs of the wide part.
        """
        self._data, self._clock = data, clock
        for name, split in (("train", data.train), ("valid", data.valid)):
            self._check(split, name)
        self._epoch = 0
        self._configs: dict[str, BaseModel] = {"model": model, "training": training}
        self._identity: dict[str, JSON] = {
            "vocabulary_size": data.vocabulary_size,
            "num_classes": data.num_classes,
            "seed": seed,
        }

    @property
    def epoch(self) -> int:
        """Number of completed epochs."""
        return self._epoch

    @property
    def parameters(self) -> int:
        """Number of weights of the wide part; 0 if the data does not tell it."""
        return self.wide_parameters

    @property
    def wide_parameters(self) -> int:
        """Number of weights of the wide part, which are all of the model's."""
        return self._data.wide_parameters

    def run_epoch(self, predictions: Predictions | None = None) -> EpochMetrics:
        """Count an epoch and return the metrics of both splits.

        Args:
            predictions: receives the predictions for the validation split.
        """
        start = self._clock()
        training = self.train_epoch()
        validation = self.evaluate(self._data.valid)
        if predictions is not None:
            order = evaluation_order(self._data.valid)
            predictions.labels.append(torch.tensor(self._data.valid.labels[order]))
            predictions.logits.append(_logits(self._data.valid)[order])
        seconds = self._clock() - start
        tokens = self._data.train.tokens + self._data.valid.tokens
        speed = tokens / seconds if seconds > 0 else 0.0
        return EpochMetrics(self._epoch, *training, *validation, seconds, speed)

    def train_epoch(self) -> tuple[float, float]:
        """Count an epoch and return the mean loss and the accuracy of the training split."""
        self._epoch += 1
        return _loss_and_accuracy(self._data.train)

    def evaluate(self, split: TensorizedSplit) -> tuple[float, float]:
        """Return the mean loss and the accuracy of a split.

        Args:
            split: documents with outputs of the wide part.

        Raises:
            DataError: the split is empty, has an empty document, an id or label out of range, or
                no outputs of the wide part.
        """
        self._check(split, "evaluated")
        return _loss_and_accuracy(split)

    def log_probabilities(self, split: TensorizedSplit, batch_size: int) -> NDArray[np.float64]:
        """Return the natural logarithms of the probabilities of all classes, (n, C).

        Args:
            split: see `evaluate`.
            batch_size: has no effect.

        Raises:
            DataError: see `evaluate`.
        """
        del batch_size
        self._check(split, "evaluated")
        values: NDArray[np.float64] = class_log_probabilities(_logits(split)).numpy()
        return values

    def state(self) -> tuple[dict[str, Tensor], dict[str, JSON]]:
        """Return a state without tensors: the wide part belongs to the data."""
        configs = {name: value.model_dump(mode="json") for name, value in self._configs.items()}
        return {}, {"epoch": self._epoch, **configs, **self._identity}

    def load_state(self, tensors: dict[str, Tensor], meta: dict[str, JSON]) -> None:
        """Continue from a state.

        Args:
            tensors: the tensors that `state` returned.
            meta: the other values that `state` returned.

        Raises:
            CheckpointError: the state has another config, seed, or tensors.
        """
        check_identity(self._configs, self._identity, meta)
        check_tensors({}, tensors)
        self._epoch = read_epoch(meta)

    def _check(self, split: TensorizedSplit, name: str) -> None:
        check_split(split, name, self._data.vocabulary_size, self._data.num_classes)
        check_wide(split, name, self._data.num_classes)


def create_trainer(
    model: ModelConfig,
    training: TrainingConfig,
    data: PreparedData,
    *,
    seed: int,
    device: str = "cpu",
    clock: Callable[[], float] = time.perf_counter,
) -> Trainer | WideOnly:
    """Create the trainer of an untrained model.

    Args:
        model: the architecture.
        training: the settings of the training.
        data: training and validation split.
        seed: determines the initial values, the order of batches, and dropout.
        device: a PyTorch device name.
        clock: a monotonic clock in seconds.

    Raises:
        DataError: the data cannot be used with this model.
        DeviceError: the device cannot train this model.
        TrialError: the model cannot be built.
    """
    if model.wide == "only":
        return WideOnly(model, training, data, seed=seed, clock=clock)
    return Trainer(model, training, data, seed=seed, device=device, clock=clock)


def _logits(split: TensorizedSplit) -> Tensor:
    """Return the outputs as logits, (n,) for two classes, otherwise (n, C)."""
    logits = torch.tensor(split.wide)
    return logits.squeeze(1) if logits.shape[1] == 1 else logits


def _loss_and_accuracy(split: TensorizedSplit) -> tuple[float, float]:
    logits, labels = _logits(split), torch.tensor(split.labels)
    losses, correct = loss_sum(logits.double(), labels), correct_labels(logits, labels)
    return means(losses[None], correct, len(split))
