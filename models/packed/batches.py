"""The batches of several trials in lockstep: batch i contains batch i of each trial.

Shapes: N trials, S steps of an epoch, T time (the longest document of all N batches), B batch (the
largest of the N batches), L = 1 for two classes and C for C > 2.

The order of documents differs between trials, so their batches have different lengths and, at the
end of an epoch or with a token budget, different sizes. Shorter documents are padded, and missing
columns contain one word of padding and do not count. A trial with fewer batches than another one
has only missing columns in the remaining steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from celltune.data_prep.dataset.batching import DocumentIndices
from celltune.data_prep.dataset.tensorized import PAD
from celltune.models.training.device_split import DeviceSplit


@dataclass(frozen=True)
class PackedBatch:
    """One batch of each trial, on the device. The tuples are on the CPU, where nothing waits."""

    ids: Tensor
    """(N, T, B) int64, `PAD` after the end of a document and in missing columns."""
    sizes: Tensor
    """(N, B) number of tokens; 0 in missing columns."""
    labels: Tensor
    """(N, B); arbitrary in missing columns."""
    documents: tuple[int, ...]
    """Documents of each trial; 0 if it has completed its epoch."""
    longest: tuple[int, ...]
    """Tokens of the longest document of each trial."""
    wide: Tensor | None
    """(N, B, L) outputs of the wide part, if the split has them; arbitrary in missing
    columns."""

    @property
    def present(self) -> Tensor:
        """(N, B) bool, False in missing columns."""
        return self.sizes > 0

    @property
    def lengths(self) -> Tensor:
        """(N, B), at least 1: a missing column counts as a document of one word."""
        return self.sizes.clamp(min=1)

    @property
    def mask(self) -> Tensor:
        """(N, T, 1, B) bool, False at padding."""
        times = torch.arange(self.ids.shape[1], device=self.ids.device)[:, None]
        return (times < self.lengths[:, None])[:, :, None]

    def repeated(self, trials: int) -> PackedBatch:
        """Return this batch of one trial as the batch of several trials."""
        return PackedBatch(
            self.ids.expand(trials, -1, -1),
            self.sizes.expand(trials, -1),
            self.labels.expand(trials, -1),
            self.documents * trials,
            self.longest * trials,
            None if self.wide is None else self.wide.expand(trials, -1, -1),
        )


class PackedPlans:
    """The batches of an epoch. Positions of all documents are transferred once, at the start."""

    def __init__(
        self,
        split: DeviceSplit,
        plans: Sequence[Sequence[DocumentIndices]],
        *,
        step_multiple: int = 1,
        batch_multiple: int = 1,
    ) -> None:
        """Lay out the plans and transfer them.

        Args:
            split: the documents.
            plans: the batches of each trial.
            step_multiple: T is rounded up to a multiple of this.
            batch_multiple: B is rounded up to a multiple of this.
        """
        self._split, self._step_multiple = split, step_multiple
        documents, present = _lay_out(plans, batch_multiple)
        sizes = np.where(present, split.split.lengths[documents], 0)
        starts = split.split.offsets[documents]
        table = torch.from_numpy(np.stack([documents, starts, sizes], axis=1))  # (S, 3, N, B)
        self._positions = table.to(split.device, non_blocking=True)
        self._documents = present.sum(2).tolist()
        self._longest = sizes.max(2).tolist()

    def __len__(self) -> int:
        """Return the number of batches, S."""
        return len(self._documents)

    def __iter__(self) -> Iterator[PackedBatch]:
        """Yield the batches, each assembled on the device."""
        for documents, longest, positions in zip(
            self._documents, self._longest, self._positions, strict=True
        ):
            steps = -(-max(longest) // self._step_multiple) * self._step_multiple
            indices, starts, sizes = positions.unbind(0)
            times = torch.arange(steps, device=sizes.device)[:, None]  # (T, 1)
            # After the end of a document this reads its neighbours; padding overwrites them.
            last = len(self._split.ids) - 1
            tokens_at = (starts[:, None] + times).clamp_(max=last)  # (N, T, B)
            ids = self._split.ids[tokens_at].long().masked_fill_(times >= sizes[:, None], PAD)
            yield PackedBatch(
                ids,
                sizes,
                self._split.labels[indices],
                tuple(documents),
                tuple(longest),
                None if self._split.wide is None else self._split.wide[indices],
            )


def _lay_out(
    plans: Sequence[Sequence[DocumentIndices]], batch_multiple: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return (S, N, B) documents, 0 where there is none, and whether there is one."""
    largest = max(len(batch) for plan in plans for batch in plan)
    width = -(-largest // batch_multiple) * batch_multiple
    shape = (max(map(len, plans)), len(plans), width)
    documents, present = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.bool_)
    for trial, plan in enumerate(plans):
        for step, batch in enumerate(plan):
            documents[step, trial, : len(batch)] = batch
            present[step, trial, : len(batch)] = True
    return documents, present
