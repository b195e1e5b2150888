"""Optimizer steps only for the embedding rows that a batch uses, with the result of dense steps.

Shapes: V words, E embedding, U distinct words of a batch, T time, B batch.

A batch of IMDB contains some 3,000 of 25,000 words. Dense Adam reads and writes four arrays of
V * E values per step, which takes longer than a small recurrent layer. Here a row is updated when
a batch uses it, after the steps that it missed have been applied at once (in closed form for SGD,
by a series for Adam, see `rows.cpp`). The result equals dense Adam up to rounding. In contrast,
`torch.optim.SparseAdam` skips missed steps and is a different algorithm.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from celltune.data_prep.dataset.tensorized import PAD
from celltune.models.native import library as native
from celltune.models.training.averages import WeightAverage, average_decays

_NUMBERS = ("count", "width", "now", "threads", "adam")
_POINTERS = ("rows", "last", "values", "first", "second", "offsets", "grad")
_TABLES = ("sizes", "scales", "logs")
_RATES = ("beta1", "beta2", "eps")


class _Rows(ctypes.Structure):
    """The struct `Rows` of `rows.cpp`."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in _NUMBERS),
        *((name, ctypes.c_void_p) for name in (*_POINTERS, *_TABLES)),
        *((name, ctypes.c_double) for name in _RATES),
    )


def supports_row_updates(
    table: Tensor, optimizer: torch.optim.Optimizer, *, plain: bool = True
) -> bool:
    """Return whether `LazyRowUpdates` works: a trainable table on the CPU, without weight decay.

    Args:
        table: the table.
        optimizer: `torch.optim.Adam`, `AdamW` or `SGD`.
        plain: whether the learning rate is constant and no average is computed, which SGD needs.
    """
    if not table.requires_grad or not native.supports(table):
        return False
    return not _group_of(table, optimizer)["weight_decay"] and (plain or is_adam(optimizer))


def is_adam(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether an optimizer is Adam or AdamW, which differ only in the weight decay."""
    return isinstance(optimizer, (torch.optim.Adam, torch.optim.AdamW))


def _group_of(table: Tensor, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    groups = optimizer.param_groups
    return next(g for g in groups if any(values is table for values in g["params"]))


class LazyRowUpdates:
    """Updates one parameter in place of a dense optimizer. Not thread-safe.

    The moments are stored in `optimizer.state` under the names of the dense optimizer. Invariant:
    between `flush` and the next `gather`, table and moments equal those of the dense optimizer.
    """

    def __init__(
        self,
        table: nn.Parameter,
        optimizer: torch.optim.Optimizer,
        average: WeightAverage | None = None,
    ) -> None:
        """Start with every row up to date.

        Args:
            table: (V, E), a table for which `supports_row_updates` is true. Its own gradient must
                always be None, so that the optimizer skips it.
            optimizer: `torch.optim.Adam`, `AdamW` or `SGD`, without weight decay of `table`.
            average: a moving average, whose part for `table` is updated here; only with Adam.
        """
        self._table, self._optimizer = table, optimizer
        self._group = _group_of(table, optimizer)
        self._adam = is_adam(optimizer)
        self._average = average
        self._offsets = None if average is None else average.delay(table)
        self._sizes: NDArray[np.float64] = np.zeros(0)
        self._scales: NDArray[np.float64] = np.zeros(0)
        self._logs: NDArray[np.float64] = np.zeros(0)
        self._mask = torch.zeros(len(table), dtype=torch.bool)
        self._indices = torch.zeros(len(table), dtype=torch.int64)
        self._rows = self._indices[:0]
        self._gathered: Tensor | None = None
        self.reload()

    def reload(self) -> None:
        """Continue from the values that were loaded into the table and `optimizer.state`."""
        state = self._optimizer.state.get(self._table, {})
        self._step = int(state["step"]) if "step" in state else 0
        self._last_step = torch.full((len(self._table),), self._step, dtype=torch.int64)

    def gather(self, ids: Tensor) -> tuple[Tensor, Tensor, int | None]:
        """Bring the rows of a batch up to date and copy them.

        Args:
            ids: (T, B) int64 in [0, V).

        Returns:
            The rows (U, E), a leaf tensor whose gradient `step` uses; (T, B), the row of each
            word; and the row of padding, or None if there is none.
        """
        self._mask.zero_()
        self._mask[ids.flatten()] = True
        self._rows = self._mask.nonzero().squeeze(1)
        self._call("catch_up", self._rows)
        self._indices[self._rows] = torch.arange(len(self._rows))
        self._gathered = self._table.detach()[self._rows].requires_grad_()
        padding = int(self._indices[PAD]) if self._mask[PAD] else None
        return self._gathered, self._indices[ids], padding

    def step(self) -> None:
        """Update the rows of the last `gather` with their gradient."""
        if self._gathered is None or self._gathered.grad is None:
            raise RuntimeError(
                "LazyRowUpdates.step needs a gradient: call gather and backward before it."
            )
        self._call("step_rows", self._rows, self._gathered.grad.contiguous())
        self._step += 1
        if self._adam:
            self._moments()["step"].fill_(self._step)
        self._gathered = None

    def flush(self) -> None:
        """Bring all rows up to date, so that the table equals that of a dense optimizer."""
        self._call("catch_up", torch.arange(len(self._table)))

    def _moments(self) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self._optimizer.state[self._table]
        if self._adam and not state:
            state["step"] = torch.zeros(())
            state["exp_avg"] = torch.zeros_like(self._table)
            state["exp_avg_sq"] = torch.zeros_like(self._table)
        if not self._adam and self._group["momentum"] and "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(self._table)
        return state

    def _call(self, name: str, rows: Tensor, grad: Tensor | None = None) -> None:
        self._extend_step_sizes()
        state = self._moments()
        first = state.get("exp_avg" if self._adam else "momentum_buffer")
        second = state.get("exp_avg_sq")
        group = self._group
        rates = (*group["betas"], group["eps"]) if self._adam else (group["momentum"], 0.0, 0.0)
        tensors = (rows, self._last_step, self._table, first, second, self._offsets, grad)
        pointers = [None if values is None else values.data_ptr() for values in tensors]
        tables = [values.ctypes.data for values in (self._sizes, self._scales, self._logs)]
        numbers = (len(rows), self._table.shape[1], self._step, torch.get_num_threads(), self._adam)
        job = _Rows(*numbers, *pointers, *tables, *rates)
        if native.function(name, self._table.dtype)(ctypes.byref(job)) != 0:
            raise MemoryError(
                f"The optimizer cannot allocate its temporary memory for {len(rows)} words. "
                "Reduce data.vocabulary_size."
            )

    def _extend_step_sizes(self) -> None:
        """Compute the step sizes and scales of all steps up to the next one, and some more."""
        if len(self._sizes) >= self._step + 2:
            return
        self._compute_step_sizes(np.full(2 * self._step + 1024, self._group["lr"]))

    def schedule(self, rates: NDArray[np.float64]) -> None:
        """Set the learning rates of the next steps; without it, all have that of the optimizer.

        Args:
            rates: the learning rate of each step until the next call.
        """
        # A row in the table has missed no step before the last `flush`, so all sizes are new.
        self._compute_step_sizes(np.concatenate([np.zeros(self._step + 1), rates, rates[-1:]]))

    def _compute_step_sizes(self, rates: NDArray[np.float64]) -> None:
        """Compute the step sizes and scales from the learning rates of steps 0, 1 and so on."""
        steps = np.arange(len(rates), dtype=np.float64)
        if not self._adam:
            self._sizes = self._scales = rates
            return
        steps[0] = 1  # avoids a division by zero; steps are numbered from 1
        beta1, beta2 = self._group["betas"]
        with np.errstate(under="ignore"):
            self._sizes = rates / (1 - beta1**steps)
            self._scales = 1 / np.sqrt(1 - beta2**steps)
        if self._average is not None:
            self._logs = np.cumsum(np.log(average_decays(self._average.decay, steps)))
