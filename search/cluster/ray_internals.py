"""Internals of Ray that celltune depends on: environment variables and private attributes.

A new release of Ray can change any of them. `tests/search/cluster/test_ray_internals.py` checks
each one against the installed Ray, so that a failing test names what has to be adapted. Ray is
imported inside the functions, because some of the variables have to be set before.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from celltune.data_prep.io.private import private_folder
from celltune.import_path import PYTHONPATH, written_entries

READ_AT_IMPORT = {
    # The raylet's messages go to Ray's log files instead of the driver's output.
    "RAY_DEDUP_LOGS_SKIP_REGEX": "^",
    # A task without GPUs sees those of its node (see `gpu_checks`). Ray warns if this is unset.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}

READ_BY_WORKERS = {"RAY_CHDIR_TO_TRIAL_DIR": "0"}
PRELOADED = "RAY_preload_python_modules"
"""Modules that every worker process of a cluster imports when it starts, separated by commas."""
STARTED_FOR_A_JOB = "RAY_JOB_ID"
"""Is set in the processes that Ray starts for a job, but not in those that it starts with a
cluster."""

READ_BY_TUNE = {
    **READ_BY_WORKERS,
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    # Ray Tune's event loop blocks for a worker that takes longer than this many seconds to exit,
    # for up to 10 s. With 10 it never blocks.
    "TUNE_FORCE_TRIAL_CLEANUP_S": "10",
    # Seconds between two snapshots of the experiment, which nothing reads.
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
}

WIDGET_LOGGER = "ray.widgets.util"
"""Names, when Ray is imported in a notebook, packages that only Ray's own widgets need."""

TUNE_PARENT = "ray.tune"
"""The logger above all of Ray Tune's."""
TUNE_LOGGER = f"{TUNE_PARENT}.tune"
TUNE_SUMMARY = "Trials did not complete"
"""Start of an error that Ray Tune logs at the end of a run in which a worker was lost. It contains
Ray's ids of trials that have been completed by other workers since."""


def set_import_environment() -> None:
    """Set the variables that Ray reads when it is imported, unless they are set already.

    Also omit what Ray says about its widgets at its import.
    """
    for name, value in READ_AT_IMPORT.items():
        os.environ.setdefault(name, value)
    logging.getLogger(WIDGET_LOGGER).setLevel(logging.ERROR)


@contextmanager
def sigterm_handler_kept() -> Iterator[None]:
    """Restore the handler of SIGTERM, which `ray.init` replaces by one that raises SystemExit.

    Raised in a finalizer or in a function of a fork, that error would be lost, and the process
    would go on.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)


@contextmanager
def tune_environment(*, is_own_cluster: bool = False) -> Iterator[None]:
    """Set the variables that Ray Tune reads and silence its log; restore both afterwards.

    Its messages are about files and trials of its own, which nothing here reads. A cluster that a
    user started logs them.

    Args:
        is_own_cluster: whether the workers inherited the environment of this process. Otherwise
            Ray Tune transmits a part of it to them.
    """
    logger, parent = logging.getLogger(TUNE_LOGGER), logging.getLogger(TUNE_PARENT)
    level = parent.level
    logger.addFilter(_is_no_summary)
    parent.setLevel(logging.ERROR)
    try:
        transmitted = inherited_environment() if is_own_cluster else nullcontext()
        with _environment(READ_BY_TUNE), transmitted:
            yield
    finally:
        parent.setLevel(level)
        logger.removeFilter(_is_no_summary)


@contextmanager
def inherited_environment() -> Iterator[None]:
    """Let Ray Tune transmit no environment to workers, because they inherit that of this process.

    Ray starts new processes for workers with an environment of their own, instead of using those
    that it has started already, and prepares it in a process that imports Ray as well.
    """
    from ray.tune.execution import class_cache

    before = class_cache.DEFAULT_ENV_VARS, class_cache.ENV_VARS_TO_PROPAGATE
    class_cache.DEFAULT_ENV_VARS, class_cache.ENV_VARS_TO_PROPAGATE = {}, set()
    try:
        yield
    finally:
        class_cache.DEFAULT_ENV_VARS, class_cache.ENV_VARS_TO_PROPAGATE = before


def _is_no_summary(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(TUNE_SUMMARY)


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


@contextmanager
def worker_environment(preloaded: Sequence[str] = ()) -> Iterator[None]:
    """Set what the workers of a cluster inherit that is started inside of the context.

    An empty entry of `PYTHONPATH` would put the driver's working directory on their import path.

    Args:
        preloaded: names of modules that the workers import when they start.
    """
    values = dict(READ_BY_WORKERS)
    if preloaded:
        values[PRELOADED] = ",".join(preloaded)
    if PYTHONPATH in os.environ:
        values[PYTHONPATH] = written_entries(os.environ[PYTHONPATH])
    with _environment(values):
        yield


@contextmanager
def few_processes() -> Iterator[None]:
    """Let a `ray.init` inside of the context start only what a cluster of one machine needs.

    Omitted are the server of the dashboard, which `include_dashboard=False` only empties, the
    autoscaler and the monitor of log files: three Python processes, for the first of which
    `ray.init` waits.
    """
    import ray

    class SmallNode(ray._private.node.Node):  # type: ignore[misc]
        def __init__(self, ray_params: Any, *arguments: Any, **options: Any) -> None:
            ray_params.no_monitor = True
            ray_params.include_log_monitor = False
            super().__init__(ray_params, *arguments, **options)

        def start_api_server(self, **options: Any) -> None:
            """Start nothing."""

    before = ray._private.node.Node
    ray._private.node.Node = SmallNode
    try:
        yield
    finally:
        ray._private.node.Node = before


def private_temp_dir() -> str:
    """Return the folder for the sockets and logs of a cluster that is started here.

    Ray lets every user write to the folders that it creates, so that another user could put sockets
    of their own in the place of a cluster's, through which workers receive code. Here they are
    inside of a folder that only this user can enter.

    Raises:
        NotPrivateError: another user owns the folder or can write to it.
        OSError: the folder cannot be created.
    """
    # As Ray does; elsewhere, the path of a socket in TMPDIR would be too long.
    default = tempfile.gettempdir() if sys.platform == "linux" else "/tmp"  # noqa: S108 (a parent)
    parent = Path(os.environ.get("RAY_TMPDIR") or default).absolute()
    with private_folder(parent / f"ray-{os.geteuid()}") as folder:
        return str(folder.path / "ray")


def protect_token() -> None:
    """Make Ray's authentication token, which permits to run code, unreadable for other users.

    Ray creates the file for its first local cluster, without restricting its mode.
    """
    path = Path.home() / ".ray" / "auth_token"
    with suppress(OSError):
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)


def isolated_job_config() -> Any:
    """Return a Ray job config whose workers do not import from the driver's working directory.

    Ray inserts the driver's working directory and script directory at the front of every worker's
    `sys.path`. A `celltune.py` or `random.py` there would replace the installed module. Ray omits
    both folders for a job that has a working directory of its own, so the config claims to have
    one.
    """
    from ray.job_config import JobConfig

    config = JobConfig()
    config._runtime_env_has_working_dir = lambda: True
    return config


def autoscaler_node_groups() -> list[tuple[dict[str, float], int]]:
    """Return the node types that an autoscaler may start: resources and maximum count of each.

    Empty for a cluster without an autoscaler. Ray Data and Ray Train read the same attribute; there
    is no public one.
    """
    import ray

    plan = ray._private.state.state.get_cluster_config()
    groups = [] if plan is None else plan.node_group_configs
    return [(dict(group.resources), group.max_count) for group in groups]


def worker_actor(trial: Any) -> Any:
    """Return the actor that trains a running Ray Tune trial."""
    return trial.temporary_state.ray_actor


def discard_trial_data(trial: Any) -> None:
    """Empty an ended Ray Tune trial, whose results and config Ray Tune keeps until the run ends."""
    trial.run_metadata.metric_analysis.clear()
    trial.run_metadata.metric_n_steps.clear()
    trial.run_metadata.last_result = {}
    trial.config = {}
    trial.evaluated_params = {}


class OmittedFromSnapshots:
    """Mixin that leaves an object out of Ray Tune's experiment snapshots.

    Ray Tune pickles its searcher, scheduler and stopper to be able to restore a run. celltune
    restores a search from its ledger, so that a snapshot holds a plain `object` in their place.
    """

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        return (object, ())
