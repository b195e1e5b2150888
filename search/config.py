"""The config of an experiment: data + space + budget + resources + storage, from YAML."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from data_prep.config import DataConfig
from search.durations import Duration
from search.errors import ConfigError
from search.published import Published
from search.remote_path import RemotePath
from search.space import Space, hyperparameters, parse_space
from search.spelling import nearest
from search.state import Metric

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


class _Loader(yaml.SafeLoader):
    """YAML as people write it: 1e-3 is a number, and a key may stand only once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for index, key in enumerate(keys):
            if key in keys[:index]:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key}' stands twice", node.value[index][0].start_mark
                )
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def load_config(path: Path | RemotePath, overrides: Sequence[str] = ()) -> SearchConfig:
    """Read a config file.

    Args:
        path: a YAML file.
        overrides: `key.path=value` each, the value written as in YAML.

    Raises:
        ConfigError: with every mistake in it.
    """
    return parse_config(read_yaml(path), origin=str(path), overrides=overrides)


def parse_config(
    raw: Mapping[str, Any], *, origin: str = "The config", overrides: Sequence[str] = ()
) -> SearchConfig:
    """Read a config that was read from YAML or written as a dict (see `load_config`)."""
    content = _plain_copy(raw)
    for override in overrides:
        _apply_override(content, override)
    try:
        return SearchConfig.model_validate(content)
    except ValidationError as error:
        mistakes = [_describe(line) for line in error.errors()]
        count = "a mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        listed = "\n".join(f"  {mistake}" for mistake in mistakes)
        raise ConfigError(f"{origin} has {count}:\n{listed}") from error


def first_mistake(error: ValidationError) -> str:
    """Say the first of an error's mistakes in words."""
    return _describe(error.errors()[0])


def read_yaml(path: Path | RemotePath) -> Mapping[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises:
        ConfigError: it can't be read or isn't a mapping.
    """
    try:
        content = yaml.load(path.read_text("utf-8"), Loader=_Loader)  # noqa: S506 (a SafeLoader)
    except OSError as error:
        raise ConfigError(f"The config {path} can't be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"The config {path} isn't UTF-8 text: {error.reason}.") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"The config {path} isn't valid YAML: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"The config {path} is nested too deeply to be read.") from error
    if not isinstance(content, dict):
        raise ConfigError(
            f"The config {path} must map keys to values (name, data, space, ...); "
            f"it holds {'nothing' if content is None else type(content).__name__}."
        )
    return content


def dump_config(config: SearchConfig) -> str:
    """Write a config as YAML, with every default spelled out."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _plain_copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain_copy(member) for key, member in value.items()}
    return value


def _apply_override(content: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(
            f"The override '{override}' must have the form key.path=value, "
            "for example budget.trials=40."
        )
    try:
        value = yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"The override '{override}' has no valid YAML value: {error}") from error
    place = content
    for key in keys[:-1]:
        if not isinstance(place.get(key), dict):
            place[key] = {}
        place = place[key]
    place[keys[-1]] = value


def _describe(line: Any) -> str:
    where = [str(part) for part in line["loc"]]
    name = ".".join(where) or "the config"
    if line["type"] == "extra_forbidden":
        return f"{name}: is unknown. {nearest(where[-1], _fields_at(where[:-1]))}"
    if line["type"] == "missing":
        return f"{name}: is missing."
    text = line["msg"].removeprefix("Value error, ")
    text = text[:1].lower() + text[1:]
    value = line["input"]
    hidden = isinstance(value, (Mapping, BaseModel)) or line["type"] == "password"
    shown = "" if hidden else f" (is {value!r})"
    return f"{name}: {text}{shown}"


def _fields_at(where: Sequence[str]) -> tuple[str, ...]:
    if list(where) == ["space"]:
        return hyperparameters()
    model: Any = SearchConfig
    for part in where:
        annotation = model.model_fields[part].annotation
        members = (annotation, *getattr(annotation, "__args__", ()))
        model = next(m for m in members if isinstance(m, type) and issubclass(m, BaseModel))
    return tuple(model.model_fields)
