"""Why a trial lost its worker."""

from __future__ import annotations

from typing import Literal

Cause = Literal["lost", "hung", "memory", "raised"]
"""Why a trial lost its worker: the process died, reported no epoch in time, ran out of memory, or
raised an error that a retry may avoid."""

CAUSES: dict[Cause, str] = {
    "lost": "its worker died",
    "hung": "it hung",
    "memory": "it ran out of memory",
    "raised": "it raised an error",
}
"""Descriptions of the causes for a trial, for messages."""

WORKER_CAUSES: dict[Cause, str] = {
    "lost": "died",
    "hung": "hung",
    "memory": "ran out of memory",
    "raised": "raised an error",
}
"""Descriptions of the causes for a worker, for messages."""
