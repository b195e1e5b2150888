"""Estimate of the GPU memory that a training needs, without a GPU.

Shapes: T time, B batch, E embedding, S = D * H state features of a layer, G gates.

The sizes of weights, gradients, moments and splits are exact. Those of activations count the
tensors that `cudnn_layers.py`, `loop_layer.py` and `cuda_graphs.py` keep for the largest batch, in
float32, since 16-bit products keep copies of both types. The tests compare them with the tensors of
a training on the CPU. What cuDNN, cuBLAS and CUDA allocate themselves is not visible there, and was
not measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal, TypeAlias

import numpy as np
import torch

from celltune.data_prep.dataset.tensorized import PreparedData, TensorizedSplit
from celltune.models.config import ModelConfig, TrainingConfig
from celltune.models.layers.base import Cell
from celltune.models.layers.cuda_graphs import BATCH_MULTIPLE, MAX_GRAPHS, STEP_MULTIPLE
from celltune.models.layers.persistent.selection import fits_on_chip
from celltune.models.layers.stack import create_cell
from celltune.models.network.classifier import TextClassifier
from celltune.models.training.precision import tf32_products

CONTEXT_BYTES = 500_000_000
"""CUDA context and loaded kernels of one process. They depend on card, driver and CUDA: about 0.5
GB."""
Implementation: TypeAlias = Literal["cudnn", "autograd", "persistent", "graphs"]
_FLOAT = 4
_GRAPHS_PER_SHAPE = 2  # One for the forward pass, one for the backward pass.


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes of GPU memory of one process, by use."""

    context: int = 0
    splits: int = 0
    """The documents, which all trials of the process share."""
    weights: int = 0
    gradients: int = 0
    moments: int = 0
    """State of the optimizer, and the weights themselves next to their average."""
    activations: int = 0
    """Tensors of one step on the largest batch, at the peak."""
    graphs: int = 0
    """Memory of CUDA graphs, which keep it between steps: packed trials and cells without cuDNN,
    if their weights do not fit on the chip."""

    @property
    def total(self) -> int:
        """Sum of all uses."""
        return sum(getattr(self, field.name) for field in fields(self))


class MemoryEstimator:
    """Estimates the memory of trainings on one data set."""

    def __init__(self, data: PreparedData) -> None:
        """Read the lengths of the documents.

        Args:
            data: training and validation split.
        """
        self._data = data
        lengths = np.concatenate([data.train.lengths, data.valid.lengths])
        self._shortest, self._longest = int(lengths.min()), int(lengths.max())
        self._documents = max(len(data.train), len(data.valid))
        self._steps = np.unique(-(-lengths // STEP_MULTIPLE)) * STEP_MULTIPLE

    def estimate(
        self,
        model: ModelConfig,
        training: TrainingConfig,
        *,
        trials: int = 1,
        shared_memory: int = 0,
    ) -> TrainingMemory:
        """Estimate the memory of a process that trains on a GPU.

        Args:
            model: the architecture.
            training: the settings of the training.
            trials: number of trials that the process trains as one batched model.
            shared_memory: bytes that one program can use on the GPU, on which the implementation of
                a layer depends; 0: none, for which the estimate is the largest.

        Raises:
            TrialError: the model cannot be built.
        """
        if model.wide == "only":
            return TrainingMemory()  # Nothing is computed on the GPU.
        sizes = self._parameters(model)
        weights = _FLOAT * sum(sizes.values())
        frozen = self._data.vectors is not None and not self._data.vectors_tuned
        gradients = weights - (_FLOAT * sizes["embedding"] if frozen else 0)
        cell = create_cell(model)
        with tf32_products(training.precision):
            on_chip = fits_on_chip(cell, model.hidden_size, shared_memory)
        implementation = _implementation(cell, packed=trials > 1, on_chip=on_chip)
        graphs = 0
        if implementation == "graphs":
            graphs = self._graphs(model, training, cell, packed=trials > 1)
        return TrainingMemory(
            context=CONTEXT_BYTES,
            splits=sum(_stored_bytes(split) for split in (self._data.train, self._data.valid)),
            weights=trials * weights,
            gradients=trials * gradients,
            moments=trials * gradients * _moments(training),
            activations=trials
            * self._activations(model, training, cell, implementation, packed=trials > 1),
            graphs=trials * graphs,
        )

    def _parameters(self, model: ModelConfig) -> Mapping[str, int]:
        """Return the number of values of each parameter, without allocating them."""
        with torch.device("meta"):
            built = TextClassifier(
                model, self._data.vocabulary_size, self._data.num_classes, torch.Generator("cpu")
            )
        return {name: values.numel() for name, values in built.named_parameters()}

    def _activations(
        self,
        model: ModelConfig,
        training: TrainingConfig,
        cell: Cell,
        implementation: Implementation,
        *,
        packed: bool,
    ) -> int:
        """Return the bytes of the tensors of a step, at the start of the last layer's backward."""
        features, gates = _state_features(model), len(cell.gates)
        dropout, words = model.of_embedding > 0, model.word_dropout > 0
        between = model.between_layers > 0
        # Vectors of the words, reversed for the second direction of cuDNN; factors of dropout.
        # The perturbation of adversarial training, its gradient and its sum with the vectors.
        adversarial = 3 * (training.adversarial > 0)
        reverses = implementation == "cudnn" and model.bidirectional
        embedded = (1 + 2 * dropout + words + reverses + adversarial) * model.embedding_size
        kept = {
            # Saved by cuDNN: gates and states of each step; its result, in the order of a
            # direction and in time order; the inputs of the next layer, reversed.
            "cudnn": gates + len(cell.states) + 2 + reverses,
            # Saved by autograd: some three results of each gate, and the states.
            "autograd": 3 * gates + 4,
            # Saved by a loop: the gates, the gated states or cells, the states in time order.
            "persistent": gates + 3,
            "graphs": gates + 3,
        }[implementation]
        layers = model.num_layers * kept + 2 * between * (model.num_layers - 1)
        readout = 1
        # Gradients of the states, in two orders, of the gates and of the inputs of the layer.
        backward = (gates + 2) * features + max(model.embedding_size, features)
        values = embedded + (layers + readout) * features + backward
        ids = 8 * 2 + 1  # Ids and positions of 8 bytes, and the mask.
        positions = self._positions(training, self._longest, packed=packed)
        return positions * (_FLOAT * values + ids)

    def _graphs(
        self, model: ModelConfig, training: TrainingConfig, cell: Cell, *, packed: bool
    ) -> int:
        """Return the bytes of all graphs: one of each pass for each padded shape of a batch."""
        gates = len(cell.gates)
        # Forward: projection, states, gates, gated states. Backward: all but the first of them,
        # the gradients of states and projection, and temporary values of a step.
        values = (2 * gates + 2) + (2 * gates + 3)
        longest = self._steps[-(MAX_GRAPHS // _GRAPHS_PER_SHAPE) :]
        batches = [
            self._positions(training, int(steps), packed=packed, multiple=BATCH_MULTIPLE)
            for steps in longest
        ]
        return sum(batches) * values * _state_features(model) * _FLOAT

    def _positions(
        self, training: TrainingConfig, steps: int, *, packed: bool, multiple: int = 1
    ) -> int:
        """Return the number of ids, with padding, of the largest batch of documents of a length.

        The batches of packed trials are padded to the size of the largest one, which with a token
        limit is a batch of short documents.
        """
        batch = min(training.batch_size, self._documents)
        if training.batch_tokens is not None:
            length = self._shortest if packed else steps
            batch = max(1, min(batch, training.batch_tokens // length))
        return steps * -(-batch // multiple) * multiple


def _implementation(cell: Cell, *, packed: bool, on_chip: bool) -> Implementation:
    """Return which implementation of `RecurrentStack` or `PackedNetwork` runs a cell on a GPU."""
    if on_chip:
        return "persistent"
    if cell.torch_function is not None and not packed:
        return "cudnn"
    return "autograd" if cell.loop is None else "graphs"


def _state_features(model: ModelConfig) -> int:
    return model.hidden_size * (2 if model.bidirectional else 1)


def _moments(training: TrainingConfig) -> int:
    """Return how many values the training keeps for each weight."""
    averages = 0 if training.weight_average is None else 1
    if training.optimizer in ("adam", "adamw"):
        return 2 + averages
    return averages + (1 if training.momentum else 0)


def _stored_bytes(split: TensorizedSplit) -> int:
    """Return the size of a `DeviceSplit`."""
    wide = 0 if split.wide is None else split.wide.nbytes
    return split.ids.nbytes + split.labels.nbytes + wide
