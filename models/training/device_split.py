"""A split that is stored on a GPU; its batches are assembled on the GPU.

Shapes: N tokens of all documents, T time, B batch.
"""

from __future__ import annotations

from weakref import WeakValueDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from celltune.data_prep.dataset.tensorized import PAD, TensorizedSplit


class DeviceSplit:
    """The documents of a split on a device. A batch transfers only B positions and lengths.

    The 25,000 training documents of IMDB have 26 MB in 32-bit ids. Batches from the CPU would be
    padded, have 64-bit ids, and would be transferred again in each epoch.

    Attributes:
        split: the documents in the memory of the CPU.
        device: where they are stored.
        ids: (N,) int32, all tokens.
        labels: (n,), of each document.
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

    def batch(self, documents: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
        """Return a batch, equal to the one that `data_prep.dataset.batching` assembles on the CPU.

        Args:
            documents: (B,) indices of documents.

        Returns:
            (T, B) int64 ids, padded at the end, (B,) lengths, and (B,) labels. The lengths are on
            the CPU, where reading them does not wait for a GPU.
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
        return ids, torch.from_numpy(sizes), self.labels[positions[0]]


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
