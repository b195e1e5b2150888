"""A process beside the trials that measures the linear baselines.

It runs on the driver's node, which has the original documents, reserves no CPU, and has the lowest
priority, so that it takes the time that trials leave. Its memory is limited, so that it fails
before a trial does.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from celltune.search.baselines.validation import ValidationMeter, ValidationScores
from celltune.search.cluster.memory_limit import limit_memory
from celltune.search.cluster.task_pool import original_error

LOWEST_PRIORITY = 19
MEMORY_SHARE = 0.5
"""Share of the available memory that the baselines may take."""


@dataclass(frozen=True)
class BaselineResult:
    """Result of one measurement."""

    name: str
    scores: ValidationScores | None
    """None if the measurement failed."""
    error: str = ""
    """Why it failed, as a sentence."""


class BaselineWorker:
    """Measures baselines one after the other, in a process of the connected cluster."""

    def __init__(self, meter: ValidationMeter, names: Sequence[str]) -> None:
        """Start to measure.

        Args:
            meter: measures a baseline; sent to the process.
            names: names of the baselines, in the order of their measurement.
        """
        own_node = ray.get_runtime_context().get_node_id()
        self._actor = (
            ray.remote(_MeterProcess)
            .options(
                num_cpus=0,
                scheduling_strategy=NodeAffinitySchedulingStrategy(own_node, soft=False),
            )
            .remote(meter)
        )
        self._running = {self._actor.measure.remote(name): name for name in names}

    @property
    def unfinished(self) -> list[str]:
        """Names of the baselines whose result was not returned yet."""
        return list(self._running.values())

    def results(self, timeout: float = 0.0) -> list[BaselineResult]:
        """Return the results since the last call.

        Args:
            timeout: how many seconds to wait for the next one.
        """
        if not self._running:
            return []
        ready, _ = ray.wait(list(self._running), num_returns=1, timeout=timeout)
        return [self._result(reference) for reference in ready]

    def close(self) -> None:
        """End the process; what it has not measured yet is lost."""
        self._running.clear()
        ray.kill(self._actor)

    def _result(self, reference: Any) -> BaselineResult:
        name = self._running.pop(reference)
        try:
            return BaselineResult(name, ray.get(reference))
        except ray.exceptions.RayError as error:
            return BaselineResult(name, None, _describe(original_error(error)))


class _MeterProcess:
    """The Ray actor."""

    def __init__(self, meter: ValidationMeter) -> None:
        os.nice(LOWEST_PRIORITY)
        if (available := _available_gb()) is not None:
            limit_memory(MEMORY_SHARE * available)
        self._meter = meter

    def measure(self, name: str) -> ValidationScores:
        return self._meter.measure(name)


def _available_gb() -> float | None:
    """Return the memory that processes can still allocate, in GB; None if it is unknown."""
    try:
        text = Path("/proc/meminfo").read_text("ascii")
    except OSError:
        return None
    match = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    return None if match is None else int(match[1]) * 1024 / 1e9


def _describe(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "There is too little memory."
    return f"{str(error).splitlines()[0].rstrip('.') if str(error) else type(error).__name__}."
