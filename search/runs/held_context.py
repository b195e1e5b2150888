"""Contexts that another thread enters, so that the caller can do something else meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def entered(context: AbstractContextManager[T]) -> Iterator[Future[T]]:
    """Enter a context in this thread; yield its value as a finished future."""
    future: Future[T] = Future()
    with context as value:
        future.set_result(value)
        yield future


@contextmanager
def entered_by_thread(context: AbstractContextManager[T]) -> Iterator[Future[T]]:
    """Let a thread enter a context at once, and leave it at the end of this one.

    The same thread does both, because the kernel ends the processes of a cluster together with the
    thread that has started them (prctl(2), PR_SET_PDEATHSIG).

    Args:
        context: the context manager.

    Yields:
        A future of the context's value, or of the error of entering it. An error of leaving it is
        raised here.
    """
    future: Future[T] = Future()
    leaving = threading.Event()
    errors: list[BaseException] = []

    def hold() -> None:
        try:
            with context as value:
                future.set_result(value)
                leaving.wait()
        except BaseException as error:  # noqa: BLE001 (raised in the caller's thread)
            if future.done():
                errors.append(error)
            else:
                future.set_exception(error)

    # A process that ends after Ctrl-C does not wait for a daemon.
    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    waits = True
    try:
        yield future
    except KeyboardInterrupt:
        # Nobody waits for a context that is still being entered. The thread leaves it at once.
        waits = future.done()
        raise
    finally:
        leaving.set()
        if waits:
            thread.join()
        for error in errors:
            raise error
