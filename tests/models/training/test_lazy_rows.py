"""Updates by rows give the dense optimizer's table."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from celltune.models.native import library as native
from celltune.models.training.lazy_rows import LazyRowUpdates, can_update_rows

pytestmark = pytest.mark.skipif(not native.available(), reason="no C++ compiler here")
WORDS, WIDTH = 7, 70

OPTIMIZERS: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "adam": (torch.optim.Adam, {"lr": 0.01}),
    "adam with other betas": (torch.optim.Adam, {"lr": 0.01, "betas": (0.8, 0.95)}),
    "sgd": (torch.optim.SGD, {"lr": 0.1}),
    "sgd with momentum": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
}


class Pair:
    """The same table twice: updated by rows, and dense."""

    def __init__(self, name: str, dtype: torch.dtype) -> None:
        kind, settings = OPTIMIZERS[name]
        self.generator = torch.Generator().manual_seed(5)
        start = torch.randn(WORDS, WIDTH, dtype=dtype, generator=self.generator)
        self.ours, self.dense = nn.Parameter(start.clone()), nn.Parameter(start.clone())
        self.optimizers = [kind([self.ours], **settings), kind([self.dense], **settings)]
        self.rows = LazyRowUpdates(self.ours, self.optimizers[0])

    def step(self, words: list[int]) -> None:
        ids = torch.tensor([words])
        table, places, _ = self.rows.gather(ids)
        torch.testing.assert_close(table[places], self.dense[ids], rtol=0, atol=5e-6)
        scale = torch.rand(len(table), WIDTH, generator=self.generator)
        table.grad = (10 ** (-8 * scale)).to(table.dtype)
        self.dense.grad = torch.zeros_like(self.dense)
        self.dense.grad[ids.unique()] = table.grad
        self.rows.step()
        self.optimizers[1].step()

    def states(self) -> list[dict[str, Tensor]]:
        self.rows.settle()
        return [
            {"table": table.detach(), **optimizer.state[table]}
            for table, optimizer in zip((self.ours, self.dense), self.optimizers, strict=True)
        ]


@pytest.mark.parametrize("name", OPTIMIZERS)
@settings(max_examples=15, deadline=None)
@given(batches=st.lists(st.lists(st.integers(0, WORDS - 1), min_size=1, max_size=3), max_size=40))
def test_rows_come_to_the_dense_result(name: str, batches: list[list[int]]) -> None:
    pair = Pair(name, torch.float64)
    for words in batches:
        pair.step(words)
    if not batches:
        return
    ours, dense = pair.states()
    for key, value in ours.items():
        torch.testing.assert_close(value, dense[key], rtol=1e-9, atol=1e-6, check_dtype=False)


@pytest.mark.parametrize("gap", [1, 30, 300, 1100])
def test_a_word_that_was_away_for_long_is_made_up_for(gap: int) -> None:
    pair = Pair("adam", torch.float64)
    for words in ([1], *[[2]] * gap, [1]):
        pair.step(words)
    ours, dense = pair.states()
    torch.testing.assert_close(ours["table"], dense["table"], rtol=0, atol=1e-6)


def test_float32_agrees_to_rounding() -> None:
    pair = Pair("adam", torch.float32)
    for step in range(60):
        pair.step([step % 3, step % 5])
    ours, dense = pair.states()
    torch.testing.assert_close(ours["table"], dense["table"], rtol=1e-6, atol=5e-6)


def test_padding_is_found_where_there_is_some() -> None:
    rows = Pair("adam", torch.float32).rows
    table, places, padding = rows.gather(torch.tensor([[5, 1], [3, 1]]))
    assert padding is not None
    assert (places == padding).tolist() == [[False, True], [False, True]]
    assert table.shape == (3, WIDTH)
    assert rows.gather(torch.tensor([[5, 3]]))[2] is None


def test_a_step_needs_a_gradient() -> None:
    with pytest.raises(RuntimeError, match="call gather and backward before"):
        Pair("adam", torch.float32).rows.step()


def test_only_what_gives_the_dense_result_goes_by_rows() -> None:
    table = nn.Parameter(torch.zeros(3, 2))
    assert can_update_rows(table, torch.optim.Adam([table]))
    assert not can_update_rows(table, torch.optim.Adam([table], weight_decay=0.1))
    assert not can_update_rows(nn.Parameter(table, False), torch.optim.Adam([table]))
    with native.disabled():
        assert not can_update_rows(table, torch.optim.Adam([table]))
