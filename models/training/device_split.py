"""A split that lies on a GPU as a whole; batches are cut there.

Shapes: N tokens of all reviews, T time, B batch.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from celltune.data_prep.dataset.tensorized import PAD, TensorizedSplit


class DeviceSplit:
    """The reviews of a part on a device. What goes there a batch are B places and lengths.

    IMDB's 25,000 training reviews take 26 MB in 32-bit ids; sent batch by batch they would be
    padded, in 64 bits, and sent again each epoch.
    """

    def __init__(self, split: TensorizedSplit, device: torch.device) -> None:
        """Copies the split.

        Args:
            split: what to cut batches of.
            device: where it shall lie.
        """
        self._split, self._device = split, device
        # torch would warn of the shared store's read-only arrays, so it gets a copy.
        self._ids = torch.tensor(split.ids).to(device)  # (N,) int32
        self._labels = torch.tensor(split.labels).to(device)  # (n,)

    def batch(self, chosen: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
        """The batch of some reviews, equal to what ``data_prep.batching`` cuts on the CPU.

        Args:
            chosen: (B,) the reviews by number.

        Returns:
            (T, B) int64 ids, time first and padded at the end, (B,) lengths, on the CPU, where a
            look at them doesn't wait for a GPU, and (B,) labels.
        """
        starts = self._split.offsets[chosen]
        sizes = self._split.offsets[chosen + 1] - starts
        longest = int(sizes.max())
        on_cpu = torch.from_numpy(np.stack([chosen, starts, sizes]))  # (3, B)
        places = on_cpu.to(self._device, non_blocking=True)
        steps = torch.arange(longest, device=self._device)[:, None]  # (T, 1)
        # Behind a review's end this reads its neighbours, and the padding is written over them.
        at = (places[1] + steps).clamp_(max=len(self._ids) - 1)  # (T, B)
        ids = self._ids[at].long().masked_fill_(steps >= places[2], PAD)
        return ids, torch.from_numpy(sizes), self._labels[places[0]]
