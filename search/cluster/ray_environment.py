"""Settings that keep Ray's own chatter in Ray's log files. Ray reads some of them when imported."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

_AT_IMPORT = {
    # What the raylet would print through the driver, above the live view.
    "RAY_DEDUP_LOGS_SKIP_REGEX": "^",
    # A warning about a default that will change; trials without GPUs shall see none, as today.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}

_WHILE_TUNE_RUNS = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    # Ray Tune waits for a worker that ends, with its whole loop, from this age on until 10 s.
    "TUNE_FORCE_TRIAL_CLEANUP_S": "10",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
}


def set_ray_environment() -> None:
    """Set what Ray reads at its import; what a person set stays."""
    for name, value in _AT_IMPORT.items():
        os.environ.setdefault(name, value)


@contextmanager
def tune_environment() -> Iterator[None]:
    """Set what Ray Tune reads, and put the environment back afterwards."""
    with _environment(_WHILE_TUNE_RUNS):
        yield


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
