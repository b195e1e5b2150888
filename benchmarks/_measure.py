"""Shared by the benchmarks: CPU-seconds of a whole process tree, and the result's last line."""

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
"""Where real reviews are looked for if a benchmark isn't told."""


@dataclass(frozen=True)
class Usage:
    """What a command took: seconds on the clock and seconds of CPU over all its processes."""

    wall: float
    cpu: float
    output: str


def measure(command: Sequence[str], env: Mapping[str, str] | None = None) -> Usage:
    """Run a command and add up the CPU-seconds of every process that descends from it.

    The tree is looked at every 0.1 s, so a process is counted up to 0.1 s short; Ray's workers
    and daemons live far longer. Nothing of the measuring process itself is counted.
    """
    begun = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env
    )
    tree: dict[int, psutil.Process] = {process.pid: psutil.Process(process.pid)}
    seconds: dict[int, float] = {}
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(process.stdout or ()))
    reader.start()
    while process.poll() is None:
        _look(tree, seconds)
        time.sleep(0.1)
    wall = time.perf_counter() - begun
    reader.join(timeout=10)
    output = "".join(lines)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{output[-3000:]}")
    return Usage(wall, sum(seconds.values()), output)


def _look(tree: dict[int, psutil.Process], seconds: dict[int, float]) -> None:
    # Daemons leave the tree when their parent goes, so every process ever seen is looked at.
    for known in list(tree.values()):
        try:
            for child in known.children():
                tree.setdefault(child.pid, child)
            times = known.cpu_times()
            seconds[known.pid] = times.user + times.system
        except psutil.Error:
            tree.pop(known.pid, None)


def finish(
    benchmark: str, figures: Mapping[str, float], details: Mapping[str, object], *, keep: bool
) -> None:
    """Print the figures as the last line, and keep them under `results/` if asked."""
    rounded = {name: round(value, 4) for name, value in figures.items()}
    if keep:
        RESULTS.mkdir(exist_ok=True)
        record = {
            "benchmark": benchmark,
            "figures": rounded,
            "details": details,
            "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "python": platform.python_version(),
            "cpus": psutil.cpu_count(),
        }
        (RESULTS / f"{benchmark}.json").write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps({"benchmark": benchmark, "figures": rounded}))
