"""Memory limit of a worker process, and recognition of out-of-memory errors."""

from __future__ import annotations

import re
import resource
from pathlib import Path

_limited = False


def limit_memory(gigabytes: float) -> None:
    """Limit how much private memory this process may allocate in addition to what it uses now.

    Allocations beyond the limit fail with an error that a trial can report; without a limit, the
    operating system kills whole processes. Shared memory, such as prepared data, does not count.
    The limit exists on Linux only. Only the first call in a process has an effect.

    Args:
        gigabytes: limit in units of 1e9 bytes.
    """
    global _limited  # noqa: PLW0603 (the limit belongs to the process)
    used = _private_bytes()
    if _limited or used is None:
        return
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    limit = used + int(gigabytes * 1e9)
    if hard not in (resource.RLIM_INFINITY, -1):
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    _limited = True


def _private_bytes() -> int | None:
    """Return the memory that counts against the limit, or `None` outside Linux."""
    try:
        status = Path("/proc/self/status").read_text("ascii")
    except OSError:
        return None
    match = re.search(r"^VmData:\s+(\d+) kB", status, re.MULTILINE)
    return None if match is None else int(match[1]) * 1024


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether Python, NumPy, torch or CUDA raised `error` because memory ran out."""
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and (
        "out of memory" in text or "can't allocate memory" in text or "bad_alloc" in text
    )
