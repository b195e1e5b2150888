"""The experiments that the members of an ensemble come from."""

from __future__ import annotations

from collections.abc import Sequence

from celltune.search.errors import ExperimentError
from celltune.search.ledger.ensembles import EnsembleMember
from celltune.search.storage.base import Experiment
from celltune.search.storage.locate import find_experiment
from celltune.search.storage.snapshot import Snapshot


def find_origins(
    experiment: Experiment, members: Sequence[EnsembleMember]
) -> list[tuple[Experiment, Snapshot]]:
    """Return the experiment of each member, and what it contains now.

    A ledger says what the members are, but only their own experiments can confirm it.

    Args:
        experiment: the experiment that the ensemble belongs to.
        members: its members.

    Raises:
        InputError: the experiment of a member is missing or damaged, or does not have this model.
    """
    found: dict[str | None, tuple[Experiment, Snapshot]] = {}
    for member in members:
        name = member.experiment
        if name not in found:
            origin = experiment if name is None else find_experiment(name, experiment.storage)
            found[name] = origin, origin.snapshot(check_running=False)
        origin, snapshot = found[name]
        try:
            snapshot.state.check_member(member)
        except ValueError as error:
            raise ExperimentError(
                f"The ensemble of '{experiment.name}' does not fit '{origin.name}': {error}. "
                "Select the ensemble again."
            ) from error
    return [found[member.experiment] for member in members]
