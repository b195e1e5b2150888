"""Search for the best small recurrent text classifier for labelled data.

    from celltune import launch, resume, experiment, leaderboard, evaluate, export, load_model

Importing this package loads neither Ray, torch, Optuna nor pandas. Each public name is imported
from its module on first use (PEP 562).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celltune.search.bundles.ensemble_export import export_ensemble
    from celltune.search.bundles.export import export, load_model
    from celltune.search.ensembles.ensemble import EnsembleResult, ensemble
    from celltune.search.evaluation.evaluate import EvaluationSettings
    from celltune.search.interactive.result import BestTrial, Result, RunResult
    from celltune.search.interactive.searches import (
        evaluate,
        experiment,
        launch,
        resume,
        shutdown,
    )
    from celltune.search.leaderboard import leaderboard
    from celltune.search.tuning.budget_changes import Changes

_MODULE_BY_NAME = {
    "BestTrial": "celltune.search.interactive.result",
    "Changes": "celltune.search.tuning.budget_changes",
    "EnsembleResult": "celltune.search.ensembles.ensemble",
    "EvaluationSettings": "celltune.search.evaluation.evaluate",
    "Result": "celltune.search.interactive.result",
    "RunResult": "celltune.search.interactive.result",
    "ensemble": "celltune.search.ensembles.ensemble",
    "evaluate": "celltune.search.interactive.searches",
    "experiment": "celltune.search.interactive.searches",
    "export": "celltune.search.bundles.export",
    "export_ensemble": "celltune.search.bundles.ensemble_export",
    "launch": "celltune.search.interactive.searches",
    "leaderboard": "celltune.search.leaderboard",
    "load_model": "celltune.search.bundles.export",
    "resume": "celltune.search.interactive.searches",
    "shutdown": "celltune.search.interactive.searches",
}

__all__ = [
    "BestTrial",
    "Changes",
    "EnsembleResult",
    "EvaluationSettings",
    "Result",
    "RunResult",
    "ensemble",
    "evaluate",
    "experiment",
    "export",
    "export_ensemble",
    "launch",
    "leaderboard",
    "load_model",
    "resume",
    "shutdown",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_BY_NAME:
        raise AttributeError(f"module 'celltune' has no attribute '{name}'")
    value = getattr(import_module(_MODULE_BY_NAME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
