"""Private interfaces of Ray that data_prep uses. Check this module when Ray is upgraded."""

from __future__ import annotations

import ray


def job_has_ended(job_id: str) -> bool:
    """Return whether a Ray job has ended; an unknown job counts as running.

    Without the dashboard, Ray offers no public way to list jobs. Treating an unknown job as running
    wastes memory at worst, whereas the opposite would drop data that a search uses.
    """
    return any(job["JobID"] == job_id and job["IsDead"] for job in ray._private.state.jobs())
