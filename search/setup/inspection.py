"""Reads a data set and proposes a config for it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from celltune.data_prep.config import DataConfig
from celltune.data_prep.inference.infer import Inferred, infer
from celltune.data_prep.preparation.duplicates import duplicates_notes
from celltune.data_prep.preparation.survey import Survey, survey
from celltune.data_prep.types import Progress
from celltune.search.config.durations import parse_duration
from celltune.search.config.loading import parse_config
from celltune.search.errors import OptionError
from celltune.search.ledger.fields import NAME
from celltune.search.setup.choices import (
    MANY,
    SUBWORD_KEYS,
    TEST_SHARE,
    VALID_SHARE,
    VALID_SHARE_OF_MANY,
    VECTORS,
    prefers_subwords,
)
from celltune.search.setup.proposal import (
    Described,
    Machine,
    Proposal,
    Surveys,
    Wishes,
    proposal_for,
)

CONFIG_SUFFIXES = (".yaml", ".yml")
_UNNAMED = "search"


@dataclass(frozen=True)
class Inspection:
    """A data set that was read, and a config for it."""

    proposal: Proposal
    inferred: Inferred
    """What the files say about themselves."""
    survey: Survey
    """Of the proposed splits and tokens."""

    @property
    def warnings(self) -> list[str]:
        """What a user should know about the data, as sentences."""
        train, valid = (int(self.survey.counts[split].sum()) for split in ("train", "valid"))
        notes = duplicates_notes(self.survey.duplicates, train=train, valid=valid)
        return [*self.inferred.warnings, *notes]


def is_data(path: Path) -> bool:
    """Return whether a path that is given in place of a config names a data set."""
    return path.suffix.lower() not in CONFIG_SUFFIXES


def propose(
    data: Mapping[str, Any],
    *,
    name: str | None = None,
    time: str | float | None = None,
    progress: Progress | None = None,
) -> Inspection:
    """Read a data set and propose a config for it.

    Args:
        data: keys of the section `data`, as plain values; at least `path`. They stay as they are.
        name: of the experiment; None for a name after the file.
        time: for the search, in seconds or as 90s, 30m or 2h; None for the usual number of trials.
        progress: called as `progress(stage, done, total)`.

    Raises:
        ConfigError: a key is invalid.
        OptionError: the time is invalid.
        DataError: the data is invalid, or a key cannot be inferred with certainty.
    """
    wishes = Wishes(name or experiment_name(str(data["path"])), _seconds(time))
    given = {**_shares(data, VALID_SHARE), **data}
    inferred = infer(_data_config(wishes.name, given), progress=progress)
    if "valid_size" not in data and sum(inferred.counts["train"].values()) >= MANY:
        # What is said about rare classes depends on the sizes of the splits.
        given = {**_shares(data, VALID_SHARE_OF_MANY), **data}
        inferred = infer(_data_config(wishes.name, given), progress=progress)
    notes = {note.key: note for note in inferred.notes}
    values = _in_order({**given, **{key: note.value for key, note in notes.items()}})
    surveys = _surveys(wishes.name, values, progress)
    described = Described(
        values,
        reasons={key: note.reason for key, note in notes.items()},
        counts=list(inferred.counts["train"].values()),
    )
    return Inspection(
        proposal_for(surveys, described, wishes, this_machine()), inferred, surveys.tokens
    )


def this_machine() -> Machine:
    """Return the cores and the memory that this process can use."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(len(os.sched_getaffinity(0)), memory)


def experiment_name(path: str) -> str:
    """Return a name for an experiment, made of the name of a file without its endings."""
    stem = re.sub(r"(\.[A-Za-z][A-Za-z0-9]{0,7})+$", "", Path(path).name)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:100]
    return name if NAME.fullmatch(name) else _UNNAMED


def _seconds(time: str | float | None) -> float | None:
    try:
        seconds: float | None = parse_duration(time)
    except ValueError as error:
        raise OptionError(f"`time` {error}") from error
    return seconds


def _data_config(name: str, data: Mapping[str, Any]) -> DataConfig:
    """Return the section `data` of a config.

    Raises:
        ConfigError: a key or value is invalid.
    """
    # The rest of the config is any that is valid with these keys.
    space = {"cell": "gru", **({"wide": "add"} if data.get("wide") else {})}
    # Unlabelled texts are accepted, and checked, only if word vectors are learned.
    plain = {"name": name, "data": {"vectors": VECTORS, **data}, "space": space}
    return parse_config(plain, origin="The description of the data").data


def _shares(data: Mapping[str, Any], valid: float) -> dict[str, Any]:
    """Return the shares of the splits without a file of their own."""
    shares = {"valid_path": {"valid_size": valid}, "test_path": {"test_size": TEST_SHARE}}
    missing = (share for key, share in shares.items() if data.get(key) is None)
    return {key: value for share in missing for key, value in share.items()}


def _in_order(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return keys of `data` in the order of their definition, the sizes of splits together."""
    names = [name for name in DataConfig.model_fields if name != "test_size"]
    names.insert(names.index("valid_size") + 1, "test_size")
    return {name: values[name] for name in names if name in values}


def _surveys(name: str, values: Mapping[str, Any], progress: Progress | None) -> Surveys:
    """Count the documents' words and, if too many of them are unknown, also their subwords."""

    def surveyed(extra: Mapping[str, Any]) -> Survey:
        found = survey(_data_config(name, {**extra, **values}), progress=progress)
        if "max_tokens" not in values:
            return found
        return replace(found, lengths=np.minimum(found.lengths, values["max_tokens"]))

    words = surveyed({})
    if "tokenizer" in values or _has_word_vectors(values) or not prefers_subwords(words):
        return Surveys(words, words)
    subwords = surveyed(SUBWORD_KEYS)
    return Surveys(words, subwords if subwords.unknown_share < words.unknown_share else words)


def _has_word_vectors(values: Mapping[str, Any]) -> bool:
    """Return whether vectors from a file are given, which are vectors of words."""
    vectors = values.get("vectors")
    return isinstance(vectors, Mapping) and vectors.get("train") is None
