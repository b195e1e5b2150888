"""A context that a thread holds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import pytest

from celltune.search.runs.held_context import entered, entered_by_thread

Steps = list[tuple[str, int]]


@contextmanager
def context(
    steps: Steps, enter: Callable[[], object], leave: Callable[[], object] = lambda: None
) -> Iterator[int]:
    steps.append(("enter", threading.get_ident()))
    enter()
    try:
        yield 7
    finally:
        steps.append(("leave", threading.get_ident()))
        leave()


def fail() -> None:
    raise OSError("no memory")


def test_one_thread_enters_and_leaves() -> None:
    steps: Steps = []
    go_on = threading.Event()
    with entered_by_thread(context(steps, go_on.wait)) as future:
        assert not future.done()
        go_on.set()
        assert future.result() == 7
        assert [step for step, _ in steps] == ["enter"]
    assert [step for step, _ in steps] == ["enter", "leave"]
    assert len({thread for _, thread in steps} - {threading.get_ident()}) == 1


def test_the_error_of_entering_is_raised_when_the_value_is_needed() -> None:
    steps: Steps = []
    with entered_by_thread(context(steps, fail)) as future:
        for _ in range(2):
            with pytest.raises(OSError, match="no memory"):
                future.result()
    assert [step for step, _ in steps] == ["enter"]


def test_the_error_of_leaving_is_raised() -> None:
    with (
        pytest.raises(OSError, match="no memory"),
        entered_by_thread(context([], lambda: None, fail)),
    ):
        pass


def test_a_context_that_nobody_waits_for_is_left() -> None:
    steps: Steps = []
    with (
        pytest.raises(ValueError, match="invalid data"),
        entered_by_thread(context(steps, lambda: None)),
    ):
        raise ValueError("invalid data")
    assert [step for step, _ in steps] == ["enter", "leave"]


def test_an_interrupt_does_not_wait_for_a_context_that_is_being_entered() -> None:
    steps: Steps = []
    go_on, left = threading.Event(), threading.Event()
    with (
        pytest.raises(KeyboardInterrupt),
        entered_by_thread(context(steps, go_on.wait, left.set)),
    ):
        raise KeyboardInterrupt
    assert [step for step, _ in steps] == ["enter"]
    go_on.set()
    assert left.wait(30)


def interrupt_after(future: Future[int]) -> None:
    future.result()
    raise KeyboardInterrupt


def test_an_interrupt_waits_for_the_end_of_an_entered_context() -> None:
    steps: Steps = []
    with pytest.raises(KeyboardInterrupt), entered_by_thread(context(steps, int)) as future:
        interrupt_after(future)
    assert [step for step, _ in steps] == ["enter", "leave"]


def test_a_context_can_be_entered_here() -> None:
    steps: Steps = []
    with entered(context(steps, lambda: None)) as future:
        assert future.result() == 7
    here = threading.get_ident()
    assert steps == [("enter", here), ("leave", here)]
