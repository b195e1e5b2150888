"""The config in force of an experiment."""

from __future__ import annotations

from celltune.search.config.schema import SearchConfig
from celltune.search.ledger.state import ExperimentState


def with_budget(config: SearchConfig, state: ExperimentState) -> SearchConfig:
    """Give the config with the budget that the ledger says is in force."""
    if state.budget is None:
        return config
    changes = state.budget.model_dump(include={"trials", "max_epochs", "target", "patience"})
    return config.model_copy(update={"budget": config.budget.model_copy(update=changes)})
