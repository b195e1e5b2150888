"""Faults on real processes: `make faults`. They take minutes, so `make test` leaves them out."""

from __future__ import annotations

from tests.integration.conftest import address, celltune, env, shared_cache

__all__ = ["address", "celltune", "env", "shared_cache"]
