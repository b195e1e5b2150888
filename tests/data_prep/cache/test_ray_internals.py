"""The private interfaces of Ray that data_prep uses; a failure means that Ray has changed them."""

from __future__ import annotations

import pytest
import ray

from celltune.data_prep.cache.ray_internals import job_has_ended


@pytest.mark.usefixtures("local_ray")
def test_ray_private_state_jobs_lists_the_current_job_as_running() -> None:
    current = ray.get_runtime_context().get_job_id()
    jobs = [job for job in ray._private.state.jobs() if job["JobID"] == current]
    assert [job["IsDead"] for job in jobs] == [False]
    assert not job_has_ended(current)


def test_job_has_ended_if_ray_lists_it_as_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [{"JobID": "01", "IsDead": True}, {"JobID": "02", "IsDead": False}]
    monkeypatch.setattr(ray._private.state, "jobs", lambda: jobs)
    assert job_has_ended("01")
    assert not job_has_ended("02")
    assert not job_has_ended("unknown")
