"""Extension points of `celltune.search` and their built-in implementations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celltune.registry import Registry

if TYPE_CHECKING:
    from celltune.search.results.formats import LeaderboardFormat
    from celltune.search.storage.base import Storage

SAMPLERS: Registry[Any] = Registry(
    "sampler", "celltune.samplers", {"tpe": "celltune.search.tuning.tpe:TPESampler"}
)
"""Samplers, which propose hyperparameters."""

LEADERBOARD_FORMATS: Registry[LeaderboardFormat] = Registry(
    "leaderboard format",
    "celltune.leaderboard_formats",
    {
        "table": "celltune.search.results.formats:as_table",
        "md": "celltune.search.results.formats:as_markdown",
        "csv": "celltune.search.results.formats:as_csv",
        "json": "celltune.search.results.formats:as_json",
        "html": "celltune.search.results.formats:as_html",
        "parquet": "celltune.search.results.formats:as_parquet",
        "latex": "celltune.search.results.formats:as_latex",
    },
)
"""Formats of the leaderboard."""

_ARROW = "celltune.search.storage.arrow:ArrowStorage"

STORAGES: Registry[type[Storage]] = Registry(
    "storage backend",
    "celltune.storages",
    {
        "local folder": "celltune.search.storage.local:LocalStorage",
        **dict.fromkeys(("s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs", "file"), _ARROW),
    },
)
"""Storage backends by URI scheme; "local folder" is for addresses without a scheme."""
