"""What all sections of the GPU benchmark share: time limits, reports, timing, the machine."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

Run = Callable[[], object]


@dataclass(frozen=True)
class Deadline:
    """The end of a section's time."""

    end: float
    clock: Callable[[], float] = time.monotonic

    @classmethod
    def after(cls, seconds: float, clock: Callable[[], float] = time.monotonic) -> Deadline:
        """Return a deadline that many seconds from now."""
        return cls(clock() + seconds, clock)

    def part(self, share: float) -> Deadline:
        """Return the end of a share of the remaining time."""
        return Deadline(self.clock() + share * max(0.0, self.left), self.clock)

    @property
    def left(self) -> float:
        """Remaining seconds; negative after the end."""
        return self.end - self.clock()

    @property
    def passed(self) -> bool:
        """Whether no time is left."""
        return self.left <= 0


@dataclass
class Report:
    """The results of a section: figures, everything behind them, and what was left out."""

    figures: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    publish: Callable[[Report], None] = field(default=lambda _: None, repr=False)

    def save(self) -> None:
        """Publish the results so far, so that an interrupted run keeps them."""
        self.publish(self)

    def attempt(self, what: str, run: Callable[[], None]) -> bool:
        """Run a part of the section; report an exception in a line and return False."""
        try:
            run()
        except Exception as error:  # noqa: BLE001 (a failed part must not end the run)
            self.fail(what, error)
            return False
        return True

    def fail(self, what: str, error: BaseException) -> None:
        """Record and print the exception of a part."""
        line = f"{what}: {summary(error)}"
        self.errors.append(line)
        print(f"  FAILED {line}", flush=True)

    def as_json(self) -> dict[str, Any]:
        """Return the results for the file of the section."""
        rounded = {name: float(f"{value:.6g}") for name, value in self.figures.items()}
        return {
            "figures": rounded,
            "left_out": self.left_out,
            "errors": self.errors,
            "details": self.details,
        }


@dataclass(frozen=True)
class Options:
    """What a section needs to know.

    Attributes:
        device: where models run.
        quick: whether small sizes are measured.
        imdb: a csv file with the columns label and text; None: synthetic documents.
        cache: a folder for prepared data and compiled code.
    """

    device: torch.device
    quick: bool = False
    imdb: Path | None = None
    cache: Path = Path(".gpu-cache")


def summary(error: BaseException) -> str:
    """Return the type and the first two lines of an exception."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' | '.join(lines[:2])}"[:400]


def context_is_lost(error: BaseException) -> bool:
    """Return whether every later CUDA call of this process will fail, too."""
    text = str(error)
    return "CUDA error" in text and "out of memory" not in text


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished all work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def alternating_medians(
    sides: Mapping[str, Run], device: torch.device, *, warm_up: int, runs: int
) -> dict[str, float]:
    """Return the median milliseconds of each side over alternating runs.

    On a GPU, CUDA events are the clock. The CPU may be ahead by several runs, as in a training.
    """
    for _ in range(warm_up):
        for run in sides.values():
            run()
    synchronize(device)
    if device.type != "cuda":
        times: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(runs):
            for name, run in sides.items():
                started = time.perf_counter()
                run()
                times[name].append(1000 * (time.perf_counter() - started))
        return {name: statistics.median(values) for name, values in times.items()}
    events: dict[str, list[tuple[torch.cuda.Event, torch.cuda.Event]]] = {s: [] for s in sides}
    for _ in range(runs):
        for name, run in sides.items():
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            run()
            end.record()
            events[name].append((start, end))
    synchronize(device)
    return {
        name: statistics.median(start.elapsed_time(end) for start, end in pairs)
        for name, pairs in events.items()
    }


def machine(device: torch.device) -> dict[str, Any]:
    """Return card, driver and versions."""
    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if torch.backends.cudnn.is_available() else None,
        "triton": _version("triton"),
        "ray": _version("ray"),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts["card"] = properties.name
        facts["memory_gib"] = round(properties.total_memory / 2**30, 1)
        facts["multiprocessors"] = properties.multi_processor_count
        facts["capability"] = f"{properties.major}.{properties.minor}"
        facts["driver"] = _driver()
    return facts


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _driver() -> str | None:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.split()
    return lines[0] if done.returncode == 0 and lines else None


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Replace a JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    temporary.replace(path)
