"""Export of a linear model on n-grams: the wide part of the data alone.

It is what a search falls back on if a linear baseline is better than its best trial. If the data of
the search has no wide part, one is fitted for the export.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from celltune.data_prep.dataset.tensorized import PreparedData
from celltune.data_prep.errors import DataError
from celltune.data_prep.preparation.pipeline import prepare
from celltune.data_prep.text.encoder import TextRules
from celltune.data_prep.types import JSON, Progress
from celltune.data_prep.wide.model import WideModel
from celltune.data_prep.wide_config import WideConfig
from celltune.models.config import ModelConfig
from celltune.search.bundles.bundle import (
    MODEL_CARD,
    TERMS,
    check_output_folder,
    user_path,
    write_bundle,
)
from celltune.search.bundles.bundle_config import BundleConfig
from celltune.search.bundles.linear_card import linear_card
from celltune.search.bundles.model_card import data_terms
from celltune.search.config.schema import SearchConfig
from celltune.search.ledger.state import ExperimentState
from celltune.search.storage.base import Experiment
from celltune.search.storage.locate import find_experiment
from celltune.search.storage.prepared_data import load_prepared
from celltune.search.version import VERSION, library_versions


@dataclass(frozen=True)
class LinearModel:
    """The linear model of an experiment."""

    experiment: str
    """Name of the experiment."""
    config: SearchConfig
    """Config of the experiment, whose data has a wide part."""
    state: ExperimentState
    data: PreparedData
    """The data that the model was fitted on."""
    wide: WideModel

    @property
    def info(self) -> dict[str, float]:
        """Number of n-grams in total and of each kind, penalty, and scores on validation."""
        return cast("dict[str, float]", self.data.info["wide"])

    @property
    def settings(self) -> WideConfig:
        """Settings that the model was fitted with."""
        return cast("WideConfig", self.config.data.wide)

    @property
    def valid_accuracy(self) -> float:
        """Accuracy on the validation split."""
        return self.info["valid_accuracy"]

    @property
    def valid_loss(self) -> float:
        """Mean cross-entropy on the validation split."""
        return self.info["valid_loss"]


def export_linear(
    name: str,
    output: Path | str,
    *,
    storage: Path | str | None = None,
    progress: Progress | None = None,
) -> LinearModel:
    """Export the linear model of an experiment to a folder of its own, a bundle.

    It is the wide part of the data (`data.wide`), with the default settings if the data has none.

    Args:
        name: name of the experiment.
        output: the folder to write; it must be new or empty.
        storage: folder or URI of the experiments; None: $CELLTUNE_STORAGE or ~/celltune_results.
        progress: called while data is prepared.

    Raises:
        InputError: an argument is invalid, or the original data is not available or has changed;
            nothing was written.
    """
    path = user_path(output, "output")
    check_output_folder(path)
    model = load_linear_model(find_experiment(name, storage), progress)
    config = BundleConfig(
        model=ModelConfig(wide="only"),
        text=TextRules.of(model.config.data),
        classes=model.data.classes,
        origin=_origin(model),
    )
    pages = {
        MODEL_CARD: linear_card(model).encode(),
        TERMS: data_terms(model.config.data).encode(),
    }
    write_bundle(path, config, model.data.words, {}, pages, model.wide)
    return model


def load_linear_model(experiment: Experiment, progress: Progress | None = None) -> LinearModel:
    """Load the wide part of an experiment's data, or fit one.

    Args:
        experiment: the experiment.
        progress: called while data is prepared.

    Raises:
        InputError: the original data is not available or has changed.
    """
    snapshot = experiment.snapshot(check_running=False)
    config, created = snapshot.config, snapshot.state.created
    data = load_prepared(
        experiment.name, config.data, created.fingerprint if created else "", progress
    )
    if data.wide is not None:
        return LinearModel(experiment.name, config, snapshot.state, data, data.wide)
    # The wide part reads the original texts. It needs no word vectors, which may take minutes.
    settings = config.data.model_copy(update={"wide": WideConfig(), "vectors": None})
    config = config.model_copy(update={"data": settings})
    with_wide = prepare(settings, progress=progress)
    if with_wide.wide is None or not _same_documents(data, with_wide):
        raise DataError(
            f"{settings.path or settings.source} has changed since '{experiment.name}' was "
            "launched, so no linear model can be fitted to its documents. Restore the original "
            "data."
        )
    return LinearModel(experiment.name, config, snapshot.state, with_wide, with_wide.wide)


def _same_documents(data: PreparedData, other: PreparedData) -> bool:
    """Return whether the labels of both splits are equal."""
    return all(
        np.array_equal(own.labels, others.labels)
        for own, others in ((data.train, other.train), (data.valid, other.valid))
    )


def _origin(model: LinearModel) -> dict[str, JSON]:
    return {
        "experiment": model.experiment,
        "params": {"wide": "only"},
        "metrics": {"valid_accuracy": model.valid_accuracy},
        "data": {"fingerprint": model.data.fingerprint, **model.data.info},
        "celltune": VERSION,
        "versions": dict(library_versions()),
    }
