"""The config of an experiment: everything that a user specifies in its YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    Field,
    PlainSerializer,
    PlainValidator,
    field_validator,
    model_validator,
)

from celltune.data_prep.config import DataConfig
from celltune.data_prep.types import check_local_path
from celltune.search.config.durations import Duration
from celltune.search.config.problems import shown
from celltune.search.config.published import Published
from celltune.search.config.settings import (
    SELECTORS,
    STRICT,
    EarlyStoppingSettings,
    MetricName,
    SamplerSettings,
)
from celltune.search.config.space import Space
from celltune.search.config.space_parsing import parse_first_trials, parse_space
from celltune.search.ledger.fields import NAME, NAME_RULE
from celltune.search.objective import objective_metric
from celltune.search.types import ParameterValue, is_wide_only


class Budget(BaseModel):
    """The limits of a search."""

    model_config = STRICT

    trials: int = Field(20, ge=1)
    """Number of trials."""
    max_epochs: int = Field(8, ge=1)
    """Maximum number of epochs of a trial."""
    time: Duration | None = None
    """Time limit of one run (a launch or a resume): seconds, or a number with a unit, such as 90s,
    30m or 2h. Trials that are running at the limit stay unfinished; a resume continues them. null:
    no limit."""
    target: float | None = None
    """The search ends as soon as a trial's metric reaches this value. null: no target."""
    patience: int | None = Field(None, ge=1)
    """No new trials are started after this many trials in a row have ended without improving on the
    best one. null: never."""
    repeat: bool = False
    """Whether trials may repeat a configuration, which differs only by its seed. If not, the search
    ends when every configuration of the space was tried, even if trials are left."""
    epoch_patience: int | None = Field(None, ge=1)
    """A trial is completed after this many epochs in a row without improving the metric on its own
    best epoch, although it has epochs left. null: it trains all of them, unless it is pruned."""


class Resources(BaseModel):
    """Resources of the trials and of the prepared data."""

    model_config = STRICT

    cpus_per_trial: float = Field(1.0, gt=0)
    """CPUs per trial: a whole number, or a fraction below 1 to run several trials on one CPU. The
    trials of a worker (see trials_per_worker) share them."""
    gpus_per_trial: float = Field(0.0, ge=0)
    """GPUs per trial: a whole number, or a fraction below 1 that divides a GPU; 0.25 runs four
    trials on one GPU. Of several GPUs, a trial uses the first. The trials of a worker (see
    trials_per_worker) share them."""
    memory_per_trial_gb: float | None = Field(None, gt=0)
    """Memory per trial in GB (1e9 bytes), in addition to the memory of the worker process and of
    the shared data. A node runs only as many trials as fit into its memory. A trial that exceeds
    the limit is stopped and retried (see retries). A worker of several trials may use this much for
    each, and all of them are stopped if they exceed it together. null: no limit."""
    concurrent_trials: int | None = Field(None, ge=1)
    """Maximum number of trials that run at the same time, rounded down to full workers (see
    trials_per_worker). null: as many as fit into the cluster."""
    trials_per_worker: int = Field(1, ge=1)
    """Number of trials that a worker process trains at the same time, as one batched model (see
    docs/packs.md). They have the same shape: they differ only in hyperparameters such as
    learning_rate and dropout, which docs/packs.md lists. On a CPU they are trained one after the
    other, because packed trials are not faster there."""

    data_memory_gb: float | None = Field(None, gt=0)
    """Maximum size, in GB (1e9 bytes), of all prepared data sets in the cluster's memory. The least
    recently used ones are removed first, but never one that a search is using. null: no limit."""

    @model_validator(mode="after")
    def _check_whole_above_one(self) -> Resources:
        for name in ("cpus_per_trial", "gpus_per_trial"):
            value = getattr(self, name)
            if value > 1 and value != int(value):
                raise ValueError(
                    f"resources.{name} is {value:g}. Above 1, it must be a whole number."
                )
        return self

    @model_validator(mode="after")
    def _check_worker_fits(self) -> Resources:
        trials, limit = self.trials_per_worker, self.concurrent_trials
        if limit is not None and trials > limit:
            raise ValueError(
                f"resources.trials_per_worker is {trials}, but resources.concurrent_trials allows "
                f"only {limit} at the same time. Lower trials_per_worker or raise "
                "concurrent_trials."
            )
        return self


class Tracking(BaseModel):
    """Services that record the search in addition to its ledger."""

    model_config = STRICT

    tensorboard: bool | str = False
    """Folder of the TensorBoard log files; true: a folder within the experiment's folder; false:
    no log files."""
    mlflow: str | None = None
    """Tracking URI of an MLflow server or store; null: none."""

    @field_validator("tensorboard", mode="before")
    @classmethod
    def _check_flag_or_folder(cls, value: Any) -> Any:
        # Without this, pydantic reports one error for each member of the union.
        if not isinstance(value, (bool, str)):
            raise ValueError(f"is {shown(value)}. It must be true, false, or a folder.")  # noqa: TRY004
        return check_local_path(value)

    def anchored(self) -> Tracking:
        """Return a copy with an absolute TensorBoard folder, valid in any working directory."""
        if not isinstance(self.tensorboard, str):
            return self
        folder = Path(self.tensorboard).expanduser().absolute()
        return self.model_copy(update={"tensorboard": str(folder)})


class SearchConfig(BaseModel):
    """The config of an experiment."""

    model_config = STRICT

    name: str
    """Name of the experiment and of its folder: letters, digits, dots, hyphens and underscores."""
    seed: int = Field(1, ge=0, lt=2**32)
    """Seed of the sampler and of each trial's weights, batches and dropout."""
    metric: MetricName = "valid_accuracy"
    """Metric by which trials are ranked: valid_accuracy, valid_loss (smaller is better),
    valid_macro_f1 (mean F1 of the classes), valid_balanced_accuracy (their mean recall),
    valid_auroc (area under the ROC curve, for two classes), or one that an installed package adds.
    Equal values are ordered by the validation loss."""
    threshold: MetricName | None = None
    """Metric for which the probability from which on class 1 of two is predicted is chosen on the
    validation split after every epoch, usually the metric that ranks: valid_accuracy,
    valid_macro_f1, valid_balanced_accuracy, or one of a package that depends on the predicted
    classes only. All of these metrics are then measured with it. null: the most probable class is
    predicted."""
    calibration: Literal["temperature"] | None = None
    """Calibration of the probabilities of exported models: temperature divides the logits by a
    number that minimizes the validation loss (Guo et al. 2017). The metrics that rank trials do not
    change. null: none."""
    retries: int = Field(2, ge=0)
    """Number of times that a trial is retried from its newest checkpoint after its worker died,
    hung, ran out of memory or raised an error. After that the trial has failed. A trial whose loss
    is not finite fails at once, because a retry would diverge again."""
    trial_timeout: Duration | None = None
    """Time limit of one epoch: seconds, or a number with a unit, such as 90s, 30m or 2h. A trial
    that exceeds it is stopped and retried (see retries). If a worker trains several trials, the
    limit applies to an epoch of all of them together. null: no limit."""
    max_failed: float = Field(0.5, ge=0, le=1)
    """The search ends when the share of budget.trials that have failed exceeds this value; 1:
    never."""
    data: DataConfig
    """The data set and how it is prepared."""
    space: Annotated[
        Space,
        PlainValidator(parse_space),
        PlainSerializer(lambda space: space.to_yaml(), return_type=dict[str, Any]),
    ]
    """The hyperparameters: fixed values, choices and ranges."""
    first_trials: Annotated[
        tuple[Mapping[str, ParameterValue], ...],
        PlainValidator(parse_first_trials),
        PlainSerializer(lambda trials: [dict(trial) for trial in trials], return_type=list[Any]),
    ] = ()
    """The first trials of the search, in this order, such as [{wide: only}]: a list of mappings of
    hyperparameters to single values, which may be outside of `space`. The sampler proposes the
    searched hyperparameters that a trial does not name. These trials count as trials of the
    budget. The sampler does not learn from those outside of the space."""
    budget: Budget = Budget()
    """The limits of the search."""
    early_stopping: Annotated[
        EarlyStoppingSettings | None,
        PlainValidator(SELECTORS["early_stopping"].parse),
        PlainSerializer(SELECTORS["early_stopping"].dump, return_type=dict[str, Any] | None),
    ] = Field(default_factory=dict, validate_default=True)
    """The rule that stops trials early, and its settings; null: all trials train to the end."""
    sampler: Annotated[
        SamplerSettings,
        PlainValidator(SELECTORS["sampler"].parse),
        PlainSerializer(SELECTORS["sampler"].dump, return_type=dict[str, Any] | None),
    ] = Field(default_factory=dict, validate_default=True)
    """The sampler that proposes the hyperparameters of each trial, and its settings."""
    resources: Resources = Resources()
    """Resources of the trials and of the prepared data."""
    baselines: bool = True
    """Whether a run also fits the linear baselines to the training split and scores them on the
    validation split, in a process of low priority beside the trials (see docs/evaluation.md)."""
    tracking: Tracking = Tracking()
    """Services that record the search in addition to its ledger."""
    published: Published | None = None
    """Published results of the same model, with which the comparison of evaluated models compares
    this experiment's. A search ignores this section; it belongs to the config because it describes
    the model that `space` reproduces. null: none."""

    @property
    def reported_metrics(self) -> tuple[str, ...]:
        """The metrics that the search needs after every epoch."""
        needed = [self.metric]
        if self.early_stopping is not None:
            needed.append(self.early_stopping.by)
        return tuple(dict.fromkeys(needed))

    @property
    def varied(self) -> frozenset[str]:
        """The hyperparameters in which trials with a network can differ."""
        networks = [trial for trial in self.first_trials if not is_wide_only(trial)]
        return frozenset(self.space.searched).union(*networks)

    def values(self, name: str) -> tuple[ParameterValue, ...]:
        """Return all values that a hyperparameter which is not a range has in any trial."""
        given = [trial[name] for trial in self.first_trials if name in trial]
        return tuple(dict.fromkeys([*self.space.values(name), *given]))

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if not NAME.fullmatch(name):
            raise ValueError(f"is {shown(name)}. {NAME_RULE}")
        return name

    @model_validator(mode="after")
    def _check_target(self) -> SearchConfig:
        target = self.budget.target
        metric = objective_metric(self.metric)
        low, high = metric.bounds
        # The worst possible value is excluded: every trial would reach it.
        attainable = target is not None and (
            low < target <= high if metric.direction == "maximize" else low <= target < high
        )
        if target is not None and not attainable:
            hint = " Write 0.9 for 90 %." if metric.style == "percent" else ""
            raise ValueError(
                f"budget.target is {target:g}, but {self.metric} is between {low:g} and "
                f"{high:g}.{hint}"
            )
        return self

    @model_validator(mode="after")
    def _check_threshold(self) -> SearchConfig:
        if self.threshold is not None and objective_metric(self.threshold).of_confusion is None:
            raise ValueError(
                f"threshold is {self.threshold}, which does not depend on the predicted classes "
                "only. Set it to valid_macro_f1, valid_balanced_accuracy or valid_accuracy, or "
                "remove it."
            )
        return self

    @model_validator(mode="after")
    def _check_early_stopping(self) -> SearchConfig:
        if self.early_stopping is not None:
            self.early_stopping.check_budget(self.budget.max_epochs)
        return self

    @model_validator(mode="after")
    def _check_wide(self) -> SearchConfig:
        used = [value for value in self.values("wide") if value != "none"]
        if used and self.data.wide is None:
            raise ValueError(
                f"space.wide or first_trials contain '{used[0]}', but data.wide is not set, so "
                "there is no wide part. Set data.wide to true."
            )
        if self.data.wide is not None and not used:
            raise ValueError(
                "data.wide is set, but no trial uses the wide part. Set space.wide to add, set "
                "first_trials to [{wide: only}], or remove data.wide."
            )
        return self

    @model_validator(mode="after")
    def _check_trials_differ(self) -> SearchConfig:
        repeated = any(is_wide_only(trial) for trial in self.first_trials)
        most = len(self.first_trials) + (not repeated)
        if is_wide_only(self.space.fixed) and self.budget.trials > most:
            raise ValueError(
                f"budget.trials is {self.budget.trials}, but space.wide is 'only', so all trials "
                f"{'after first_trials ' if self.first_trials else ''}are the same model. Set "
                f"budget.trials to {most}, or space.wide to add."
            )
        return self
