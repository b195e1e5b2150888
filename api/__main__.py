"""Run the command line: the command `celltune`, and `python -m celltune`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celltune.import_path import omit_working_directory

if TYPE_CHECKING:
    from celltune.process import Interrupts


def main() -> None:
    """Run a command, which imports nothing from the working directory, and end the process."""
    omit_working_directory()
    from celltune.process import Interrupts, flush_streams, open_streams

    # Early, because a Ctrl-C before it has the effect that Python gives it.
    interrupts = Interrupts()
    open_streams()
    interrupts.end_process(flush_streams(_run(interrupts)))


def _run(interrupts: Interrupts) -> int:
    """Run a command and return its exit code."""
    from celltune.process import INTERRUPTED

    try:
        from celltune.search.cli.app import main as run

        interrupts.clean_up()
        run()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception:
        if interrupts.received:
            return INTERRUPTED
        raise
    return 0


if __name__ == "__main__":
    main()
