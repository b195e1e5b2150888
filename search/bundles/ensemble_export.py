"""Export of an ensemble."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from celltune.data_prep.types import Progress
from celltune.search.bundles.bundle import (
    MODEL_CARD,
    TERMS,
    check_output_folder,
    user_path,
    write_bundle,
)
from celltune.search.bundles.bundle_config import BundleConfig, BundleMember
from celltune.search.bundles.ensemble_card import ensemble_card
from celltune.search.bundles.ensemble_model import EnsembleModel, load_ensemble_model
from celltune.search.bundles.model_card import data_terms
from celltune.search.storage.locate import find_experiment
from celltune.search.version import VERSION, library_versions


def export_ensemble(
    name: str,
    output: Path | str,
    *,
    storage: Path | str | None = None,
    progress: Progress | None = None,
) -> EnsembleModel:
    """Export the ensemble of an experiment to a folder of its own, a bundle.

    The members share the vocabulary, the text rules and the wide part. Otherwise the bundle is that
    of a single model, and it is loaded and used in the same way.

    Args:
        name: name of the experiment.
        output: the folder to write; it must be new or empty.
        storage: folder or URI of the experiments; None: $CELLTUNE_STORAGE or ~/celltune_results.
        progress: called while the data is prepared again because the cache does not contain it.

    Raises:
        InputError: there is no ensemble, a member cannot be loaded, or the folder cannot be
            written; nothing was written.
    """
    path = user_path(output, "output")
    check_output_folder(path)
    model = load_ensemble_model(find_experiment(name, storage), progress)
    model.trained()  # Checks that the weights of all members match.
    config = BundleConfig(
        members=tuple(
            BundleMember(model=each.architecture, weight=each.member.weight)
            for each in model.members
        ),
        text=model.text_rules,
        classes=model.data.classes,
        **model.decision.metrics(),
        origin=_origin(model),
    )
    tensors = {
        f"{index}.{parameter}": tensor
        for index, each in enumerate(model.members)
        for parameter, tensor in each.weights.items()
    }
    pages = {
        MODEL_CARD: ensemble_card(model).encode(),
        TERMS: data_terms(model.config.data).encode(),
    }
    write_bundle(path, config, model.data.words, tensors, pages, model.wide)
    return model


def _origin(model: EnsembleModel) -> dict[str, Any]:
    return {
        "experiment": model.experiment,
        "ensemble": model.selected.model_dump(mode="json", exclude={"event", "at"}),
        "data": {"fingerprint": model.data.fingerprint, **model.data.info},
        "celltune": VERSION,
        "versions": library_versions(),
    }
