"""From facts about a data set to a config with the reason of each choice.

The choices are those of configs/csv.yaml, which docs/quality.md measures; what depends on the data
and on the time is chosen here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celltune.data_prep.preparation.survey import Survey
from celltune.search.config.durations import format_duration
from celltune.search.config.yaml_text import parse_yaml
from celltune.search.setup.choices import (
    MACRO_F1,
    Choice,
    class_comments,
    metric_choice,
    split_comments,
    token_choices,
)
from celltune.search.setup.durations import Effort
from celltune.search.setup.effort import LARGE, Chosen, choose_effort
from celltune.search.setup.page import commented_yaml
from celltune.search.wording import approximate_duration, counted


@dataclass(frozen=True)
class Machine:
    """The computer on which the search will run."""

    cores: int
    memory: int
    """Bytes."""


@dataclass(frozen=True)
class Wishes:
    """What the user asks for, besides the data."""

    name: str
    """Of the experiment."""
    seconds: float | None = None
    """Time for the search; None for the usual number of trials without a limit."""


@dataclass(frozen=True)
class Described:
    """What is known about the files of a data set."""

    values: Mapping[str, Any]
    """Keys of the section `data` that were given or inferred, as plain values."""
    reasons: Mapping[str, str]
    """Why an inferred key has its value."""
    counts: Sequence[int]
    """Labelled texts of each class, without those of the files of other splits."""


@dataclass(frozen=True)
class Surveys:
    """What was counted in the documents."""

    words: Survey
    tokens: Survey
    """Of the proposed tokenizer; `words` itself if the tokens are words."""


@dataclass(frozen=True)
class Proposal:
    """A config for a data set."""

    yaml: str
    """The config with comments."""
    seconds: float
    """Expected duration of the search on this machine."""
    reasons: Mapping[str, str]
    """The comments, by dotted path."""

    def lines(self, given: Collection[str] = ()) -> list[str]:
        """Return what was chosen for the data, as lines to show.

        Args:
            given: keys that the user sets to other values, which are not shown as proposed.
        """
        values = self.values
        data, budget = values["data"], values["budget"]
        shown = {
            "data.tokenizer": data["tokenizer"],
            "data.max_tokens": data["max_tokens"],
            "metric": values["metric"],
            "budget": f"{counted(budget['trials'], 'trial')} of up to "
            f"{counted(budget['max_epochs'], 'epoch')}",
        }
        changed = {key for key in shown for each in given if f"{each}.".startswith(f"{key}.")}
        shown = {key: value for key, value in shown.items() if key not in changed}
        if not shown:
            return []
        width = max(map(len, shown))
        reasons = {key: self.reasons.get(key) for key in shown}
        return [
            "Proposed:",
            *(
                f"  {key:<{width}}  {value}" + (f"  ({reason})" if (reason := reasons[key]) else "")
                for key, value in shown.items()
            ),
        ]

    @property
    def values(self) -> Mapping[str, Any]:
        """The config as plain values."""
        loaded: Mapping[str, Any] = parse_yaml(self.yaml)
        return loaded


def proposal_for(
    surveys: Surveys, described: Described, wishes: Wishes, machine: Machine
) -> Proposal:
    """Return a config that suits a data set.

    Args:
        surveys: of its documents.
        described: keys of `data` that stay as they are, also those that would be proposed.
        wishes: of the user.
        machine: on which the search will run.
    """
    tokens = surveys.tokens
    given = described.values
    wide = given["wide"] not in (False, None) if "wide" in given else None
    chosen = choose_effort(tokens, wishes.seconds, machine.cores, wide=wide)
    effort, train = chosen.effort, int(tokens.counts["train"].sum())
    choices = {
        key: choice
        for key, choice in token_choices(surveys.words, tokens, effort, machine.memory).items()
        if key not in given
    }
    reasons = {
        **split_comments(tokens),
        **{key: choice.reason for key, choice in choices.items()},
        **described.reasons,
    }
    metric = metric_choice(described.counts)
    data = {**given, **_values(choices)}
    has_wide = effort.has_wide
    config = {
        "name": wishes.name,
        "seed": 1,
        "metric": metric.value,
        "data": data,
        "space": {
            **(_WITH_WIDE if has_wide else {}),
            **_space(effort, train),
            **(_WEIGHTS if metric.value == MACRO_F1 else {}),
        },
        "first_trials": [*([_WIDE_ONLY] if has_wide else []), _sound_trial(effort, train)],
        "budget": _budget(effort, wishes),
        "early_stopping": _early_stopping(effort, metric.value),
    }
    comments = {
        "metric": metric.reason,
        **{f"data.{key}": text for key, text in reasons.items()},
        **class_comments(described.counts),
        **_SPACE_COMMENTS,
        "first_trials": "first the linear model alone" if has_wide else "",
        **_budget_comments(chosen, wishes, machine),
    }
    text = commented_yaml(config, comments, _INTRODUCTION)
    return Proposal(text, chosen.seconds, comments)


_INTRODUCTION = (
    "Proposed from the data; every value can be changed. docs/own-data.md explains the choices.",
    "Paths are relative to the working directory.",
)
_SPACE_COMMENTS = {
    "space.wide": "the recurrent part corrects the linear model of data.wide",
    "space.output_scale": "at first only a little",
    "space.class_weights": "balanced: errors on rare classes count as much as those on others",
    "space.decay_epochs": "the learning rate falls to zero in this time",
}
_WITH_WIDE = {"wide": "add", "output_scale": 0.1}
_WIDE_ONLY = {"wide": "only"}
_WEIGHTS = {"class_weights": ["none", "balanced"]}


def _values(choices: Mapping[str, Choice]) -> dict[str, Any]:
    return {key: choice.value for key, choice in choices.items()}


def _decays(effort: Effort, train: int) -> list[int]:
    """Return the epochs in which the learning rate may fall; large data needs fewer of them."""
    return [3] if train >= LARGE else sorted({3, effort.max_epochs})


def _space(effort: Effort, train: int) -> dict[str, Any]:
    return {
        "cell": ["gru", "lstm"],
        "hidden_size": _one_or_more(effort.hidden_sizes),
        "bidirectional": True,
        "readout": "max_mean",
        "dropout": {"low": 0.3, "high": 0.6},
        "embedding_dropout": 0.3,
        "word_dropout": {"low": 0.0, "high": 0.2},
        "optimizer": "adamw",
        "learning_rate": {"low": 1e-3, "high": 5e-3, "log": True},
        "warmup_epochs": 0.5,
        "decay_epochs": _one_or_more(_decays(effort, train)),
        "batch_size": _one_or_more(effort.batch_sizes),
        "weight_average": 0.99,
    }


def _sound_trial(effort: Effort, train: int) -> dict[str, Any]:
    return {
        "cell": "gru",
        "hidden_size": min(64, effort.hidden_sizes[-1]),
        "dropout": 0.5,
        "word_dropout": 0.1,
        "learning_rate": 3e-3,
        "decay_epochs": _decays(effort, train)[-1],
        "batch_size": effort.batch_sizes[-1],
    }


def _one_or_more(values: Any) -> Any:
    return list(values) if len(values) > 1 else values[0]


def _budget(effort: Effort, wishes: Wishes) -> dict[str, Any]:
    budget = {"trials": effort.trials, "max_epochs": effort.max_epochs, "epoch_patience": 2}
    if wishes.seconds is None:
        return budget
    return {**budget, "time": format_duration(wishes.seconds)}


def _early_stopping(effort: Effort, metric: str) -> dict[str, Any] | None:
    if not effort.has_rungs:
        return None
    # Weights of classes raise the loss, by which ASHA compares trials otherwise.
    return {"grace_period": 2, **({"by": metric} if metric == MACRO_F1 else {})}


def _budget_comments(chosen: Chosen, wishes: Wishes, machine: Machine) -> dict[str, str]:
    expected = f"about {approximate_duration(chosen.seconds)} on {counted(machine.cores, 'core')}"
    comments = {
        "budget": expected,
        "budget.epoch_patience": "a trial ends after two epochs without improvement",
        "early_stopping": (
            "ASHA: about a third of the trials continues after two epochs"
            if chosen.effort.has_rungs
            else "with so few trials, ASHA saves less than it costs"
        ),
    }
    if wishes.seconds is not None:
        comments["budget.time"] = "the search stops then; celltune resume continues it"
    return comments
