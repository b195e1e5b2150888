"""The config of an experiment: data + space + budget + resources + storage, from YAML."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from celltune.data_prep.config import DataConfig
from celltune.search.config.durations import Duration
from celltune.search.config.published import Published
from celltune.search.config.space import Space, parse_space
from celltune.search.types import Metric

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""What an experiment may be called: it becomes a folder's name."""

_STRICT = ConfigDict(
    extra="forbid",
    frozen=True,
    strict=True,
    allow_inf_nan=False,
    use_attribute_docstrings=True,
    validate_default=True,
)


class Budget(BaseModel):
    """How much is tried."""

    model_config = _STRICT

    trials: int = Field(20, ge=1)
    """How many configurations are tried."""
    max_epochs: int = Field(8, ge=1)
    """Epochs that the best trials get."""
    time: Duration | None = None
    """How long one run (a launch or a resume) may take, as seconds or as 90s, 30m, 2h; trials under
    way then stay unfinished, and a resume goes on with them; null: no limit."""
    target: float | None = None
    """The search ends as soon as a trial's metric is this good; null: never."""
    patience: int | None = Field(None, ge=1)
    """No trial is begun once this many trials after the best one have ended without beating it;
    null: never."""


class EarlyStopping(BaseModel):
    """ASHA: poor trials stop early (see `search.scheduler`)."""

    model_config = _STRICT

    grace_period: int = Field(1, ge=1)
    """Epochs that every trial gets before it can be stopped."""
    reduction_factor: float = Field(3.0, gt=1, le=100)
    """About 1 in this many trials goes on at each rung."""
    by: Metric = "valid_loss"
    """What trials are compared by at a rung, by the best they had until there. The loss says more
    about a trial's end than the accuracy does while an epoch is much (see decision 20)."""


class Sampler(BaseModel):
    """Optuna's TPE, which proposes what to try next."""

    model_config = _STRICT

    startup_trials: int = Field(10, ge=1)
    """Trials drawn at random before TPE begins to model them."""


class Resources(BaseModel):
    """What a trial runs on."""

    model_config = _STRICT

    cpus_per_trial: float = Field(1.0, gt=0)
    """CPUs of one trial; below 1 several trials share one."""
    gpus_per_trial: float = Field(0.0, ge=0)
    """GPUs of one trial; 0.25 lets four trials share one."""
    memory_per_trial_gb: float | None = Field(None, gt=0)
    """Memory of one trial in GB (1e9 bytes), beyond what its process and the shared data take: no
    more trials run on a node than it has memory for, and a trial that wants more is set back with
    the reason (see retries); null: no limit."""
    concurrent_trials: int | None = Field(None, ge=1)
    """At most this many trials side by side; null: as many as the cluster can hold."""

    data_memory_gb: float | None = Field(None, gt=0)
    """Ceiling for all prepared data in the cluster's memory, in GB (1e9 bytes): before a set comes
    the least recently used ones go, never one that a search uses; null: no ceiling."""

    @model_validator(mode="after")
    def _whole_above_one(self) -> Resources:
        for name in ("cpus_per_trial", "gpus_per_trial"):
            value = getattr(self, name)
            if value > 1 and value != int(value):
                raise ValueError(f"{name} must be whole when it is above 1, is {value:g}")
        return self


class Tracking(BaseModel):
    """Where a search is followed beside its ledger (see `search.tracking`)."""

    model_config = _STRICT

    tensorboard: bool | str = False
    """The folder for TensorBoard's files; true: one in the experiment's own; false: none."""
    mlflow: str | None = None
    """The tracking URI of an MLflow server or store; null: none."""

    @field_validator("mlflow")
    @classmethod
    def _no_password(cls, uri: str | None) -> str | None:
        if uri is not None and re.match(r"https?://[^/]*@", uri):
            raise PydanticCustomError(
                "password",
                "must not hold a name or password, which the experiment's folder would keep; set "
                "$MLFLOW_TRACKING_USERNAME and $MLFLOW_TRACKING_PASSWORD",
            )
        return uri

    def anchored(self) -> Tracking:
        """The same with an absolute folder, so that a resume from elsewhere finds it."""
        if not isinstance(self.tensorboard, str):
            return self
        folder = Path(self.tensorboard).expanduser().absolute()
        return self.model_copy(update={"tensorboard": str(folder)})


class SearchConfig(BaseModel):
    """A whole experiment."""

    model_config = _STRICT

    name: str = Field(pattern=f"^{NAME.pattern}$")
    """What the experiment is called; also its folder's name."""
    seed: int = Field(1, ge=0, lt=2**32)
    """Seed of the sampler and of every trial's weights and batches."""
    metric: Metric = "valid_accuracy"
    """What decides: valid_accuracy (more is better) or valid_loss (less is better)."""
    retries: int = Field(2, ge=0)
    """How often a trial goes on from its newest checkpoint, after its worker died (a lost node),
    hung, had too little memory, or raised an error, before it counts as failed. A loss that is no
    longer a number comes again from the same checkpoint, so such a trial fails at once."""
    trial_timeout: Duration | None = None
    """A trial that gives no epoch for so long hangs: its worker is killed and it is set back (see
    retries). As seconds or as 90s, 30m, 2h; null: never."""
    max_failed: float = Field(0.5, ge=0, le=1)
    """The search stops when more than this share of budget.trials has failed; 1: never."""
    data: DataConfig
    """What is learned from."""
    space: Annotated[
        Space,
        PlainValidator(parse_space),
        PlainSerializer(lambda space: space.to_yaml(), return_type=dict[str, Any]),
    ]
    """What is tried."""
    budget: Budget = Budget()
    """How much is tried."""
    early_stopping: EarlyStopping | None = EarlyStopping()
    """How poor trials are stopped early; null: never."""
    sampler: Sampler = Sampler()
    """How the next trial is proposed."""
    resources: Resources = Resources()
    """What a trial runs on."""
    tracking: Tracking = Tracking()
    """Where the search is followed beside its ledger."""
    published: Published | None = None
    """What others reported of this model, for celltune compare; a search doesn't look at it."""

    @model_validator(mode="after")
    def _target_is_a_share(self) -> SearchConfig:
        target = self.budget.target
        if self.metric == "valid_accuracy" and target is not None and not 0 < target <= 1:
            raise ValueError(
                f"budget.target is {target:g}, but valid_accuracy is a share from 0 to 1: "
                "write 0.9 for 90 %"
            )
        return self

    @model_validator(mode="after")
    def _grace_within_budget(self) -> SearchConfig:
        stopping = self.early_stopping
        if stopping and stopping.grace_period > self.budget.max_epochs:
            raise ValueError(
                f"early_stopping.grace_period is {stopping.grace_period}, "
                f"above budget.max_epochs, which is {self.budget.max_epochs}"
            )
        return self
