"""Helpers of the benchmarks: CPU time of a process tree, and output of the figures."""

from __future__ import annotations

import json
import platform
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import psutil

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
REPOSITORY = HERE.parent
REVIEWS = REPOSITORY.parent / "shared" / "data" / "imdb" / "train.csv.gz"
"""Default location of the IMDB reviews."""


@dataclass(frozen=True)
class Usage:
    """Cost of a command: wall-clock seconds, CPU seconds of all its processes, and its output."""

    wall: float
    cpu: float
    output: str


def measure(command: Sequence[str], env: Mapping[str, str] | None = None) -> Usage:
    """Run a command and return its cost, including all descendant processes.

    CPU times are sampled every 0.1 s, so up to 0.1 s per process is missed; Ray's workers and
    daemons live far longer. The calling process is not included.
    """
    started = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env
    )
    tree: dict[int, psutil.Process] = {process.pid: psutil.Process(process.pid)}
    seconds: dict[int, float] = {}
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(process.stdout or ()))
    reader.start()
    while process.poll() is None:
        _sample(tree, seconds)
        time.sleep(0.1)
    wall = time.perf_counter() - started
    reader.join(timeout=10)
    output = "".join(lines)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed ({process.returncode}):\n{output[-3000:]}")
    return Usage(wall, sum(seconds.values()), output)


def _sample(tree: dict[int, psutil.Process], seconds: dict[int, float]) -> None:
    # A daemon leaves the tree when its parent exits, so all known processes are sampled.
    for process in list(tree.values()):
        try:
            for child in process.children():
                tree.setdefault(child.pid, child)
            times = process.cpu_times()
            seconds[process.pid] = times.user + times.system
        except psutil.Error:
            tree.pop(process.pid, None)


def finish(
    benchmark: str, figures: Mapping[str, float], details: Mapping[str, object], *, keep: bool
) -> None:
    """Print the figures as the last line; if `keep`, write them to `results/`, too."""
    if keep:
        store(benchmark, figures, details)
    print(json.dumps({"benchmark": benchmark, "figures": _rounded(figures)}))


def store(benchmark: str, figures: Mapping[str, float], details: Mapping[str, object]) -> None:
    """Write the figures to `results/`."""
    RESULTS.mkdir(exist_ok=True)
    record = {
        "benchmark": benchmark,
        "figures": _rounded(figures),
        "details": details,
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "cpus": psutil.cpu_count(),
    }
    (RESULTS / f"{benchmark}.json").write_text(json.dumps(record, indent=2) + "\n")


def _rounded(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in figures.items()}
