"""Batches on the device that trains, and splits that are stored there.

The batches of a split that is stored on a GPU are assembled on the GPU.

Shapes: N tokens of all documents, T time, B batch, L = 1 for two classes, otherwise their number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from celltune.data_prep.dataset.batching import DocumentIndices, cut_batch
from celltune.data_prep.dataset.tensorized import PAD, TensorizedSplit


class BatchTensors(NamedTuple):
    """A batch on the device that trains."""

    ids: Tensor
    """(T, B) int64, padded at the end."""
    lengths: Tensor
    """(B,) on the CPU, where reading them does not wait for a GPU."""
    labels: Tensor
    """(B,)."""
    wide: Tensor | None
    """(B, L) float32, outputs of the wide part, if the split has them."""


class DeviceSplit:
    """The documents of a split on a device. A batch transfers only B positions and lengths.

    The 25,000 training documents of IMDB have 26 MB in 32-bit ids. Batches from the CPU would be
    padded, have 64-bit ids, and would be transferred again in each epoch.

    Attributes:
        split: the documents in the memory of the CPU.
        device: where they are stored.
        ids: (N,) int32, all tokens.
        labels: (n,), of each document.
        wide: (n, L) outputs of the wide part, if the split has them.
    """

    def __init__(self, split: TensorizedSplit, device: torch.device) -> None:
        """Copy the split to the device.

        Args:
            split: the documents.
            device: the device that trains.
        """
        self.split, self.device = split, device
        # torch.from_numpy warns about the read-only arrays of Ray's object store, so copy them.
        self.ids = torch.tensor(split.ids).to(device)  # (N,) int32
        self.labels = torch.tensor(split.labels).to(device)  # (n,)
        self.wide = None if split.wide is None else torch.tensor(split.wide).to(device)  # (n, L)

    def batch(self, documents: NDArray[np.int64]) -> BatchTensors:
        """Return a batch, equal to the one that `data_prep.dataset.batching` assembles on the CPU.

        Args:
            documents: (B,) indices of documents.
        """
        starts = self.split.offsets[documents]
        sizes = self.split.offsets[documents + 1] - starts
        longest = int(sizes.max())
        positions = torch.from_numpy(np.stack([documents, starts, sizes]))  # (3, B)
        positions = positions.to(self.device, non_blocking=True)
        steps = torch.arange(longest, device=self.device)[:, None]  # (T, 1)
        # After the end of a document this reads its neighbours; padding overwrites them.
        tokens = (positions[1] + steps).clamp_(max=len(self.ids) - 1)  # (T, B)
        ids = self.ids[tokens].long().masked_fill_(steps >= positions[2], PAD)
        wide = None if self.wide is None else self.wide[positions[0]]
        return BatchTensors(ids, torch.from_numpy(sizes), self.labels[positions[0]], wide)


_SHARED: WeakValueDictionary[tuple[int, torch.device], DeviceSplit] = WeakValueDictionary()


def shared_split(split: TensorizedSplit, device: torch.device) -> DeviceSplit:
    """Return a split on a device; all trainers that use it at the same time share one copy.

    Args:
        split: the documents.
        device: the device that trains.
    """
    key = (id(split), device)  # the id is valid as long as the value, which refers to the split
    stored = _SHARED.get(key)
    if stored is None:
        stored = _SHARED[key] = DeviceSplit(split, device)
    return stored


class Batches:
    """Yields the batches of splits on the device that trains."""

    def __init__(self, device: torch.device, stored: Sequence[TensorizedSplit]) -> None:
        """Copy splits to the device.

        Args:
            device: the device that trains.
            stored: the splits whose batches are assembled on the device; others on the CPU.
        """
        self._device = device
        self._stored = {id(split): shared_split(split, device) for split in stored}

    def of(self, split: TensorizedSplit, plan: Iterable[DocumentIndices]) -> Iterator[BatchTensors]:
        """Yield batches.

        Args:
            split: the documents.
            plan: the documents of each batch.
        """
        on_device = self._stored.get(id(split))
        if on_device is not None:
            yield from map(on_device.batch, plan)
            return
        for documents in plan:
            batch = cut_batch(split, documents)
            yield BatchTensors(
                self._transfer(batch.ids),
                torch.from_numpy(batch.lengths),
                self._transfer(batch.labels),
                None if batch.wide is None else self._transfer(batch.wide),
            )

    def _transfer(self, values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(values).to(self._device, non_blocking=True)
