"""Compiles kernels in several processes before a section needs them.

Triton compiles a kernel for 5 to 20 seconds on one processor and stores it in a folder that all
processes read. So a section that first compiles everything in parallel waits once, and what it
measures contains no compilation.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import torch

from celltune.models.config import ModelConfig, Precision, TrainingConfig
from celltune.models.packed.trainer import PackedTrainer
from celltune.models.training.trainer import Trainer

from .documents import synthetic_data

LARGEST_HIDDEN = 128
"""Weights of larger layers do not fit on the chip, so no kernel of ours is compiled for them."""
PROCESSES = max(1, min(14, (os.cpu_count() or 4) - 2))
LIMIT_SECONDS = 60.0
"""A process starts no further job after this time, so none outlives an ended section for long."""


class Job(NamedTuple):
    """Kernels of one cell and size, which single or packed trials run."""

    cell: str
    hidden: int
    precision: Precision = "float32"
    packed: bool = False

    def __str__(self) -> str:
        return f"{self.cell}:{self.hidden}:{self.precision}:{int(self.packed)}"


def parse_job(text: str) -> Job:
    """Return the job that `str` turned into a text."""
    cell, hidden, precision, packed = text.split(":")
    return Job(cell, int(hidden), precision, packed == "1")  # type: ignore[arg-type]


def run_jobs(texts: str, device: str = "cuda") -> None:
    """Train a tiny model of each job, which compiles its kernels."""
    torch.set_num_threads(1)
    started = time.monotonic()
    data = synthetic_data(8, 4, words=21, max_tokens=6)
    for job in map(parse_job, texts.split(",")):
        if time.monotonic() - started > LIMIT_SECONDS:
            return
        model = ModelConfig(cell=job.cell, hidden_size=job.hidden, embedding_size=8)
        training = TrainingConfig(batch_size=4, precision=job.precision)
        if job.packed:
            pack = PackedTrainer(data, device=device)
            for seed in range(2):
                pack.add(model, training, seed=seed)
            pack.run_epoch()
        else:
            Trainer(model, training, data, seed=1, device=device).run_epoch()


class Compilation:
    """Processes that compile. They end with the `with` block."""

    def __init__(self, jobs: Iterable[Job], device: torch.device) -> None:
        """Start the processes; on the CPU there is nothing to compile."""
        wanted = list(dict.fromkeys(job for job in jobs if job.hidden <= LARGEST_HIDDEN))
        self._started = time.monotonic()
        self._processes = [
            _start(part) for part in _parts(wanted, PROCESSES) if device.type == "cuda"
        ]

    def __enter__(self) -> Compilation:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    def wait(self, seconds: float) -> float:
        """Wait until everything is compiled, or end the processes after `seconds`.

        Returns:
            Seconds since the start. What is not compiled is compiled where it is used first.
        """
        end = time.monotonic() + seconds
        for process in self._processes:
            try:
                process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                print(f"  not all kernels were compiled after {seconds:.0f} s", flush=True)
                break
        self.end()
        return time.monotonic() - self._started

    def end(self) -> None:
        """End the processes."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()
                process.wait()


def _parts(jobs: Sequence[Job], count: int) -> list[Sequence[Job]]:
    return [part for part in (jobs[first::count] for first in range(count)) if part]


def _start(jobs: Sequence[Job]) -> subprocess.Popen[bytes]:
    script = Path(__file__).resolve().parents[1] / "gpu.py"
    command = [sys.executable, str(script), "--compile", ",".join(map(str, jobs))]
    # A kernel that cannot be compiled is reported by the section that uses it.
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
