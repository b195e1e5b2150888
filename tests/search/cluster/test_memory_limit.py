from __future__ import annotations

import subprocess
import sys

import pytest

from celltune.search.cluster.memory_limit import is_out_of_memory

SCRIPT = """
import numpy as np
from celltune.search.cluster.memory_limit import limit_memory
limit_memory(0.2)
limit_memory(5)
fits = np.ones(12_000_000)
try:
    np.ones(40_000_000)
except MemoryError as error:
    print("refused", fits.sum())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the limit")
def test_a_process_cannot_exceed_its_first_limit() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "refused 12000000.0\n"


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (MemoryError(), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("shapes differ"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_out_of_memory_errors_are_recognized(error: Exception, memory: bool) -> None:
    assert is_out_of_memory(error) is memory
