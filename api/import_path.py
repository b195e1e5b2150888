"""The folders that modules are imported from, without the working directory.

A `numpy.py` in the folder of a data set would otherwise be executed by every command that is
started there. Python puts the working directory on its path for `python -m`, and for every empty
entry of `PYTHONPATH`, such as the one that `PYTHONPATH=$PYTHONPATH:/libraries` leaves if the
variable was unset. Entries that somebody wrote, also `.`, stay.
"""

from __future__ import annotations

import os
import sys

PYTHONPATH = "PYTHONPATH"


def written_entries(value: str) -> str:
    """Return the value of `PYTHONPATH` without empty entries, which mean the working directory."""
    return os.pathsep.join(filter(None, value.split(os.pathsep)))


def omit_working_directory() -> None:
    """Remove the working directory from the import path of this process and of its children.

    Call this before importing anything else from outside of the standard library.
    """
    here = os.path.realpath(".")
    # The entry of `python -m`; the command's script has its own folder there.
    is_safe = getattr(sys.flags, "safe_path", False)  # since Python 3.11
    if not is_safe and sys.path and os.path.realpath(sys.path[0]) == here:
        del sys.path[0]
    value = os.environ.get(PYTHONPATH)
    if value is None:
        return
    written = os.environ[PYTHONPATH] = written_entries(value)
    names_it = any(
        os.path.realpath(path) == here for path in filter(None, written.split(os.pathsep))
    )
    if written != value and not names_it:
        sys.path[:] = [path for path in sys.path if os.path.realpath(path) != here]
