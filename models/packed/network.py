"""The forward pass of several classifiers of one shape, which share no weights.

Shapes: N models, T time, B batch, V words, E embedding, H hidden, D directions, F readout features,
C classes. See `network.classifier` for a single one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from celltune.data_prep.dataset.tensorized import PAD
from celltune.models.layers.base import LayerWeights, LoopWeights, StepLoop
from celltune.models.layers.cuda_graphs import BATCH_MULTIPLE, STEP_MULTIPLE, GraphedLoop
from celltune.models.layers.loop_layer import run_loop_layers
from celltune.models.layers.persistent.selection import persistent_loop
from celltune.models.network.classifier import TextClassifier
from celltune.models.packed.batches import PackedBatch
from celltune.models.packed.dropout import PackedDropout
from celltune.models.packed.readouts import run_readouts
from celltune.models.packed.stacks import StackedParameters

_RECURRENT, _READOUT = "recurrent.", "readout."


class PackedNetwork:
    """N classifiers, whose parameters become views of stacked tensors.

    Attributes:
        stacks: the parameters.
        step_multiple: T of a batch must be a multiple of this.
        batch_multiple: B of a batch must be a multiple of this.
        adds_wide: whether the outputs of a wide part are added to the logits.
    """

    def __init__(self, models: Sequence[TextClassifier]) -> None:
        """Stack the parameters.

        Args:
            models: classifiers of one shape, whose cell has a `StepLoop`.
        """
        first = models[0]
        loop = first.recurrent.cell.loop
        if loop is None:
            raise ValueError(
                f"The cell '{first.config.cell}' has no StepLoop, so its models cannot be batched. "
                "Train them one by one."
            )
        self._models, self.stacks = tuple(models), StackedParameters(models)
        self.adds_wide = first.config.wide == "add"
        device = first.embedding.device
        on_gpu = device.type == "cuda"
        size, dtype = first.config.hidden_size, first.embedding.dtype
        spans = len(models) > 1  # of the documents of each trial, see `run_loop_layers`
        fused = persistent_loop(first.recurrent.cell, size, dtype, device, spans=spans)
        graphed = on_gpu and fused is None
        self._loop: StepLoop = fused or (GraphedLoop(loop) if graphed else loop)
        self.step_multiple = STEP_MULTIPLE if graphed else 1
        self.batch_multiple = BATCH_MULTIPLE if graphed else 1
        words = len(first.embedding)
        self._first_rows = torch.arange(len(models), device=device)[:, None, None] * words
        generators = [model.generator for model in models]
        configs = [model.config for model in models]

        def dropout(rates: list[float], *, scaled: bool = True) -> PackedDropout:
            return PackedDropout(rates, generators, device, scaled=scaled)

        self._word_dropout = dropout([own.word_dropout for own in configs], scaled=False)
        self._embedding_dropout = dropout([own.of_embedding for own in configs])
        self._layer_dropout = dropout([own.between_layers for own in configs])
        self._dropout = dropout([own.dropout for own in configs])

    def forward(self, batch: PackedBatch, *, training: bool) -> Tensor:
        """Classify a batch of each model.

        Args:
            batch: the documents.
            training: whether values are dropped.

        Returns:
            (N, B) logits of class 1 for two classes, otherwise (N, B, C); finite but unspecified
            in missing columns.
        """
        tensors, config = self.stacks.tensors, self._models[0].config
        table = tensors["embedding"]
        embedded = functional.embedding(batch.ids + self._first_rows, table.flatten(0, 1))
        if training:
            embedded = self._drop_embedded(embedded, batch)
        mask = batch.mask
        layers = self._run_layers(embedded.transpose(2, 3), mask, batch, training=training)
        readouts = [model.readout for model in self._models]
        features = run_readouts(readouts, self._part(_READOUT), layers, mask, batch)  # (N, B, F)
        if training:
            shapes = [(documents, features.shape[2]) for documents in batch.documents]
            features = self._dropout(features, shapes)
        if config.output_relu:
            features = features.relu()
        weight, bias = tensors["output_weight"], tensors["output_bias"]
        logits = torch.baddbmm(bias[:, None], features, weight.transpose(1, 2))
        logits = logits.float() if logits.dtype.itemsize == 2 else logits
        if self.adds_wide and batch.wide is not None:
            logits = logits + tensors["wide_scale"][:, :, None] * batch.wide
        return logits.squeeze(2) if self._models[0].num_classes == 2 else logits

    def clear_padding_gradient(self) -> None:
        """Set the gradient of the vector of padding to zero, as in a single classifier."""
        grad = self.stacks.tensors["embedding"].grad
        if grad is not None:
            grad[:, PAD] = 0

    def _part(self, prefix: str) -> dict[str, Tensor]:
        """Return the stacked parameters of a part of the model by their names in this part."""
        tensors = self.stacks.tensors
        return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

    def _run_layers(
        self, inputs: Tensor, mask: Tensor, batch: PackedBatch, *, training: bool
    ) -> list[Tensor]:
        """Return the states of each layer, (N, T, D * H, B)."""
        stack = self._models[0].recurrent
        states: list[Tensor] = []
        for layer in stack.layer_weights(self._part(_RECURRENT)):
            if states:
                inputs = self._drop_states(states[-1], batch) if training else states[-1]
            # As in a single classifier, the loops compute in the type of the weights.
            with torch.autocast(inputs.device.type, enabled=False):
                inputs = inputs.to(layer[0].weight_ih.dtype)
                weights = arrange_stacked(self._loop, layer)
                states.append(run_loop_layers(self._loop, inputs, mask, weights))
        return states

    def _drop_embedded(self, embedded: Tensor, batch: PackedBatch) -> Tensor:
        """Drop words and values of word vectors, (N, T, B, E)."""
        sizes = list(zip(batch.longest, batch.documents, strict=True))
        if self._word_dropout.active:
            kept = self._word_dropout(embedded.new_ones(embedded.shape[:3]), sizes)
            embedded = embedded * kept[..., None]
        return self._embedding_dropout(embedded, [(*own, embedded.shape[3]) for own in sizes])

    def _drop_states(self, states: Tensor, batch: PackedBatch) -> Tensor:
        shapes = [
            (steps, states.shape[2], documents)
            for steps, documents in zip(batch.longest, batch.documents, strict=True)
        ]
        return self._layer_dropout(states, shapes)


def arrange_stacked(loop: StepLoop, weights: Sequence[LayerWeights]) -> LoopWeights:
    """Arrange the weights of N models for a loop over N * D rows.

    Args:
        loop: the loop.
        weights: the weights of each direction, each (N, ...).
    """
    fields = [[values for values in direction if values is not None] for direction in weights]
    count = len(fields[0])
    has_bias = False

    def arrange(*tensors: Tensor) -> tuple[Tensor, ...]:
        nonlocal has_bias
        by_direction = [tensors[first : first + count] for first in range(0, len(tensors), count)]
        arranged = loop.arrange(
            [
                LayerWeights(*own, *[None] * (len(LayerWeights._fields) - count))
                for own in by_direction
            ]
        )
        has_bias = arranged.input_bias is not None
        biases = () if arranged.input_bias is None else (arranged.input_bias,)
        return arranged.input_weight, *biases, *arranged.recurrent

    flat = [values for direction in fields for values in direction]
    rows = [values.flatten(0, 1) for values in torch.func.vmap(arrange)(*flat)]
    return LoopWeights(rows[0], rows[1] if has_bias else None, tuple(rows[1 + has_bias :]))
