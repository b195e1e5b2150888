"""Buffers are lent to one user at a time and reused."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from celltune.models.layers.buffers import MAX_FREE_BUFFERS, BorrowedBuffers, BufferPool
from celltune.models.layers.cells import GruCell
from celltune.models.layers.stack import RecurrentStack


def free_bytes(pool: BufferPool) -> int:
    return sum(buffer.nbytes for buffer in pool._free)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 50)), max_size=60))
def test_no_buffer_is_lent_twice(events: list[tuple[int, int]]) -> None:
    pool, borrowed = BufferPool(), {}
    for user, count in events:
        if user in borrowed:
            borrowed.pop(user)[0].close()
        else:
            buffers = BorrowedBuffers(torch.float32, pool)
            borrowed[user] = (buffers, buffers.borrow(count))
        addresses = [values.data_ptr() for _, values in borrowed.values()]
        assert len(set(addresses)) == len(addresses)
    assert free_bytes(pool) <= MAX_FREE_BUFFERS * 50 * 4


def test_buffer_is_reused_and_grows_to_the_largest_request() -> None:
    pool = BufferPool()
    for count in (10, 20, 15, 20):
        buffers = BorrowedBuffers(torch.float32, pool)
        assert buffers.borrow(count).shape == (count,)
        buffers.close()
    assert free_bytes(pool) == 20 * 4


def test_buffers_of_different_types_are_separate() -> None:
    pool = BufferPool()
    buffers = BorrowedBuffers(torch.float64, pool)
    buffers.borrow(8)
    buffers.close()
    assert BorrowedBuffers(torch.float32, pool).borrow(2, 2).dtype == torch.float32
    assert free_bytes(pool) == 64 + 16


def test_buffer_from_inference_mode_can_be_used_in_training() -> None:
    stack = RecurrentStack(GruCell(), 3, 2, generator=torch.Generator())
    with torch.inference_mode():
        stack(torch.zeros(4, 3, 5), None)
    stack(torch.zeros(4, 3, 5), None).sum().backward()


def test_two_autograd_graphs_do_not_share_buffers() -> None:
    stack = RecurrentStack(GruCell(), 3, 2, generator=torch.Generator().manual_seed(1))
    first = torch.ones(4, 3, 5, requires_grad=True)
    alone = torch.autograd.grad(stack(first, None).sum(), first)[0]
    states = stack(first, None)
    stack(2 * torch.ones(4, 3, 5), None)
    retained = torch.autograd.grad(states.sum(), first, retain_graph=True)[0]
    again = torch.autograd.grad(states.sum(), first)[0]
    assert torch.equal(alone, retained)
    assert torch.equal(alone, again)
