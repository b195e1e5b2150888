"""The built-in readouts for several models at once; other readouts run model by model.

Shapes: N models, T time, B batch, H hidden, S state features, F readout features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional

from celltune.models.network.readout import (
    FinalReadout,
    LastTwoLayersReadout,
    MaxMeanReadout,
    MaxReadout,
    MeanReadout,
    Readout,
)
from celltune.models.packed.batches import PackedBatch


def run_readouts(
    readouts: Sequence[Readout],
    parameters: Mapping[str, Tensor],
    layers: Sequence[Tensor],
    mask: Tensor,
    batch: PackedBatch,
) -> Tensor:
    """Compute the features of each document.

    Args:
        readouts: the readout of each model, all of one class.
        parameters: their parameters, (N, ...).
        layers: (N, T, S, B) for each layer.
        mask: (N, T, 1, B) bool, False at padding.
        batch: the documents.

    Returns:
        (N, B, F); unspecified but finite in missing columns.
    """
    kind, size = type(readouts[0]), readouts[0].hidden_size
    if kind is FinalReadout:
        return _final(layers[-1], batch.lengths, size)
    if kind is LastTwoLayersReadout:
        return torch.cat([_final(states, batch.lengths, size) for states in layers[-2:]], dim=2)
    if kind is MeanReadout:
        return _mean(layers[-1], mask, batch)
    if kind is MaxReadout:
        return _maximum(layers[-1], mask)
    if kind is MaxMeanReadout:
        return torch.cat([_maximum(layers[-1], mask), _mean(layers[-1], mask, batch)], dim=2)
    return _one_by_one(readouts, parameters, layers, batch)


def _mean(states: Tensor, mask: Tensor, batch: PackedBatch) -> Tensor:
    total = states.masked_fill(~mask, 0).sum(1)
    return (total / batch.lengths[:, None]).transpose(1, 2)


def _maximum(states: Tensor, mask: Tensor) -> Tensor:
    return states.masked_fill(~mask, -torch.inf).max(dim=1).values.transpose(1, 2)


def _final(states: Tensor, lengths: Tensor, hidden_size: int) -> Tensor:
    """Return the state of each direction after the whole document, (N, B, S)."""
    forwards = states[:, :, :hidden_size]
    last = (lengths - 1)[:, None, None].expand(-1, 1, hidden_size, -1)
    final = forwards.gather(1, last).squeeze(1)  # (N, H, B)
    if states.shape[2] > hidden_size:
        final = torch.cat([final, states[:, 0, hidden_size:]], dim=1)
    return final.transpose(1, 2)


def _one_by_one(
    readouts: Sequence[Readout],
    parameters: Mapping[str, Tensor],
    layers: Sequence[Tensor],
    batch: PackedBatch,
) -> Tensor:
    """Run each readout on exactly the tensors of its single run."""
    rows = {name: values.unbind(0) for name, values in parameters.items()}
    width, features = batch.sizes.shape[1], []
    for model, readout in enumerate(readouts):
        documents, steps = max(1, batch.documents[model]), max(1, batch.longest[model])
        lengths = batch.lengths[model, :documents]
        times = torch.arange(steps, device=lengths.device)[:, None]
        states = [layer[model, :steps, :, :documents] for layer in layers]
        own = {name: values[model] for name, values in rows.items()}
        mask = (times < lengths)[:, None]
        found = functional_call(readout, own, (states, lengths, mask))  # (documents, F)
        features.append(functional.pad(found, (0, 0, 0, width - documents)))
    return torch.stack(features)
