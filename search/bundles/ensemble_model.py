"""The ensemble of an experiment, loaded from the checkpoints of its members."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from celltune.data_prep.dataset.tensorized import PreparedData
from celltune.data_prep.text.encoder import TextEncoder, TextRules
from celltune.data_prep.types import Progress
from celltune.data_prep.wide.model import WideModel
from celltune.models.config import ModelConfig
from celltune.models.errors import CheckpointError
from celltune.search.bundles.trial_model import checked_decision
from celltune.search.config.schema import SearchConfig
from celltune.search.decisions import Decision
from celltune.search.ensembles.members import find_origins
from celltune.search.errors import ExperimentError, ModelError
from celltune.search.ledger.ensembles import EnsembleMember
from celltune.search.ledger.events import EnsembleSelected
from celltune.search.ledger.state import ExperimentState
from celltune.search.storage.base import Experiment
from celltune.search.storage.prepared_data import load_prepared
from celltune.search.tuning.trial import check_origin

if TYPE_CHECKING:
    from torch import Tensor

    from celltune.models.network.trained import Network
    from celltune.search.bundles.predictor import TrainedModel


@dataclass(frozen=True, eq=False)
class MemberModel:
    """The model of a member."""

    member: EnsembleMember
    architecture: ModelConfig
    weights: dict[str, Tensor]
    """By the names of the classifier's parameters; empty for the wide part alone."""


@dataclass(frozen=True, eq=False)
class EnsembleModel:
    """An ensemble, and what its experiment recorded about it."""

    experiment: str
    """Name of the experiment that it belongs to."""
    config: SearchConfig
    """Config of that experiment, with the budget in force."""
    state: ExperimentState
    selected: EnsembleSelected
    members: tuple[MemberModel, ...]
    data: PreparedData
    """The data that all members were trained on."""

    @property
    def text_rules(self) -> TextRules:
        """Rules by which the texts of the data were converted to word ids."""
        return TextRules.of(self.config.data)

    @property
    def decision(self) -> Decision:
        """How the averaged probabilities become probabilities and predicted classes.

        Raises:
            ModelError: the ledger has a threshold, and the models more than two classes.
        """
        return checked_decision(self.selected.fitted, self.data.num_classes, self.experiment)

    @property
    def wide(self) -> WideModel | None:
        """The wide part, if a member reads its outputs.

        Raises:
            ModelError: a member needs it, and the prepared data does not contain it.
        """
        if all(model.architecture.wide == "none" for model in self.members):
            return None
        if self.data.wide is None:
            raise ModelError(
                f"The ensemble of '{self.experiment}' has a wide part, but the prepared data "
                f"(fingerprint {self.data.fingerprint[:12]}) has none. Remove it from the cache, "
                "so that it is prepared again."
            )
        return self.data.wide

    def trained(self) -> TrainedModel:
        """Return the model for predictions.

        Raises:
            ModelError: the weights of a member do not match its data or this version of celltune.
        """
        from celltune.models.network.averaged import averaged
        from celltune.models.network.trained import load_network
        from celltune.search.bundles.predictor import TrainedModel

        sizes = self.data.vocabulary_size, self.data.num_classes
        networks: list[tuple[float, Network]] = []
        for model in self.members:
            arrays = {name: tensor.numpy() for name, tensor in model.weights.items()}
            try:
                network = load_network(model.architecture, *sizes, arrays)
            except ValueError as error:
                raise self._unusable(model.member, str(error)) from error
            networks.append((model.member.weight, network))
        reader = TextEncoder(self.text_rules, self.data.words)
        network, classes = averaged(networks), self.data.classes
        return TrainedModel(network, reader, classes, self.wide, self.decision)

    def _unusable(self, member: EnsembleMember, reason: str) -> ModelError:
        return _cannot_load(self.experiment, member, f"{reason.rstrip('.')}.")


def check_no_trial(trial: int | None) -> None:
    """Check that a model is not requested as a trial and as the ensemble at once.

    Raises:
        ModelError: it is.
    """
    if trial is not None:
        raise ModelError(f"`trial` is {trial}, but `ensemble` was given as well. Omit one of them.")


def load_ensemble_model(experiment: Experiment, progress: Progress | None = None) -> EnsembleModel:
    """Load the members of the ensemble that was selected last.

    Args:
        experiment: the experiment.
        progress: called while the data is prepared again because the cache does not contain it.

    Raises:
        InputError: there is no ensemble, a member is not in its experiment, its checkpoint is
            missing or damaged, or the data is not available.
    """
    snapshot = experiment.snapshot(check_running=False)
    selected = snapshot.state.ensemble
    if selected is None:
        raise ExperimentError(
            f"The experiment '{experiment.name}' has no ensemble. Select one first, or use a trial."
        )
    origins = find_origins(experiment, selected.members)
    members = tuple(
        _load(experiment.name, member, origin)
        for member, (origin, _) in zip(selected.members, origins, strict=True)
    )
    data = load_prepared(experiment.name, snapshot.config.data, selected.fingerprint, progress)
    return EnsembleModel(experiment.name, snapshot.config, snapshot.state, selected, members, data)


def _load(ensemble: str, member: EnsembleMember, origin: Experiment) -> MemberModel:
    """Load a member of the ensemble of the experiment named `ensemble`."""
    try:
        tensors, meta = origin.checkpoints(member.number).load(member.checkpoint)
        check_origin(meta, member.params, epoch=member.epoch, seed=None)
        architecture = _architecture(meta)
    except (CheckpointError, ValueError) as error:
        raise _cannot_load(ensemble, member, str(error)) from error
    except OSError as error:
        raise _cannot_load(ensemble, member, f"{error.strerror}.") from error
    prefix = "model."
    weights = {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
    return MemberModel(member, architecture, weights)


def _architecture(meta: dict[str, Any]) -> ModelConfig:
    return ModelConfig.model_validate(meta.get("model"))


def _cannot_load(experiment: str, member: EnsembleMember, reason: str) -> ModelError:
    origin = experiment if member.experiment is None else member.experiment
    return ModelError(
        f"The ensemble of '{experiment}' cannot be loaded, because epoch {member.epoch} of trial "
        f"{member.number} of '{origin}' cannot be used: {reason} Select the ensemble again."
    )
