"""Lazy row updates give the table of a dense optimizer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from celltune.models.native import library as native
from celltune.models.training.averages import WeightAverage, average_decays
from celltune.models.training.lazy_rows import LazyRowUpdates, supports_row_updates

pytestmark = pytest.mark.skipif(not native.available(), reason="no C++ compiler")
WORDS, WIDTH = 7, 70

OPTIMIZERS: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "adam": (torch.optim.Adam, {"lr": 0.01}),
    "adam with other betas": (torch.optim.Adam, {"lr": 0.01, "betas": (0.8, 0.95)}),
    "sgd": (torch.optim.SGD, {"lr": 0.1}),
    "sgd with momentum": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
}


class Pair:
    """Two copies of a table, with lazy row updates and with a dense optimizer."""

    def __init__(self, name: str, dtype: torch.dtype) -> None:
        kind, settings = OPTIMIZERS[name]
        self.generator = torch.Generator().manual_seed(5)
        start = torch.randn(WORDS, WIDTH, dtype=dtype, generator=self.generator)
        self.lazy, self.dense = nn.Parameter(start.clone()), nn.Parameter(start.clone())
        self.optimizers = [kind([self.lazy], **settings), kind([self.dense], **settings)]
        self.rows = LazyRowUpdates(self.lazy, self.optimizers[0])

    def step(self, words: list[int]) -> None:
        ids = torch.tensor([words])
        table, indices, _ = self.rows.gather(ids)
        torch.testing.assert_close(table[indices], self.dense[ids], rtol=0, atol=5e-6)
        scale = torch.rand(len(table), WIDTH, generator=self.generator)
        table.grad = (10 ** (-8 * scale)).to(table.dtype)
        self.dense.grad = torch.zeros_like(self.dense)
        self.dense.grad[ids.unique()] = table.grad
        self.rows.step()
        self.optimizers[1].step()

    def states(self) -> list[dict[str, Tensor]]:
        self.rows.flush()
        return [
            {"table": table.detach(), **optimizer.state[table]}
            for table, optimizer in zip((self.lazy, self.dense), self.optimizers, strict=True)
        ]


@pytest.mark.parametrize("name", OPTIMIZERS)
@settings(max_examples=15, deadline=None)
@given(batches=st.lists(st.lists(st.integers(0, WORDS - 1), min_size=1, max_size=3), max_size=40))
def test_lazy_updates_equal_dense_updates(name: str, batches: list[list[int]]) -> None:
    pair = Pair(name, torch.float64)
    for words in batches:
        pair.step(words)
    if not batches:
        return
    lazy, dense = pair.states()
    for key, value in lazy.items():
        torch.testing.assert_close(value, dense[key], rtol=1e-9, atol=1e-6, check_dtype=False)


class Table(nn.Module):
    """A model that is one table."""

    def __init__(self, table: nn.Parameter) -> None:
        super().__init__()
        self.table = table


@pytest.mark.parametrize("varying", [False, True])
@pytest.mark.parametrize("gap", [1, 30, 300, 1100])
def test_average_of_a_row_that_missed_many_steps_is_brought_up_to_date(
    gap: int, varying: bool
) -> None:
    pair, limit, steps = Pair("adam", torch.float64), 0.99, gap + 4
    average = WeightAverage(Table(pair.lazy), limit)
    pair.rows = LazyRowUpdates(pair.lazy, pair.optimizers[0], average)
    rates = np.linspace(0.01, 0.001, steps) if varying else np.full(steps, 0.01)
    if varying:
        pair.rows.schedule(rates)
    average.begin()
    decays = average_decays(limit, np.arange(1.0, steps + 1))
    expected = pair.dense.detach().clone()
    batches = [[1], [3], [1], *[[2]] * gap, [1]]
    for words, rate, decay in zip(batches, rates, decays, strict=True):
        for optimizer in pair.optimizers:
            optimizer.param_groups[0]["lr"] = rate
        pair.step(words)
        average.update()
        expected = decay * expected + (1 - decay) * pair.dense.detach()
    pair.rows.flush()
    average.end()
    torch.testing.assert_close(pair.lazy.detach(), expected, rtol=0, atol=1e-7)
    torch.testing.assert_close(average.others["table"], pair.dense.detach(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("gap", [1, 30, 300, 1100])
def test_row_that_missed_many_steps_is_brought_up_to_date(gap: int) -> None:
    pair = Pair("adam", torch.float64)
    for words in ([1], *[[2]] * gap, [1]):
        pair.step(words)
    lazy, dense = pair.states()
    torch.testing.assert_close(lazy["table"], dense["table"], rtol=0, atol=1e-6)


def test_float32_agrees_up_to_rounding() -> None:
    pair = Pair("adam", torch.float32)
    for step in range(60):
        pair.step([step % 3, step % 5])
    lazy, dense = pair.states()
    torch.testing.assert_close(lazy["table"], dense["table"], rtol=1e-6, atol=5e-6)


def test_gather_returns_the_row_of_padding() -> None:
    rows = Pair("adam", torch.float32).rows
    table, indices, padding = rows.gather(torch.tensor([[5, 1], [3, 1]]))
    assert padding is not None
    assert (indices == padding).tolist() == [[False, True], [False, True]]
    assert table.shape == (3, WIDTH)
    assert rows.gather(torch.tensor([[5, 3]]))[2] is None


def test_step_needs_a_gradient() -> None:
    with pytest.raises(RuntimeError, match="call gather and backward before"):
        Pair("adam", torch.float32).rows.step()


def test_lazy_updates_are_used_only_where_they_equal_dense_updates() -> None:
    table = nn.Parameter(torch.zeros(3, 2))
    assert supports_row_updates(table, torch.optim.Adam([table]))
    assert not supports_row_updates(table, torch.optim.Adam([table], weight_decay=0.1))
    assert not supports_row_updates(nn.Parameter(table, False), torch.optim.Adam([table]))
    with native.disabled():
        assert not supports_row_updates(table, torch.optim.Adam([table]))
