"""Section 4: a search through Ray whose trials share the GPU, in packs and one per worker."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from celltune.models.config import Precision
from celltune.search.ledger.events import Event
from celltune.search.storage.locate import find_experiment

from .common import Deadline, Options, Report
from .compiling import Compilation, Job
from .documents import MAX_TOKENS, VALID

NAME = "gpu"
PRECISION: Precision = "tf32"
"""With it, the weights of every shape in the space fit on the chip."""
GPUS_PER_TRIAL = 0.25
TRIALS, MAX_EPOCHS = 64, 4
CELLS = ("lstm", "gru_reset_before", "gru", "mgu")
KERNEL_SIZES = (128, 64, 32, 16)
SHOWN = ("cell", "hidden_size", "bidirectional", "readout")
PRINTED_LINES = 40
TRIALS_PER_WORKER = 16
START_SECONDS, END_SECONDS = 8.0, 4.0
"""Time of a search before its time limit starts to run, and after it has reached it."""
MIN_SECONDS = 5.0
KILL_SECONDS = 6.0
"""Time to end after a signal; Ray's processes outlive a driver that is killed."""
SECOND_SEARCH_SECONDS = 40.0
"""Time that has to be left for the search without packs."""


def config_of(options: Options, seconds: float, packed: int = TRIALS_PER_WORKER) -> dict[str, Any]:
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
        "name": NAME,
        "data": {**data, "valid_size": 60 if options.quick else VALID},
        "space": {
            "cell": ["gru", "lstm", "gru_reset_before", "mgu"],
            "hidden_size": {"low": 16, "high": 128, "log": True},
            "bidirectional": [True, False],
            "dropout": {"low": 0.0, "high": 0.5},
            "learning_rate": {"low": 1e-3, "high": 1e-2, "log": True},
            "embedding_std": {"low": 0.05, "high": 1.0, "log": True},
            "readout": ["max", "mean"],
            "batch_size": 128,
            "precision": PRECISION,
        },
        "budget": {
            "trials": 3 if options.quick else TRIALS,
            "max_epochs": 2 if options.quick else MAX_EPOCHS,
            "time": round(max(MIN_SECONDS, seconds - START_SECONDS - END_SECONDS)),
        },
        "resources": {
            "cpus_per_trial": 1,
            "gpus_per_trial": GPUS_PER_TRIAL if on_gpu else 0,
            "trials_per_worker": packed,
        },
    }


def figures_of(events: Sequence[Event], trials: int, slots: int) -> tuple[dict[str, float], str]:
    """Return the figures of a search, and what it left out.

    `search_minutes` lasts from the first event to the last one. Slots, which are workers, are busy
    while they train; the time of an epoch includes its validation, but not its checkpoint. In a
    pack, it is the trial's equal share of the pack's time.
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


def run_search(
    options: Options, config: dict[str, Any], seconds: float, folder: Path
) -> list[Event]:
    """Run a search in a new process and return the events of its ledger.

    Args:
        options: the folder of the prepared data.
        config: the content of its config file.
        seconds: the process receives SIGTERM after this time and SIGKILL soon after.
        folder: an empty folder.

    Raises:
        RuntimeError: it did not start.
    """
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(config))
    code = "from celltune.search.cli.app import main; main()"
    storage, log = str(folder / "storage"), folder / "log.txt"
    environment = {
        **os.environ,
        **absolute_python_path(os.environ),
        "CELLTUNE_STORAGE": storage,
        "CELLTUNE_CACHE": str(options.cache.resolve()),
    }
    # From another folder: Ray's workers look for modules next to the script of the driver, and
    # `search.py` would be one of them.
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", code, "launch", str(file)],
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        code_of_exit = _wait(process, seconds)
    lines = log.read_text(errors="replace").splitlines()
    print("\n".join(f"  | {line}" for line in lines[-PRINTED_LINES:]), flush=True)
    # 75 is the exit code of a search that its time limit ended.
    try:
        return list(find_experiment(NAME, storage).snapshot(check_running=False).events)
    except Exception as error:
        last = " | ".join(lines[-2:])
        raise RuntimeError(f"the search ended with exit code {code_of_exit}: {last}") from error


def absolute_python_path(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variable PYTHONPATH, if it is set, in a form that is valid in every folder."""
    paths = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    joined = os.pathsep.join(map(os.path.abspath, paths))
    return {"PYTHONPATH": joined} if joined else {}


def _wait(process: subprocess.Popen[bytes], seconds: float) -> int:
    """Wait until a process ends by itself, by a signal, or is killed."""
    for limit, end in ((seconds, process.terminate), (KILL_SECONDS, process.kill)):
        try:
            return process.wait(limit)
        except subprocess.TimeoutExpired:
            end()
    return process.wait()


def compiled_jobs(*, packed: bool) -> list[Job]:
    """Return the kernels of all shapes in the space, the slowest to compile first."""
    return [Job(cell, size, PRECISION, packed=packed) for size in KERNEL_SIZES for cell in CELLS]


def measure(options: Options, deadline: Deadline, rep: Report) -> None:
    """Run the section: a search in packs, then one without them if time is left."""
    if importlib.util.find_spec("ray") is None or importlib.util.find_spec("optuna") is None:
        rep.left_out.append("section search: ray[tune] and optuna are not installed")
        print("  ray[tune] and optuna are not installed, so no search is run", flush=True)
        return
    # Ray starts meanwhile; its workers find the kernels compiled, or compile them themselves.
    with Compilation(compiled_jobs(packed=True), options.device):
        _measure_search(options, deadline, rep, TRIALS_PER_WORKER, "")
    if deadline.left >= SECOND_SEARCH_SECONDS or (options.quick and not deadline.passed):
        with Compilation(compiled_jobs(packed=False), options.device):
            _measure_search(options, deadline, rep, 1, "_unpacked")
    else:
        rep.left_out.append("the search without packs")


def _measure_search(
    options: Options, deadline: Deadline, rep: Report, packed: int, suffix: str
) -> None:
    on_gpu = options.device.type == "cuda"
    processors = os.cpu_count() or 1
    slots = min(processors, round(1 / GPUS_PER_TRIAL)) if on_gpu else processors
    seconds = max(MIN_SECONDS, deadline.left)
    config = config_of(options, seconds, packed)
    memory = GpuMemory() if on_gpu else None
    started = time.monotonic()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        events = run_search(options, config, seconds, Path(folder))
    figures, missing = figures_of(events, config["budget"]["trials"], slots)
    if memory is not None:
        figures["search_memory_mb"] = memory.stop()
    rep.figures.update({f"{name}{suffix}": value for name, value in figures.items()})
    rep.left_out += [missing] if missing else []
    rep.details[f"search{suffix}"] = {
        "slots": slots,
        "budget": config["budget"],
        "resources": config["resources"],
        "seconds_with_start": time.monotonic() - started,
        **_details_of(events),
    }
    print("  " + ", ".join(f"{name} {value:.4g}" for name, value in figures.items()), flush=True)
    rep.save()


def _details_of(events: Sequence[Event]) -> dict[str, Any]:
    created = [event for event in events if event.event == "trial_created"]
    epochs = [event for event in events if event.event == "epoch_reported"]
    return {
        "failed": [event.error for event in events if event.event == "trial_failed"],
        "lost": [event.error for event in events if event.event == "worker_lost"],
        "trials": [
            (round(event.at - events[0].at, 2), event.number, *map(event.params.get, SHOWN))
            for event in created
        ],
        "epochs": [
            (round(event.at - events[0].at, 2), event.number, round(event.metrics["seconds"], 3))
            for event in epochs
        ],
    }
