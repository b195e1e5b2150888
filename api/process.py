"""The process of a command: its signals and its standard streams."""

from __future__ import annotations

import atexit
import errno
import os
import signal
import sys
import threading
from types import FrameType
from typing import Any, NoReturn, TextIO

INTERRUPTED = 128 + signal.SIGINT
"""Exit code after Ctrl-C, as shells report it."""


class Interrupts:
    """What Ctrl-C does: it never shows a traceback.

    Until a command begins, the process ends at once, because nothing has been changed. Then the
    first Ctrl-C raises a KeyboardInterrupt, so that the command cleans up, and a second one ends
    the process at once. If Ctrl-C is ignored, as in the background of a script, it stays so.
    """

    def __init__(self) -> None:
        """Handle Ctrl-C, as before a command begins."""
        self.received = False
        """Whether a KeyboardInterrupt was raised. Imported libraries may have turned it into
        another error."""
        self._handled = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        self._end_at_next()

    def clean_up(self) -> None:
        """Let the next Ctrl-C raise a KeyboardInterrupt."""
        if self._handled:
            signal.signal(signal.SIGINT, self._interrupt)
            sys.unraisablehook = self._unraisable

    def _interrupt(self, number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG002
        self.received = True
        self._end_at_next()
        raise KeyboardInterrupt

    def _end_at_next(self) -> None:
        if self._handled:
            signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))

    def _unraisable(self, error: Any) -> None:
        # Raised in a finalizer, from where it cannot reach the command. Ray ends by a SystemExit.
        if isinstance(error.exc_value, (KeyboardInterrupt, SystemExit)):
            os._exit(INTERRUPTED if self.received else 128 + signal.SIGTERM)
        sys.__unraisablehook__(error)

    def end_process(self, code: int) -> NoReturn:
        """End the process; after a Ctrl-C at once, because libraries may be half-initialized.

        Otherwise, threads and exit functions end as usual. The interpreter is not finalized: after
        a search, freeing every object of the imported libraries takes 0.3 s.

        Args:
            code: the exit code.
        """
        self._end_at_next()
        if not self.received:
            for thread in threading.enumerate():
                if thread is not threading.current_thread() and not thread.daemon:
                    thread.join()
            atexit._run_exitfuncs()
            code = flush_streams(code)
        os._exit(code)


def open_streams() -> None:
    """Open standard streams that the caller closed (`>&-`) as /dev/null.

    Otherwise the next file that is opened would take the place of the stream, and receive what
    libraries and child processes print.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            # The lowest free number is that of the stream.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
            stream = os.fdopen(number, "w" if number else "r", encoding="utf-8", closefd=False)
            setattr(sys, name, stream)


def flush_streams(code: int) -> int:
    """Write what is still in the buffers of the standard streams.

    Args:
        code: the exit code of the command.

    Returns:
        The exit code; 1 instead of 0 if the output could not be written completely.
    """
    failed = False
    for stream in (sys.stdout, sys.__stdout__, sys.stderr):
        error = _flush_error(stream)
        if error is None or stream is None:
            continue
        failed = True
        # The interpreter flushes the stream again when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if error.errno != errno.EPIPE and stream is not sys.stderr:
            message = f"celltune: The output cannot be written: {error.strerror}.\n"
            sys.stderr.write(message)
    return code or int(failed)


def _flush_error(stream: TextIO | None) -> OSError | None:
    try:
        if stream is not None and not stream.closed:
            stream.flush()
    except OSError as error:
        return error
    return None
