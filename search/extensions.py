"""Extension points of `celltune.search` and their built-in implementations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celltune.registry import Registry

if TYPE_CHECKING:
    from celltune.search.objective import ObjectiveMetric
    from celltune.search.results.formats import LeaderboardFormat
    from celltune.search.storage.base import Storage
    from celltune.search.tuning.base import EarlyStoppingRule, Sampler

METRICS: Registry[ObjectiveMetric] = Registry(
    "metric",
    "celltune.metrics",
    {
        "valid_accuracy": "celltune.search.objective:VALID_ACCURACY",
        "valid_loss": "celltune.search.objective:VALID_LOSS",
        "valid_macro_f1": "celltune.search.objective:VALID_MACRO_F1",
        "valid_balanced_accuracy": "celltune.search.objective:VALID_BALANCED_ACCURACY",
        "valid_auroc": "celltune.search.objective:VALID_AUROC",
    },
)
"""Validation metrics that can decide a search; selected by `metric` and `early_stopping.by`."""

SAMPLERS: Registry[type[Sampler]] = Registry(
    "sampler", "celltune.samplers", {"tpe": "celltune.search.tuning.tpe:TPESampler"}
)
"""Samplers, which propose hyperparameters; selected by `sampler.name`."""

EARLY_STOPPING: Registry[type[EarlyStoppingRule]] = Registry(
    "early-stopping rule",
    "celltune.early_stopping",
    {"asha": "celltune.search.tuning.asha:Asha"},
)
"""Rules that stop trials early; selected by `early_stopping.rule`."""

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
        **dict.fromkeys(("s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs"), _ARROW),
        "file": "celltune.search.storage.local:LocalStorage",
    },
)
"""Storage backends by URI scheme; "local folder" is for addresses without a scheme."""
