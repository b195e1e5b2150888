"""Section 4: a search through Ray whose trials share the GPU."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from celltune.search.ledger.events import Event
from celltune.search.storage.locate import find_experiment

from .common import Deadline, Options, Report
from .documents import MAX_TOKENS, VALID

GPUS_PER_TRIAL = 0.25
TRIALS, MAX_EPOCHS = 64, 4
END_SECONDS = 15
"""Time after the limit of the search that it may take to end."""


def config_of(options: Options, seconds: float) -> dict[str, Any]:
    """Return the config of the search: trials share the GPU, or on the CPU the processors."""
    on_gpu = options.device.type == "cuda"
    data: dict[str, Any] = {"source": "synthetic", "reviews": 300 if options.quick else 25_000}
    if options.imdb is not None:
        data = {
            "source": "csv",
            "path": str(options.imdb.resolve()),
            "max_tokens": MAX_TOKENS,
            "keep": "both",
        }
    return {
        "name": "gpu",
        "data": {**data, "valid_size": 60 if options.quick else VALID},
        "space": {
            "cell": ["gru", "lstm", "gru_reset_before", "mgu"],
            "hidden_size": {"low": 16, "high": 128, "log": True},
            "bidirectional": [True, False],
            "dropout": {"low": 0.0, "high": 0.5},
            "learning_rate": {"low": 1e-3, "high": 1e-2, "log": True},
            "embedding_std": {"low": 0.05, "high": 1.0, "log": True},
            "readout": ["max", "mean"],
        },
        "budget": {
            "trials": 3 if options.quick else TRIALS,
            "max_epochs": 2 if options.quick else MAX_EPOCHS,
            "time": round(seconds),
        },
        "resources": {"cpus_per_trial": 1, "gpus_per_trial": GPUS_PER_TRIAL if on_gpu else 0},
    }


def figures_of(events: Sequence[Event], trials: int, slots: int) -> tuple[dict[str, float], str]:
    """Return the figures of a search, and what it left out.

    `search_minutes` lasts from the first event to the last one. Slots are busy while they train;
    the time of an epoch includes its validation, but not its checkpoint.
    """
    epochs = [event for event in events if event.event == "epoch_reported"]
    if not epochs:
        return {}, "the search reported no epoch"
    busy = sum(epoch.metrics["seconds"] for epoch in epochs)
    start = min(epoch.at - epoch.metrics["seconds"] for epoch in epochs)
    wall = max(epoch.at for epoch in epochs) - start
    ended = sum(event.event in ("trial_stopped", "trial_failed") for event in events)
    figures = {
        "slots_busy_share": busy / (slots * wall),
        "search_trials": ended,
        "search_epochs": len(epochs),
        "search_training_minutes": wall / 60,
    }
    if ended == trials:
        figures["search_minutes"] = (events[-1].at - events[0].at) / 60
        return figures, ""
    return figures, f"{trials - ended} of {trials} trials of the search"


class GpuMemory:
    """Samples how much memory of the GPU all processes together use."""

    def __init__(self) -> None:
        """Start to sample every second."""
        self.largest_mb = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def _sample(self) -> None:
        command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
        while not self._done.wait(1):
            try:
                done = subprocess.run(command, capture_output=True, text=True, check=False)
            except OSError:
                return
            if done.returncode == 0:
                self.largest_mb = max(self.largest_mb, *map(float, done.stdout.split()))

    def stop(self) -> float:
        """Return the largest sample in MB."""
        self._done.set()
        self._thread.join(timeout=5)
        return self.largest_mb


def run_search(options: Options, seconds: float, folder: Path) -> list[Event]:
    """Run a search in a new process and return the events of its ledger."""
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(config_of(options, seconds)))
    code = "from celltune.search.cli.app import main; main()"
    storage = str(folder / "storage")
    environment = {
        **os.environ,
        "CELLTUNE_STORAGE": storage,
        "CELLTUNE_CACHE": str(options.cache.resolve()),
    }
    # From another folder: Ray's workers look for modules next to the script of the driver, and
    # `search.py` would be one of them.
    done = subprocess.run(
        [sys.executable, "-c", code, "launch", str(config)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds + END_SECONDS + 60,
        check=False,
    )
    lines = done.stdout.splitlines()
    print("\n".join(f"  | {line}" for line in lines[-25:]), flush=True)
    # 75 is the exit code of a search that its time limit ended.
    try:
        return list(find_experiment("gpu", storage).snapshot(check_running=False).events)
    except Exception as error:
        last = " | ".join(lines[-2:])
        raise RuntimeError(f"the search ended with exit code {done.returncode}: {last}") from error


def measure(options: Options, deadline: Deadline, rep: Report) -> None:
    """Run the section."""
    if importlib.util.find_spec("ray") is None or importlib.util.find_spec("optuna") is None:
        rep.left_out.append("section search: ray[tune] and optuna are not installed")
        print("  ray[tune] and optuna are not installed, so no search is run", flush=True)
        return
    on_gpu = options.device.type == "cuda"
    processors = os.cpu_count() or 1
    slots = min(processors, round(1 / GPUS_PER_TRIAL)) if on_gpu else processors
    seconds = max(10.0, deadline.left - END_SECONDS)
    memory = GpuMemory() if on_gpu else None
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        events = run_search(options, seconds, Path(folder))
    budget = config_of(options, seconds)["budget"]
    figures, missing = figures_of(events, budget["trials"], slots)
    if memory is not None:
        figures["search_memory_mb"] = memory.stop()
    rep.figures.update(figures)
    rep.left_out += [missing] if missing else []
    rep.details = {
        "slots": slots,
        "budget": budget,
        "seconds_with_start": time.monotonic() - started,
        "failed": [event.error for event in events if event.event == "trial_failed"],
        "lost": [event.error for event in events if event.event == "worker_lost"],
        "epoch_seconds": [
            round(event.metrics["seconds"], 3)
            for event in events
            if event.event == "epoch_reported"
        ],
    }
    print("  " + ", ".join(f"{name} {value:.4g}" for name, value in figures.items()), flush=True)
    rep.save()
