"""Checks and connections that every run of an experiment shares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celltune.search.cluster.ray_environment import set_ray_environment
from celltune.search.config.loading import anchored, parse_config, resolve
from celltune.search.config.schema import SearchConfig
from celltune.search.errors import ConfigError, ExperimentError
from celltune.search.ledger.state import ExperimentState
from celltune.search.runs.view import View
from celltune.search.storage.base import Experiment, Storage
from celltune.search.tracking import follower as tracking

if TYPE_CHECKING:
    from celltune.data_prep.dataset.tensorized import PreparedData


def resolve_for_run(
    config: SearchConfig | Mapping[str, Any] | Path | str,
    overrides: Sequence[str] = (),
    name: str | None = None,
) -> SearchConfig:
    """Resolve a config and check that the libraries of its trackers are installed.

    Raises:
        ConfigError: the config has errors, or a tracker's library is missing.
    """
    return _checked(resolve(config, overrides, name))


def _checked(config: SearchConfig) -> SearchConfig:
    tracking.check(config.tracking)
    return config


_MAY_CHANGE = ("data", "resources", "retries", "trial_timeout", "max_failed", "budget.time")


def config_for_run(folder: Experiment, overrides: Sequence[str]) -> SearchConfig:
    """Read an experiment's config with the overrides of one run.

    Raises:
        ConfigError: an override would change what the experiment's numbers mean.
    """
    config = folder.config()
    for override in overrides:
        if not any(f"{override.partition('=')[0]}.".startswith(f"{key}.") for key in _MAY_CHANGE):
            raise ConfigError(
                f"'{override}' can't be set at a resume: it would change what the numbers of "
                f"'{folder.name}' mean, or has an option of its own (--trials, --max-epochs, "
                f"--target, --patience). Allowed: {', '.join(_MAY_CHANGE)}. For anything else, "
                f"launch a new search, with --from {folder.name}."
            )
    if not overrides:
        return config
    plain = config.model_dump(mode="json")
    return _checked(anchored(parse_config(plain, origin=f"'{folder.name}'", overrides=overrides)))


@contextmanager
def connected_cluster(
    config: SearchConfig, storage: Storage, address: str | None, view: View
) -> Iterator[None]:
    """Be joined to a cluster that can hold a trial of the experiment.

    Raises:
        InputError: the data aren't there, the cluster isn't, it is too small, or a node of it
            doesn't see the storage.
    """
    from celltune.data_prep.sources.registry import check_files_exist

    set_ray_environment()
    from celltune.search.cluster.connection import connected, trial_slots
    from celltune.search.cluster.storage_check import check_storage_shared

    check_files_exist(config.data)
    view.stage(f"Joining the Ray cluster at {address}" if address else "Starting a local Ray")
    with connected(address):
        trial_slots(config.resources)
        check_storage_shared(storage)
        yield


def _prepare(config: SearchConfig, view: View) -> PreparedData:
    from celltune.data_prep.preparation.pipeline import prepare

    return prepare(config.data, progress=view.progress)


def _check_vectors(config: SearchConfig, data: PreparedData) -> None:
    size = config.space.fixed.get("embedding_size")
    searched = "embedding_size" in config.space.searched
    if data.vectors is not None and (searched or size not in (None, data.vectors.shape[1])):
        raise ConfigError(
            f"space.embedding_size is {'searched' if searched else size}, but the word vectors of "
            f"data.vectors have {data.vectors.shape[1]} numbers each. Leave embedding_size out, or "
            f"fix it at {data.vectors.shape[1]}."
        )


def check_same_data(folder: Experiment, state: ExperimentState, data: PreparedData) -> None:
    """Refuse to mix data.

    Raises:
        ExperimentError: the data aren't those that the experiment was launched on.
    """
    recorded = state.created.fingerprint if state.created else ""
    if recorded != data.fingerprint:
        raise ExperimentError(
            f"The experiment '{folder.name}' was launched on other data: its fingerprint is "
            f"{recorded[:12]}, the data now has {data.fingerprint[:12]}. Mixing the two would make "
            "its numbers meaningless. Put the original data back, or launch a new experiment."
        )
