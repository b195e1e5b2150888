"""A ceiling for the memory of a worker's process, and how running into it looks."""

from __future__ import annotations

import re
import resource
from pathlib import Path

_limited = False


def limit_memory(gigabytes: float) -> None:
    """Let this process take so much more memory of its own than it has now; once per process.

    What goes beyond it fails to be allocated, which a trial can survive; without it, the system
    ends whole processes. Memory that is shared, as prepared data is, doesn't count. Works on Linux;
    elsewhere there is no such limit and none is set.

    Args:
        gigabytes: of 1e9 bytes.
    """
    global _limited  # noqa: PLW0603 (the limit belongs to the process)
    held = _private_bytes()
    if _limited or held is None:
        return
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    wanted = held + int(gigabytes * 1e9)
    if hard not in (resource.RLIM_INFINITY, -1):
        wanted = min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))
    _limited = True


def _private_bytes() -> int | None:
    """What the kernel counts against the limit: private writable memory."""
    try:
        status = Path("/proc/self/status").read_text("ascii")
    except OSError:
        return None
    match = re.search(r"^VmData:\s+(\d+) kB", status, re.MULTILINE)
    return None if match is None else int(match[1]) * 1024


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory couldn't be had: of Python, NumPy, torch or CUDA."""
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and (
        "out of memory" in text or "can't allocate memory" in text or "bad_alloc" in text
    )
