"""From a trial of an experiment to a model that can be taken away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celltune.data_prep.config import DataConfig
from celltune.data_prep.dataset.tensorized import PreparedData
from celltune.data_prep.errors import DataError
from celltune.data_prep.text.encoder import TextReader, TextRules
from celltune.data_prep.types import Progress
from celltune.models.config import ModelConfig
from celltune.models.errors import CheckpointError
from celltune.search.bundles import bundle as bundles
from celltune.search.bundles.model_card import Facts, card, terms
from celltune.search.config.schema import SearchConfig
from celltune.search.errors import ModelError
from celltune.search.ledger.events import EpochReported
from celltune.search.ledger.state import ExperimentState, TrialRecord
from celltune.search.storage.base import ExperimentFolder, storage_root
from celltune.search.storage.locate import find_experiment
from celltune.search.storage.snapshot import with_budget
from celltune.search.version import VERSION, library_versions
from celltune.search.wording import metric_text

if TYPE_CHECKING:
    from torch import Tensor

    from celltune.models.network.classifier import TextClassifier
    from celltune.search.bundles.predictor import TrainedModel

LARGEST_DIFFERENCE = 1e-4
"""Between a logit of the ONNX file and of the model itself."""


@dataclass(frozen=True)
class TrialModel:
    """A trial's best epoch, with all that belongs to it."""

    folder: ExperimentFolder
    config: SearchConfig
    trial: TrialRecord
    epoch: EpochReported
    classifier: TextClassifier
    data: PreparedData
    evaluations: tuple[Any, ...]
    """What the ledger holds of its parameters on the test split, if anything was measured."""

    @property
    def rules(self) -> TextRules:
        """How its texts were read."""
        return TextRules.of(self.config.data)

    def model(self) -> TrainedModel:
        """As something that answers."""
        from celltune.search.bundles.predictor import TrainedModel

        reader = TextReader(self.rules, self.data.words)
        return TrainedModel(self.classifier, reader, self.data.classes)


def load_model(
    source: Path | str, *, trial: int | None = None, storage: Path | str | None = None
) -> TrainedModel:
    """Open a trained model: a bundle's folder, or an experiment's best trial.

    Args:
        source: the folder of a bundle, or the name of an experiment. A text with a slash in it,
            or a folder that holds a bundle, is a bundle.
        trial: which trial of an experiment; None: the leader.
        storage: the folder of experiments; None: $CELLTUNE_STORAGE or ~/celltune_results.

    Raises:
        InputError: there is neither, or it can't be used.
    """
    path = Path(source).expanduser()
    if bundles.is_bundle(path) or isinstance(source, Path) or "/" in source:
        if trial is not None:
            raise ModelError(f"{path} is a bundle, which holds one model; leave --trial out.")
        return bundles.load(path)
    return load_trial_model(find_experiment(source, storage_root(storage)), trial).model()


def export(
    name: str,
    output: Path | str,
    *,
    trial: int | None = None,
    onnx: bool = False,
    storage: Path | str | None = None,
    progress: Progress | None = None,
) -> TrialModel:
    """Write a trial's model as a bundle (see `search.bundle`).

    Args:
        name: of the experiment.
        output: the folder to write: a new or an empty one.
        trial: which trial; None: the leader. Its best epoch by the experiment's metric is taken.
        onnx: write model.onnx as well, after onnxruntime gave the same logits.
        storage: the folder of experiments; None: $CELLTUNE_STORAGE or ~/celltune_results.
        progress: told about data that have to be prepared again.

    Raises:
        InputError: something given can't be used; nothing was written.
    """
    path = Path(output).expanduser()
    bundles.check_free(path)
    taken = load_trial_model(find_experiment(name, storage_root(storage)), trial, progress)
    extra = {bundles.ONNX: _onnx(taken.classifier)} if onnx else {}
    config = taken.config
    facts = Facts(
        experiment=name,
        config=config,
        trial=taken.trial,
        epoch=taken.epoch,
        model=taken.classifier.config,
        classes=taken.data.classes,
        info=taken.data.info,
        evaluations=taken.evaluations,
        files=(*extra,),
    )
    written = bundles.BundleConfig(
        model=taken.classifier.config,
        text=taken.rules,
        classes=taken.data.classes,
        origin=_origin(name, taken),
    )
    tensors = dict(taken.classifier.state_dict())
    words = tuple(taken.data.words)
    bundles.write(
        bundles.Bundle(written, words, tensors, card(facts), terms(config.data), extra), path
    )
    return taken


def _origin(name: str, taken: TrialModel) -> dict[str, Any]:
    return {
        "experiment": name,
        "trial": taken.trial.number,
        "epoch": taken.epoch.epoch,
        "metric": taken.config.metric,
        "metrics": dict(taken.epoch.metrics),
        "params": dict(taken.trial.params),
        "data": {"fingerprint": taken.data.fingerprint, **taken.data.info},
        "celltune": VERSION,
        "versions": library_versions(),
    }


@dataclass(frozen=True)
class BestEpoch:
    """A trial's best epoch as it lies on the storage, without its data."""

    config: SearchConfig
    state: ExperimentState
    trial: TrialRecord
    epoch: EpochReported
    model: ModelConfig
    tensors: Mapping[str, Tensor]
    """By the names of the classifier's parameters."""
    classes: int


def load_best_epoch(folder: ExperimentFolder, number: int | None) -> BestEpoch:
    """Open a trial's best epoch.

    Raises:
        InputError: there is no such trial, epoch, or checkpoint.
    """
    state = folder.state()
    config = with_budget(folder.config(), state)
    trial = _chosen(folder, config, state, number)
    epoch = trial.best(config.metric)
    if epoch is None:
        raise ModelError(
            f"Trial {trial.number} of '{folder.name}' has no finished epoch, so there is no model "
            f"of it ({trial.error or trial.status}). {_with_epochs(state, config)}"
        )
    tensors, meta = _checkpoint(folder, trial, epoch)
    try:
        model = ModelConfig.model_validate(meta.get("model"))
        return BestEpoch(config, state, trial, epoch, model, tensors, int(meta["num_classes"]))
    except (ValueError, KeyError, TypeError) as error:
        raise _unfit(folder, trial, epoch, error) from error


def load_trial_model(
    folder: ExperimentFolder, number: int | None, progress: Progress | None = None
) -> TrialModel:
    """Open a trial's best epoch with its data.

    Raises:
        InputError: as `saved`, or the data are gone.
    """
    found = load_best_epoch(folder, number)
    trial, state = found.trial, found.state
    data = _data(folder, found.config, state, progress)
    try:
        classifier = bundles.build(
            found.model, data.vocabulary_size, data.num_classes, found.tensors
        )
    except ValueError as error:
        raise _unfit(folder, trial, found.epoch, error) from error
    measured = (each for each in getattr(state, "evaluations", ()) if each.number == trial.number)
    return TrialModel(folder, found.config, trial, found.epoch, classifier, data, tuple(measured))


def _unfit(
    folder: ExperimentFolder, trial: TrialRecord, epoch: EpochReported, error: Exception
) -> ModelError:
    return ModelError(
        f"The checkpoint of trial {trial.number}, epoch {epoch.epoch}, of '{folder.name}' doesn't "
        f"fit its data or this version: {error}"
    )


def _chosen(
    folder: ExperimentFolder, config: SearchConfig, state: ExperimentState, number: int | None
) -> TrialRecord:
    if number is None:
        ranked = state.ranked(config.metric)
        if not ranked:
            raise ModelError(
                f"No trial of '{folder.name}' has finished an epoch yet, so there is no model to "
                f"take. See how it stands with: celltune status {folder.arguments()}"
            )
        return ranked[0]
    if not 0 <= number < len(state.trials):
        raise ModelError(
            f"'{folder.name}' has no trial {number}. {_with_epochs(state, config)} All of them: "
            f"celltune leaderboard {folder.arguments()}"
        )
    return state.trials[number]


def _with_epochs(state: ExperimentState, config: SearchConfig) -> str:
    ranked = state.ranked(config.metric)
    if not ranked:
        return "No trial has one yet."
    best = metric_text(config.metric, ranked[0].best_value(config.metric))
    return f"The leader is trial {ranked[0].number}, with {config.metric} {best}."


def _checkpoint(
    folder: ExperimentFolder, trial: TrialRecord, epoch: EpochReported
) -> tuple[dict[str, Any], dict[str, Any]]:
    what = f"Trial {trial.number} of '{folder.name}'"
    if epoch.checkpoint is None:
        raise ModelError(f"{what} was recorded without a checkpoint; choose another with --trial.")
    try:
        tensors, meta = folder.checkpoints(trial.number).load(epoch.checkpoint)
    except CheckpointError as error:
        raise ModelError(
            f"{what} can't be taken: {error} While a search runs a better epoch may just have "
            "replaced it: then try again; else choose another trial with --trial."
        ) from error
    except OSError as error:
        raise ModelError(f"{what} can't be read: {error.strerror}.") from error
    weights = {
        name.removeprefix("model."): values
        for name, values in tensors.items()
        if name.startswith("model.")
    }
    return weights, dict(meta)


def _data(
    folder: ExperimentFolder,
    config: SearchConfig,
    state: ExperimentState,
    progress: Progress | None,
) -> PreparedData:
    """The search's prepared data: of the cache, or prepared again where it isn't there."""
    from celltune.data_prep.preparation.pipeline import find_prepared, prepare

    wanted = state.created.fingerprint if state.created else ""
    found = find_prepared(wanted)
    if found is not None:
        return found
    data = prepare(config.data, progress=progress)
    if data.fingerprint != wanted:
        raise DataError(
            f"the vocabulary of '{folder.name}' can't be had: its prepared data {wanted[:12]} "
            f"aren't in the cache, and {_where(config.data)} now gives {data.fingerprint[:12]}. "
            "Put the original data back, or export on the machine that ran the search"
        )
    return data


def _where(data: DataConfig) -> str:
    return str(data.path or data.source)


def _onnx(classifier: TextClassifier) -> bytes:
    try:
        import onnxruntime

        from celltune.models.network.onnx_export import build_onnx

        content: bytes = build_onnx(classifier).SerializeToString()
    except ImportError as error:
        raise ModelError(
            "--onnx needs onnx and onnxruntime, which aren't installed; run "
            "pip install 'celltune[onnx]', or leave --onnx out."
        ) from error
    except ValueError as error:
        raise ModelError(f"model.onnx can't be written: {error}") from error
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    found = _largest_difference(classifier, session)
    if not found <= LARGEST_DIFFERENCE:
        raise ModelError(
            f"model.onnx can't be trusted: onnxruntime {onnxruntime.__version__} gives logits that "
            f"are off by {found:.2g}, above {LARGEST_DIFFERENCE:g}; nothing was written. Try "
            "another onnxruntime, or leave --onnx out."
        )
    return content


def _largest_difference(
    classifier: TextClassifier, session: Any, lengths: Sequence[int] = (9, 1, 40, 23)
) -> float:
    """Between ONNX's logits and our own, on a batch of drawn words with padding."""
    import numpy as np
    import torch

    vocabulary_size = len(classifier.embedding)
    drawn = np.random.default_rng(0).integers(0, vocabulary_size, (len(lengths), max(lengths)))
    steps = np.array(lengths, np.int64)
    with torch.inference_mode():
        ours = classifier(torch.from_numpy(drawn.T.copy()), torch.from_numpy(steps)).numpy()
    theirs = session.run(["logits"], {"ids": drawn, "lengths": steps})[0]
    return float(np.abs(ours - theirs).max())
