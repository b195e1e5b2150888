"""Published models: their configs, and the experiments that contain their results.

Each model is an experiment with one trial in the folder `compared` of the storage. The experiment's
name contains a digest of its config and scale, so a model whose config changed is trained again.
Each seed of a model is a retraining of its trial.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from celltune.data_prep.config import DataConfig
from celltune.data_prep.errors import DataError
from celltune.data_prep.sources.factory import check_files_exist
from celltune.models.errors import CheckpointError
from celltune.search.config.published import Published
from celltune.search.config.schema import SearchConfig
from celltune.search.errors import ConfigError, OptionError
from celltune.search.evaluation.checkpoints import LAST, curve_of, retraining_name
from celltune.search.ledger.evaluations import EvaluationFailed, EvaluationReported
from celltune.search.ledger.state import ExperimentState
from celltune.search.runs.session import checked_config
from celltune.search.storage.base import Experiment, Storage
from celltune.search.storage.locate import open_storage
from celltune.spelling import closest_match

COMPARED = "compared"
"""Folder of the storage that contains the experiments."""


@dataclass(frozen=True)
class PublishedModel:
    """A published model, and the experiment that trains it here."""

    config: SearchConfig
    published: Published
    uses_stand_in: bool
    """True if other data replaces that of the source because its files are missing."""
    scale: float
    """Share of the documents that is used."""
    experiment: Experiment

    def state(self) -> ExperimentState:
        """Return the state of the experiment; an empty one if it was not created yet."""
        experiment = self.experiment
        return experiment.state() if experiment.is_complete() else ExperimentState()

    def results(self) -> dict[int, EvaluationReported]:
        """Return the result of each seed that was trained and scored."""
        return {
            event.seed: event
            for event in self.state().evaluations
            if isinstance(event, EvaluationReported)
        }

    def failures(self) -> dict[int, EvaluationFailed]:
        """Return the last failure of each seed without a result."""
        done = self.results()
        return {
            event.seed: event
            for event in self.state().evaluations
            if isinstance(event, EvaluationFailed) and event.seed not in done
        }

    def seeds(self, number: int) -> list[int]:
        """Return the first seeds of the model: that of its config, and those that follow it."""
        return list(range(self.config.seed, self.config.seed + number))


@dataclass(frozen=True)
class Training:
    """A published model with one of its seeds."""

    model: PublishedModel
    seed: int

    def epoch_seconds(self) -> list[float]:
        """Return the duration of each epoch in the checkpoint of a training that was interrupted.

        Raises:
            OSError: the storage cannot be read.
        """
        name = retraining_name(self.seed, self.model.published.learned_from) + LAST
        try:
            curve = curve_of(self.model.experiment.checkpoints(0).load(name)[1])
        except CheckpointError:
            return []
        return [epoch["seconds"] for epoch in curve]


def load_published_models(
    path: Path,
    *,
    scale: float,
    only: Sequence[str] = (),
    overrides: Sequence[str] = (),
    storage: Path | str | None = None,
) -> list[PublishedModel]:
    """Load the configs of published models.

    Args:
        path: a config, or a folder of configs.
        scale: share of the documents that is used, above 0 and at most 1.
        only: names of the configs to load; empty: all of the folder.
        overrides: changes of every config, each `key.path=value` or `~key.path`.
        storage: folder or URI of the experiments; None: $CELLTUNE_STORAGE or ~/celltune_results.

    Raises:
        OptionError: there is no config, or none with one of the names.
        ConfigError: a config is invalid, or does not describe a single published model.
    """
    files = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
    if not files:
        raise OptionError(
            f"The folder {path} contains no .yaml file. Name a folder of configs, such as "
            "configs/seeds."
        )
    by_name = {file.stem: file for file in files}
    for name in only:
        if name not in by_name:
            raise OptionError(
                f"`only` is '{name}', which is no config in '{path}'. "
                f"{closest_match(name, by_name)}"
            )
    compared = open_storage(storage) / COMPARED
    selected = [by_name[name] for name in dict.fromkeys(only)] or files
    return [_load_published_model(file, scale, overrides, compared) for file in selected]


def _load_published_model(
    file: Path, scale: float, overrides: Sequence[str], storage: Storage
) -> PublishedModel:
    config = checked_config(file, overrides)
    published = config.published
    if published is None:
        raise ConfigError(
            f"The config {file} has no section 'published', so there are no reported results to "
            "compare with. Add one."
        )
    if config.space.searched:
        raise ConfigError(
            f"The config {file} searches {', '.join(config.space.searched)}, but a published model "
            "has a single value for each hyperparameter. Fix these values, or launch a search."
        )
    stand_in = published.stand_in
    uses_stand_in = False
    if stand_in is not None and not _has_data(config.data):
        uses_stand_in = True
        config = config.model_copy(update={"data": stand_in.anchored()})
    name = f"{config.name}-{_digest(config, scale)}"
    return PublishedModel(config, published, uses_stand_in, scale, storage.experiment(name))


def _has_data(data: DataConfig) -> bool:
    """Return whether the files that a config names exist."""
    vectors = data.vectors.path if data.vectors else None
    try:
        check_files_exist(data)
    except DataError:
        return False
    return vectors is None or vectors.exists()


def _digest(config: SearchConfig, scale: float) -> str:
    # Only keys that affect the training, and no defaults, so that a new key changes no digest.
    relevant = config.model_dump_json(
        include={
            **dict.fromkeys(("name", "seed", "metric", "data", "space"), True),
            "budget": {"max_epochs"},
            "published": {"learned_from", "keep"},
        },
        exclude_defaults=True,
    )
    return hashlib.sha256(f"{scale!r} {relevant}".encode()).hexdigest()[:8]
