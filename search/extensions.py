"""Extension points of `celltune.search` and their built-in implementations."""

from __future__ import annotations

from typing import Any

from celltune.registry import Registry

SAMPLERS: Registry[Any] = Registry(
    "sampler", "celltune.samplers", {"tpe": "celltune.search.tuning.tpe:TPESampler"}
)
"""Samplers, which propose hyperparameters."""
