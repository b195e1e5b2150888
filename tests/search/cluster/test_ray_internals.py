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
    READ_AT_IMPORT,
    READ_BY_TUNE,
    TUNE_LOGGER,
    TUNE_SUMMARY,
    WIDGET_LOGGER,
    OmittedFromSnapshots,
    autoscaler_node_groups,
    discard_trial_data,
    isolated_job_config,
    protect_token,
    tune_environment,
    worker_actor,
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
