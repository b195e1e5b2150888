"""Trained models for prediction, with one interface for their different implementations.

Shapes: n documents, C classes, V words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.dataset.tensorized import TensorizedSplit
from celltune.models.config import ModelConfig
from celltune.models.errors import TrialError
from celltune.models.network.input_checks import missing_wide
from celltune.models.network.log_softmax import log_softmax
from celltune.models.network.native_network import NativeNetwork, is_native
from celltune.models.network.weights import check_weights

if TYPE_CHECKING:
    from torch import Tensor

    from celltune.models.network.classifier import TextClassifier

BATCH_SIZE = 256
"""Number of texts, of similar lengths, in one batch of a classifier of PyTorch."""


class Network(Protocol):
    """A trained model that reads prepared documents."""

    @property
    def wide_scale(self) -> float:
        """Factor of the outputs of the wide part in the logits; 0 if the model reads none."""
        ...

    def log_probabilities(self, split: TensorizedSplit) -> NDArray[np.float64]:
        """Return the log-probability of each class for each document.

        Args:
            split: documents with at least one token each, whose ids are in the range of the model,
                with outputs of the wide part if the model reads them. Apart from rounding, the
                result for a document does not depend on the others.

        Returns:
            (n, C) natural logarithms in the order of the split.

        Raises:
            DataError: the model reads outputs of the wide part, and the split has none.
        """
        ...


class TorchNetwork:
    """A classifier of PyTorch, for all cells and readouts, on any machine."""

    def __init__(self, classifier: TextClassifier) -> None:
        """Put the classifier into evaluation mode.

        Args:
            classifier: on any device.
        """
        self._classifier = classifier.eval()

    @property
    def wide_scale(self) -> float:
        """Factor of the outputs of the wide part; see `Network`."""
        return self._classifier.wide_scale.item() if self._classifier.config.wide == "add" else 0.0

    def log_probabilities(self, split: TensorizedSplit) -> NDArray[np.float64]:
        """Return the log-probability of each class for each document; see `Network`."""
        from celltune.models.network.predict import log_probabilities

        return log_probabilities(self._classifier, split, batch_size=BATCH_SIZE)


class WideNetwork:
    """The wide part alone: its outputs are the logits."""

    wide_scale = 1.0

    def log_probabilities(self, split: TensorizedSplit) -> NDArray[np.float64]:
        """Return the log-probability of each class for each document; see `Network`."""
        if split.wide is None:
            raise missing_wide("this split")
        return log_softmax(split.wide)


def load_network(
    config: ModelConfig,
    vocabulary_size: int,
    num_classes: int,
    tensors: Mapping[str, NDArray[Any]],
) -> Network:
    """Return the fastest implementation of a model.

    Args:
        config: the architecture.
        vocabulary_size: V.
        num_classes: C.
        tensors: the weights, by the names of the classifier's parameters.

    Raises:
        ValueError: the weights belong to another model, or one of them is no number.
    """
    if config.wide == "only":
        check_weights(config, vocabulary_size, num_classes, tensors)
        return WideNetwork()
    if is_native(config):
        return NativeNetwork(config, vocabulary_size, num_classes, tensors)
    import torch

    copies = {name: torch.from_numpy(values.copy()) for name, values in tensors.items()}
    return TorchNetwork(load_classifier(config, vocabulary_size, num_classes, copies))


def network_of(classifier: TextClassifier) -> Network:
    """Return the fastest implementation of a classifier on the CPU, for its current weights."""
    if not is_native(classifier.config):
        return TorchNetwork(classifier)
    arrays = {name: values.numpy() for name, values in classifier.state_dict().items()}
    sizes = len(classifier.embedding), classifier.num_classes
    return NativeNetwork(classifier.config, *sizes, arrays)


def load_classifier(
    config: ModelConfig, vocabulary_size: int, num_classes: int, tensors: Mapping[str, Tensor]
) -> TextClassifier:
    """Return a classifier in evaluation mode.

    Args:
        config: the architecture, with a network.
        vocabulary_size: V.
        num_classes: C.
        tensors: the weights, by the names of the classifier's parameters.

    Raises:
        ValueError: the weights belong to another architecture, or one of them is no
            number.
    """
    from celltune.models.network.classifier import TextClassifier

    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    check_weights(config, vocabulary_size, num_classes, arrays)
    try:
        classifier = TextClassifier(config, vocabulary_size, num_classes)
    except TrialError as error:
        raise ValueError(str(error)) from error
    try:
        classifier.load_state_dict(dict(tensors))
    except RuntimeError as error:
        problem = " ".join(str(error).split())
        raise ValueError(f"the weights belong to another model ({problem})") from error
    return classifier.eval()
