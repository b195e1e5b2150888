"""Each internal of Ray that celltune uses still exists in the installed Ray."""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
import ray
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler

from celltune.search.cluster.ray_internals import (
    PRELOADED,
    READ_AT_IMPORT,
    READ_BY_TUNE,
    READ_BY_WORKERS,
    STARTED_FOR_A_JOB,
    TUNE_LOGGER,
    TUNE_SUMMARY,
    WIDGET_LOGGER,
    OmittedFromSnapshots,
    autoscaler_node_groups,
    discard_trial_data,
    few_processes,
    isolated_job_config,
    protect_token,
    tune_environment,
    worker_actor,
    worker_environment,
)

RAY = Path(ray.__file__).parent


@pytest.fixture(scope="module")
def ray_sources() -> str:
    """The Python files of Ray that read environment variables."""
    folders = [RAY / name for name in ("_private", "air", "train", "tune")]
    return "\n".join(path.read_text("utf-8") for folder in folders for path in folder.rglob("*.py"))


@pytest.mark.parametrize("name", [*READ_AT_IMPORT, *READ_BY_TUNE])
def test_ray_reads_the_environment_variable(name: str, ray_sources: str) -> None:
    assert f'"{name}"' in ray_sources


def test_importing_the_subpackage_sets_the_variables_before_ray_is_imported() -> None:
    code = (
        "import os, sys, celltune.search.cluster as package\n"
        "from celltune.search.cluster.ray_internals import READ_AT_IMPORT\n"
        "print('ray' in sys.modules, all(name in os.environ for name in READ_AT_IMPORT))\n"
    )
    env = {name: value for name, value in os.environ.items() if name not in READ_AT_IMPORT}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "True"]


def test_ray_names_no_packages_for_its_widgets(caplog: pytest.LogCaptureFixture) -> None:
    from ray.widgets import util

    assert util.logger.name == WIDGET_LOGGER
    assert util._has_missing(("no_such_package", None)) == ["no_such_package"]
    assert caplog.records == []


def test_the_tune_environment_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, *_ = READ_BY_TUNE
    monkeypatch.setenv(first, "before")
    monkeypatch.delenv(second, raising=False)
    with tune_environment():
        assert READ_BY_TUNE.items() <= os.environ.items()
    assert os.environ[first] == "before"
    assert second not in os.environ


def test_workers_of_an_own_cluster_have_no_environment_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ray.tune.execution import class_cache

    def runtime_env() -> object:
        class Worker:
            pass

        return class_cache._ActorClassCache().get(Worker)._default_options["runtime_env"]

    # The cluster that tests share has no such workers either.
    monkeypatch.setattr(class_cache, "DEFAULT_ENV_VARS", {"A": "1"})
    monkeypatch.setattr(class_cache, "ENV_VARS_TO_PROPAGATE", {*READ_BY_WORKERS})
    with tune_environment():
        transmitted = runtime_env()
        assert transmitted == {"env_vars": {"A": "1", **READ_BY_WORKERS}}
    with tune_environment(is_own_cluster=True):
        assert runtime_env() == {}
    with tune_environment():
        assert runtime_env() == transmitted


def test_workers_inherit_what_ray_tune_does_not_transmit(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*READ_BY_WORKERS, PRELOADED):
        monkeypatch.delenv(name, raising=False)
    with worker_environment():
        assert READ_BY_WORKERS.items() <= os.environ.items()
        assert PRELOADED not in os.environ
    with worker_environment(["a.b", "c"]):
        assert os.environ[PRELOADED] == "a.b,c"
    assert not {*READ_BY_WORKERS, PRELOADED} & os.environ.keys()


def test_the_program_that_starts_workers_knows_the_variables() -> None:
    program = (RAY / "core" / "src" / "ray" / "raylet" / "raylet").read_bytes()
    assert PRELOADED.removeprefix("RAY_").encode() in program
    assert STARTED_FOR_A_JOB.encode() in program


@pytest.mark.parametrize("job", [True, False])
def test_only_processes_that_start_with_a_cluster_import_what_trials_need(job: bool) -> None:
    code = (
        "import sys, celltune.search.runs.preload\n"
        "print({'torch', 'ray.tune', 'celltune.models.training.trainer'} <= set(sys.modules))\n"
    )
    env = {name: value for name, value in os.environ.items() if name != STARTED_FOR_A_JOB}
    if job:
        env[STARTED_FOR_A_JOB] = "01000000"
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(not job)]


def test_a_small_node_omits_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private.node import Node
    from ray._private.parameter import RayParams

    sources = [(RAY / "_private" / name).read_text("utf-8") for name in ("worker.py", "node.py")]
    assert "_global_node = ray._private.node.Node(" in sources[0]
    for start in ("no_monitor:\n", "include_log_monitor:\n", "self.start_api_server("):
        assert start in sources[1]
    given: list[RayParams] = []
    monkeypatch.setattr(Node, "__init__", lambda self, params, **_: given.append(params))
    with few_processes():
        node = ray._private.node.Node(RayParams(), head=True)
    assert ray._private.node.Node is Node
    assert isinstance(node, Node)
    assert (given[0].no_monitor, given[0].include_log_monitor) == (True, False)
    assert node.start_api_server(include_dashboard=False, raise_on_failure=True) is None


def test_ray_tunes_summary_of_lost_workers_is_omitted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert f'logger.error("{TUNE_SUMMARY}: %s"' in (RAY / "tune" / "tune.py").read_text("utf-8")
    logger = logging.getLogger(TUNE_LOGGER)
    messages: list[str] = []
    monkeypatch.setattr(logger, "handle", lambda record: _handled(logger, record, messages))
    with tune_environment():
        logger.error(f"{TUNE_SUMMARY}: %s", ["1"])
        logger.warning("Failed to fetch metrics")
        logger.error("Something else: %s", 1)
    logger.error(f"{TUNE_SUMMARY}: %s", ["2"])
    assert messages == ["Something else: 1", f"{TUNE_SUMMARY}: ['2']"]


def _handled(logger: logging.Logger, record: logging.LogRecord, messages: list[str]) -> None:
    if logger.filter(record):
        messages.append(record.getMessage())


def test_the_autoscaler_config_names_node_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.core.generated.autoscaler_pb2 import ClusterConfig, NodeGroupConfig

    plan = ClusterConfig(
        node_group_configs=[NodeGroupConfig(resources={"CPU": 4, "GPU": 1}, max_count=3)]
    )
    monkeypatch.setattr(ray._private.state.state, "get_cluster_config", lambda: plan)
    assert autoscaler_node_groups() == [({"CPU": 4, "GPU": 1}, 3)]


@pytest.mark.usefixtures("local_ray")
def test_a_cluster_without_an_autoscaler_has_no_node_groups() -> None:
    assert autoscaler_node_groups() == []


def test_a_running_trial_names_its_actor() -> None:
    trial = Trial("any", stub=True)
    assert worker_actor(trial) is None
    trial.temporary_state.ray_actor = actor = object()
    assert worker_actor(trial) is actor


def test_an_ended_trial_is_emptied() -> None:
    trial = Trial("any", stub=True, config={"task": "large"})
    trial.update_last_result({"training_iteration": 1, "loss": 0.5, "reports": ["large"]})
    assert trial.run_metadata.metric_analysis
    discard_trial_data(trial)
    assert b"large" not in cloudpickle.dumps(
        [trial.run_metadata.__dict__, trial.config, trial.evaluated_params]
    )
    assert not trial.run_metadata.metric_analysis
    assert not trial.run_metadata.metric_n_steps


class Unpicklable(OmittedFromSnapshots, FIFOScheduler):  # type: ignore[misc]
    callback: Callable[[], Any]


def test_a_snapshot_omits_the_adapters() -> None:
    scheduler = Unpicklable()
    scheduler.callback = iter([1]).__next__
    assert type(pickle.loads(cloudpickle.dumps(scheduler))) is object  # noqa: S301 (our own)


def test_the_token_of_local_clusters_is_private(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from ray._private.authentication import authentication_token_setup as setup

    monkeypatch.setenv("HOME", str(tmp_path))
    protect_token()
    setup.generate_and_save_token()
    token = tmp_path / ".ray" / "auth_token"
    token.chmod(0o644)
    protect_token()
    assert token.stat().st_mode & 0o777 == 0o600


def test_a_job_claims_a_working_directory_of_its_own() -> None:
    source = (RAY / "_private" / "worker.py").read_text("utf-8")
    assert "job_config._runtime_env_has_working_dir()" in source
    assert isolated_job_config()._runtime_env_has_working_dir() is True
