"""Order of the trainings of published models: those that cost least come first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.config import SOURCE_KEYS, DataConfig
from celltune.data_prep.io.files import default_cache_dir
from celltune.data_prep.preparation.selection import load_documents
from celltune.data_prep.sources.base import TRAIN
from celltune.data_prep.sources.factory import open_source
from celltune.data_prep.types import Progress
from celltune.errors import CelltuneError
from celltune.models.config import ModelConfig
from celltune.models.network.classifier import TextClassifier
from celltune.search.config.space import model_and_training
from celltune.search.evaluation.published_models import PublishedModel, Training

SMALLEST_BATCH = 16
"""Batches of fewer documents take as long, because a vector of the processor has as many values."""


class Costs:
    """Costs of trainings, relative to each other.

    The cost of a model with results is their mean time. Of others, it is the number of
    multiplications by recurrent weights, which needs neither a vocabulary nor prepared data. The
    two are not comparable, so models with results come before the others. Epochs that an
    interrupted training completed cost nothing.
    """

    def __init__(self, progress: Progress) -> None:
        """Read nothing yet.

        Args:
            progress: called while documents are read.
        """
        self._progress = progress
        self._lengths: dict[Any, NDArray[np.int64]] = {}

    def cheapest_first(self, trainings: Sequence[Training]) -> list[Training]:
        """Return the trainings in the order of their costs."""
        if len(trainings) < 2:
            return list(trainings)
        return sorted(trainings, key=self._cost)

    def _cost(self, training: Training) -> tuple[bool, float]:
        """Return whether the model has no result, and the cost of the epochs that are left."""
        model = training.model
        left = 1 - len(training.epoch_seconds()) / model.config.budget.max_epochs
        seconds = [result.metrics["seconds"] for result in model.results().values()]
        if seconds:
            return False, left * float(np.mean(seconds))
        try:
            return True, left * self._multiplications(model)
        except CelltuneError:
            # The training itself reports the error.
            return True, math.inf

    def _multiplications(self, model: PublishedModel) -> float:
        data, budget = model.config.data, model.config.budget
        architecture, training = model_and_training(model.config.space.fixed)
        tokens = np.minimum(self._words(data), data.max_tokens).sum() * model.scale
        padding = max(1, SMALLEST_BATCH / training.batch_size)
        return float(tokens * padding * budget.max_epochs * _weights(architecture))

    def _words(self, data: DataConfig) -> NDArray[np.int64]:
        """Return the number of words of each document that is not in a test file."""
        key = (data.source, *(getattr(data, name) for name in SOURCE_KEYS))
        if key not in self._lengths:
            source = open_source(data, cache_dir=default_cache_dir(), progress=self._progress)
            documents = load_documents(source, TRAIN, self._progress)
            self._lengths[key] = np.array([1 + document.text.count(" ") for document in documents])
        return self._lengths[key]


def _weights(architecture: ModelConfig) -> int:
    """Return the number of parameters without an embedding, which costs only a look-up.

    A model without a cell has nothing to train.
    """
    if architecture.cell is None:
        return 0
    network = TextClassifier(architecture, vocabulary_size=2, num_classes=2)
    return sum(each.numel() for each in network.parameters()) - network.embedding.numel()
