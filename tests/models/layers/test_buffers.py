from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from celltune.models.layers.buffers import KEPT, BorrowedBuffers, BufferPool
from celltune.models.layers.stack import RecurrentStack


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 50)), max_size=60))
def test_no_buffer_is_lent_twice(events: list[tuple[int, int]]) -> None:
    pool, rooms = BufferPool(), {}
    for who, count in events:
        if who in rooms:
            rooms.pop(who)[0].close()
        else:
            room = BorrowedBuffers(torch.float32, pool)
            rooms[who] = (room, room.take(count))
        places = [values.data_ptr() for _, values in rooms.values()]
        assert len(set(places)) == len(places)
    assert pool.free_bytes() <= KEPT * 50 * 4


def test_a_buffer_is_used_again_and_grows_to_the_longest() -> None:
    pool = BufferPool()
    for count in (10, 20, 15, 20):
        room = BorrowedBuffers(torch.float32, pool)
        assert room.take(count).shape == (count,)
        room.close()
    assert pool.free_bytes() == 20 * 4


def test_types_do_not_mix() -> None:
    pool = BufferPool()
    room = BorrowedBuffers(torch.float64, pool)
    room.take(8)
    room.close()
    assert BorrowedBuffers(torch.float32, pool).take(2, 2).dtype == torch.float32
    assert pool.free_bytes() == 64 + 16


def test_a_buffer_lent_in_inference_mode_can_be_trained_on_later() -> None:
    stack = RecurrentStack("gru", 3, 2, generator=torch.Generator())
    with torch.inference_mode():
        stack(torch.zeros(4, 3, 5), None)
    stack(torch.zeros(4, 3, 5), None).sum().backward()


def test_two_graphs_at_once_do_not_share() -> None:
    stack = RecurrentStack("gru", 3, 2, generator=torch.Generator().manual_seed(1))
    first = torch.ones(4, 3, 5, requires_grad=True)
    alone = torch.autograd.grad(stack(first, None).sum(), first)[0]
    states = stack(first, None)
    stack(2 * torch.ones(4, 3, 5), None)
    kept = torch.autograd.grad(states.sum(), first, retain_graph=True)[0]
    again = torch.autograd.grad(states.sum(), first)[0]
    assert torch.equal(alone, kept)
    assert torch.equal(alone, again)
