"""An optimizer's steps on the rows of the embedding that a batch uses, with the dense result.

Shapes: V words, E embedding, U words of a batch, T time, B batch.

A batch of IMDB holds some 3,000 of 25,000 words. Dense Adam reads and writes four arrays of V * E
values a step, which takes longer than a small recurrent layer does. Here a row is updated when a
batch uses it, after all the steps that it missed have been made up for at once (in closed form for
SGD, by a series for Adam, see ``rows.cpp``). The result is dense Adam's up to rounding: a
missed step isn't left out, as in torch's SparseAdam, which is another algorithm.
"""

from __future__ import annotations

import ctypes

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from celltune.data_prep.dataset.tensorized import PAD
from celltune.models.native import library as native

_NUMBERS = ("count", "width", "now", "threads", "adam")
_POINTERS = ("rows", "last", "values", "first", "second", "grad", "sizes", "scales")
_RATES = ("beta1", "beta2", "eps")


class _Rows(ctypes.Structure):
    """``Rows`` of ``rows.cpp``, field by field."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in _NUMBERS),
        *((name, ctypes.c_void_p) for name in _POINTERS),
        *((name, ctypes.c_double) for name in _RATES),
    )


def can_update_rows(table: Tensor, optimizer: torch.optim.Optimizer) -> bool:
    """Whether ``LazyRowUpdates`` can take this table: learned, on the CPU, without weight decay."""
    decays = any(group["weight_decay"] for group in optimizer.param_groups)
    return table.requires_grad and not decays and native.usable(table)


class LazyRowUpdates:
    """Takes one parameter out of a dense optimizer's hands. Not thread-safe.

    Its moments stand in ``optimizer.state`` under the names that the dense optimizer gives them.
    Invariant: between ``settle`` and the next ``gather``, table and moments are the dense ones.
    """

    def __init__(self, table: nn.Parameter, optimizer: torch.optim.Optimizer) -> None:
        """Start with every row up to date.

        Args:
            table: (V, E), for which ``can_update_rows``; nobody else may give it a gradient.
            optimizer: torch's Adam or SGD, over ``table`` among others, all in one group.
        """
        self._table, self._optimizer = table, optimizer
        self._group = optimizer.param_groups[0]
        self._adam = isinstance(optimizer, torch.optim.Adam)
        self._sizes: NDArray[np.float64] = np.zeros(0)
        self._scales: NDArray[np.float64] = np.zeros(0)
        self._mask = torch.zeros(len(table), dtype=torch.bool)
        self._places = torch.zeros(len(table), dtype=torch.int64)
        self._rows = self._places[:0]
        self._used: Tensor | None = None
        self.restart()

    def restart(self) -> None:
        """Take up what stands in ``optimizer.state``, after it was loaded."""
        state = self._optimizer.state.get(self._table, {})
        self._now = int(state["step"]) if "step" in state else 0
        self._last = torch.full((len(self._table),), self._now, dtype=torch.int64)

    def gather(self, ids: Tensor) -> tuple[Tensor, Tensor, int | None]:
        """Bring the rows of a batch up to date and copy them.

        Args:
            ids: (T, B) int64 in [0, V).

        Returns:
            (U, E), a leaf whose gradient ``step`` will use; (T, B), where in it each word stands;
            and where in it padding stands, None if nowhere.
        """
        self._mask.zero_()
        self._mask[ids.flatten()] = True
        self._rows = self._mask.nonzero().squeeze(1)
        self._call("catch_up", self._rows)
        self._places[self._rows] = torch.arange(len(self._rows))
        self._used = self._table.detach()[self._rows].requires_grad_()
        padding = int(self._places[PAD]) if self._mask[PAD] else None
        return self._used, self._places[ids], padding

    def step(self) -> None:
        """Update the rows of the last ``gather`` with the gradient that they were given."""
        if self._used is None or self._used.grad is None:
            raise RuntimeError(
                "step was called without a gradient: call gather and backward before."
            )
        self._call("step_rows", self._rows, self._used.grad.contiguous())
        self._now += 1
        if self._adam:
            self._state()["step"].fill_(self._now)
        self._used = None

    def settle(self) -> None:
        """Bring all rows up to date, so that the table is what a dense optimizer would have."""
        self._call("catch_up", torch.arange(len(self._table)))

    def _state(self) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self._optimizer.state[self._table]
        if self._adam and not state:
            state["step"] = torch.zeros(())
            state["exp_avg"] = torch.zeros_like(self._table)
            state["exp_avg_sq"] = torch.zeros_like(self._table)
        if not self._adam and self._group["momentum"] and "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(self._table)
        return state

    def _call(self, name: str, rows: Tensor, grad: Tensor | None = None) -> None:
        self._extend()
        state = self._state()
        first = state.get("exp_avg" if self._adam else "momentum_buffer")
        second = state.get("exp_avg_sq")
        group = self._group
        rates = (*group["betas"], group["eps"]) if self._adam else (group["momentum"], 0.0, 0.0)
        tensors = (rows, self._last, self._table, first, second, grad)
        pointers = [None if values is None else values.data_ptr() for values in tensors]
        tables = (self._sizes.ctypes.data, self._scales.ctypes.data)
        numbers = (len(rows), self._table.shape[1], self._now, torch.get_num_threads(), self._adam)
        job = _Rows(*numbers, *pointers, *tables, *rates)
        if native.function(name, self._table.dtype)(ctypes.byref(job)) != 0:
            raise MemoryError(
                f"The optimizer's pass {name!r} over {len(rows)} words got no memory. "
                "Free some, or take a smaller vocabulary."
            )

    def _extend(self) -> None:
        """Have the step sizes and scales of all steps up to the next one."""
        if len(self._sizes) >= self._now + 2:
            return
        steps = np.arange(2 * self._now + 1024, dtype=np.float64)
        rate = self._group["lr"]
        if not self._adam:
            self._sizes = np.full_like(steps, rate)
            self._scales = self._sizes
            return
        steps[0] = 1  # no step has the number 0
        one, two = self._group["betas"]
        with np.errstate(under="ignore"):
            self._sizes = rate / (1 - one**steps)
            self._scales = 1 / np.sqrt(1 - two**steps)
