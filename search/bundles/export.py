"""Export of a trial's model, and loading of exported models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celltune.data_prep.dataset.tensorized import PreparedData
from celltune.data_prep.text.encoder import TextEncoder
from celltune.data_prep.types import Progress
from celltune.data_prep.wide.model import WideModel
from celltune.search.bundles.bundle import (
    MODEL_CARD,
    ONNX,
    TERMS,
    check_alone,
    check_output_folder,
    is_bundle,
    user_path,
    write_bundle,
)
from celltune.search.bundles.bundle_config import BundleConfig
from celltune.search.bundles.bundle_reading import load_bundle
from celltune.search.bundles.ensemble_model import check_no_trial, load_ensemble_model
from celltune.search.bundles.model_card import data_terms, model_card
from celltune.search.bundles.trial_model import TrialModel, load_data, load_trial_model
from celltune.search.errors import ModelError
from celltune.search.storage.base import Experiment
from celltune.search.storage.locate import find_experiment
from celltune.search.version import VERSION, library_versions

if TYPE_CHECKING:
    from celltune.models.network.classifier import TextClassifier
    from celltune.search.bundles.predictor import TrainedModel

LARGEST_DIFFERENCE = 1e-4
"""Largest allowed difference between a logit of the ONNX file and of the model itself."""


def load_model(
    source: Path | str,
    *,
    trial: int | None = None,
    ensemble: bool = False,
    storage: Path | str | None = None,
) -> TrainedModel:
    """Load a trained model from a bundle, or a trial or the ensemble of an experiment.

    Args:
        source: path of a bundle, or name of an experiment. A `Path`, a string that contains a
            slash, and a folder that contains a bundle are taken as bundles.
        trial: number of the experiment's trial; None: the best trial.
        ensemble: load the experiment's ensemble instead of a trial.
        storage: folder or URI of the experiments; None: $CELLTUNE_STORAGE or ~/celltune_results.

    Raises:
        InputError: there is no such bundle, experiment or trial, or its model cannot be loaded.
    """
    path = user_path(source, "source")
    if is_bundle(path) or isinstance(source, Path) or "/" in source:
        check_alone(path, trial=trial, ensemble=ensemble)
        return load_bundle(path)
    if ensemble:
        check_no_trial(trial)
        return load_ensemble_model(find_experiment(source, storage)).trained()
    return load_with_data(find_experiment(source, storage), trial)[0]


def load_with_data(
    experiment: Experiment, trial: int | None = None
) -> tuple[TrainedModel, PreparedData]:
    """Load the model of a trial's best epoch, and the prepared data that it was trained on.

    Args:
        experiment: the experiment.
        trial: number of the trial; None: the best trial.

    Raises:
        InputError: there is no such trial, or its model or its data cannot be loaded.
    """
    from celltune.models.network.trained import WideNetwork, network_of
    from celltune.search.bundles.predictor import TrainedModel

    model = load_trial_model(experiment, trial)
    data = load_data(model)
    network = WideNetwork() if model.classifier is None else network_of(model.classifier)
    reader = TextEncoder(model.text_rules, data.words)
    wide = _wide_part(model, data)
    return TrainedModel(network, reader, data.classes, wide, model.decision), data


def export(
    name: str,
    output: Path | str,
    *,
    trial: int | None = None,
    onnx: bool = False,
    storage: Path | str | None = None,
    progress: Progress | None = None,
) -> TrialModel:
    """Export the model of a trial's best epoch to a folder of its own, a bundle.

    A bundle contains the weights and the wide part (safetensors), the config, the vocabulary, a
    model card and the terms of the data. It needs neither the experiment nor its data. Load it with
    `load_model`.

    Args:
        name: name of the experiment.
        output: the folder to write; it must be new or empty.
        trial: number of the trial; None: the best trial by the experiment's metric.
        onnx: also write the model as model.onnx. The file is written only if onnxruntime computes
            the same logits from it.
        storage: folder or URI of the experiments; None: $CELLTUNE_STORAGE or ~/celltune_results.
        progress: called while the data is prepared again because the cache does not contain them.

    Raises:
        InputError: an argument is invalid or the model cannot be loaded; nothing was written.
    """
    path = user_path(output, "output")
    check_output_folder(path)
    model = load_trial_model(find_experiment(name, storage), trial)
    data = load_data(model, progress)
    extra = {ONNX: _onnx_file(model)} if onnx else {}
    config = BundleConfig(
        model=model.architecture,
        text=model.text_rules,
        classes=data.classes,
        **model.decision.metrics(),
        origin=_origin(model, data),
    )
    pages = {
        MODEL_CARD: model_card(model, data, has_onnx=onnx).encode(),
        TERMS: data_terms(model.config.data).encode(),
    }
    weights = {} if model.classifier is None else model.classifier.state_dict()
    wide = _wide_part(model, data)
    write_bundle(path, config, data.words, weights, {**pages, **extra}, wide)
    return model


def _wide_part(model: TrialModel, data: PreparedData) -> WideModel | None:
    """Return the wide part that a model reads the outputs of."""
    if model.architecture.wide == "none":
        return None
    if data.wide is None:
        raise ModelError(
            f"Trial {model.trial.number} of '{model.experiment}' has a wide part, but the prepared "
            f"data (fingerprint {data.fingerprint[:12]}) has none. Remove it from the cache, so "
            "that it is prepared again."
        )
    return data.wide


def _origin(model: TrialModel, data: PreparedData) -> dict[str, Any]:
    return {
        "experiment": model.experiment,
        "trial": model.trial.number,
        "epoch": model.epoch.epoch,
        "metric": model.config.metric,
        "metrics": dict(model.epoch.metrics),
        "params": dict(model.trial.params),
        "data": {"fingerprint": data.fingerprint, **data.info},
        "celltune": VERSION,
        "versions": library_versions(),
    }


def _onnx_file(model: TrialModel) -> bytes:
    """Return the model as an ONNX file that onnxruntime was checked with."""
    classifier = model.classifier
    if classifier is None:
        raise ModelError(
            f"Trial {model.trial.number} of '{model.experiment}' is the wide part alone, a linear "
            "model on n-grams of text, which has no ONNX form. Nothing was written. Omit `onnx`, "
            "or choose another `trial`."
        )
    try:
        import onnxruntime

        from celltune.models.network.onnx_export import build_onnx

        exported = build_onnx(classifier, temperature=model.decision.temperature)
        content: bytes = exported.SerializeToString()
    except ImportError as error:
        raise ModelError(
            "`onnx` needs the packages onnx and onnxruntime, which are not installed. Run pip "
            "install 'celltune[onnx]', or omit `onnx`."
        ) from error
    except ValueError as error:
        raise ModelError(f"model.onnx cannot be written: {error}") from error
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    difference = _largest_difference(classifier, session)
    # Negated, so that a NaN is rejected too.
    if not difference <= LARGEST_DIFFERENCE:
        raise ModelError(
            f"model.onnx is not reliable: the logits of onnxruntime {onnxruntime.__version__} "
            f"differ from the model's by {difference:.2g}, more than {LARGEST_DIFFERENCE:g}. "
            "Nothing was written. Install another version of onnxruntime, or omit `onnx`."
        )
    return content


def _largest_difference(
    classifier: TextClassifier, session: Any, lengths: Sequence[int] = (9, 1, 40, 23)
) -> float:
    """Return the largest difference of ONNX's logits from the model's, on a random padded batch."""
    import numpy as np
    import torch

    vocabulary_size = len(classifier.embedding)
    ids = np.random.default_rng(0).integers(0, vocabulary_size, (len(lengths), max(lengths)))
    inputs = {"ids": ids, "lengths": np.array(lengths, np.int64)}
    wide = None
    if classifier.config.wide == "add":
        shape = (len(lengths), len(classifier.output_bias))
        inputs["wide"] = np.random.default_rng(1).normal(0, 3, shape).astype(np.float32)
        wide = torch.from_numpy(inputs["wide"])
    with torch.inference_mode():
        steps = torch.from_numpy(inputs["lengths"])
        expected = classifier(torch.from_numpy(ids.T.copy()), steps, wide=wide).numpy()
    actual = session.run(["logits"], inputs)[0]
    return float(np.abs(expected - actual).max())
