"""What the events of a ledger have to satisfy together with the config of the experiment.

The fields of each event are valid (`ledger.fields`), and the events do not contradict each other
(`ledger.state`). Here they are compared with the config: what ranks trials, samples hyperparameters
or builds models relies on it.
"""

from __future__ import annotations

from collections.abc import Mapping

from celltune.printable import printable, quoted
from celltune.search.config.schema import SearchConfig
from celltune.search.config.space import Space
from celltune.search.errors import LedgerError
from celltune.search.ledger.events import PriorTrial
from celltune.search.ledger.state import ExperimentState, TrialRecord
from celltune.search.types import ParameterValue

_MEASURED = ("valid_accuracy", "valid_loss")
"""Metrics that every epoch has, whatever the search optimizes."""


def check_state(config: SearchConfig, state: ExperimentState, location: str) -> None:
    """Check that a state is that of a search with this config.

    Args:
        config: the config that the experiment was launched with.
        state: the state after all events of its ledger.
        location: the experiment's address, for messages.

    Raises:
        LedgerError: it is not; the message names the trial and the value.
    """
    required = dict.fromkeys([*_MEASURED, *config.reported_metrics])
    max_epochs = (state.budget or config.budget).max_epochs
    for trial in state.trials:
        problem = (
            _missing_metric(trial, required)
            or _outside(config, trial)
            or _above_budget(trial, max_epochs)
        )
        if problem:
            raise _contradiction(location, problem)
    for prior in state.prior.trials if state.prior else ():
        if problem := _prior_outside(config.space, prior):
            raise _contradiction(location, problem)


def _contradiction(location: str, problem: str) -> LedgerError:
    return LedgerError(
        f"The ledger of {location} contradicts its config: {problem}. Nothing was changed. Restore "
        "the ledger and the config from copies."
    )


def _missing_metric(trial: TrialRecord, required: Mapping[str, None]) -> str:
    for epoch in trial.epochs:
        missing = required.keys() - epoch.metrics.keys()
        if missing:
            return f"epoch {epoch.epoch} of trial {trial.number} has no {min(missing)}"
    return ""


def _outside(config: SearchConfig, trial: TrialRecord) -> str:
    """Return which hyperparameter of a trial no trial of this search can have; empty if none."""
    space, first = config.space, config.first_trials
    given = first[trial.number] if trial.number < len(first) else {}
    for name, value in trial.params.items():
        possible = given[name] == value if name in given else space.allows(name, value)
        if not possible:
            return _outside_text(name, value, f"trial {trial.number}")
    # Trials of published models also record hyperparameters that have no effect in them.
    expected = space.recorded(trial.params, given) or {}
    if not expected or expected.keys() - trial.params.keys():
        return f"trial {trial.number} does not have the hyperparameters of its space"
    return ""


def _above_budget(trial: TrialRecord, max_epochs: int) -> str:
    if trial.max_epochs <= max_epochs:  # A budget never shrinks.
        return ""
    return f"trial {trial.number} has up to {trial.max_epochs:,} epochs, its budget {max_epochs:,}"


def _prior_outside(space: Space, prior: PriorTrial) -> str:
    for name, value in prior.params.items():
        if name not in space.searched or not space.allows(name, value):
            return _outside_text(name, value, f"trial {prior.number} of the warm start")
    return ""


def _outside_text(name: str, value: ParameterValue, trial: str) -> str:
    return f"{printable(name, 40)} of {trial} is {quoted(value)}, which its space does not allow"
