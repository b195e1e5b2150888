"""The data and the config of a launch: what a user gives, completed by what is proposed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from celltune.data_prep.io.files import default_cache_dir
from celltune.search.config.loading import read_yaml
from celltune.search.config.schema import SearchConfig
from celltune.search.errors import OptionError
from celltune.search.interactive.data_frames import ordered_classes, stored_frame
from celltune.search.runs.view import View
from celltune.search.setup.inspection import is_data

Data = pd.DataFrame | Path | str
"""Labelled texts, or the path of a file that contains them."""

_OF_FILES = (
    "source",
    "path",
    "format",
    "delimiter",
    "quoting",
    "header",
    "encoding",
    "sheet",
    "test_format",
)
"""Keys of `data` that describe the files which a DataFrame or another file replaces."""


@dataclass(frozen=True, eq=False)
class OwnData:
    """Labelled texts that are given as arguments."""

    data: Data | None = None
    test: Data | None = None
    valid: Data | None = None
    text: str | None = None
    """Name of the column with the texts."""
    label: str | None = None
    """Name of the column with the labels."""


def settled(
    config: SearchConfig | Mapping[str, Any] | Data,
    own: OwnData,
    overrides: Sequence[str],
    *,
    name: str | None,
    time: float | str | None,
    view: View,
) -> SearchConfig | Mapping[str, Any] | Path | str:
    """Return the config of a launch.

    Args:
        config: a config in any form, or a data set for which one is proposed.
        own: the data and its columns, as far as they are given.
        overrides: of the launch.
        name: of the experiment; None for one after the file, or after the time.
        time: for the search, in seconds or with a unit; None for no limit.
        view: shows what is inferred and proposed.

    Raises:
        InputError: an argument or the data is invalid.
    """
    if isinstance(config, pd.DataFrame) or (
        isinstance(config, (Path, str)) and is_data(Path(config))
    ):
        if own.data is not None:
            raise OptionError(
                "`data` is given twice: as the first argument, too. Omit one of them, or give a "
                "config as the first argument."
            )
        from celltune.search.cli.init import proposal_for

        if name is None and isinstance(config, pd.DataFrame):
            name = f"search-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
        section = _section({}, {"path": ("config", config), **_splits(own)}, own)
        return proposal_for(section, overrides, view, name=name, time=time)
    if all(value is None for value in vars(own).values()):
        return config
    plain = _plain(config)
    section = dict(plain.get("data") or {})
    if own.data is not None:
        section = {key: value for key, value in section.items() if key not in _OF_FILES}
    return {**plain, "data": _section(section, {"path": ("data", own.data), **_splits(own)}, own)}


def _splits(own: OwnData) -> dict[str, tuple[str, Data | None]]:
    return {"test_path": ("test", own.test), "valid_path": ("valid", own.valid)}


def _section(
    section: Mapping[str, Any], given: Mapping[str, tuple[str, Data | None]], own: OwnData
) -> dict[str, Any]:
    """Return the section `data` with the given data and columns.

    Args:
        section: its other keys.
        given: the name of the argument and its value, by the key of a path.
        own: contains the columns.
    """
    columns = {"text_column": own.text, "label_column": own.label}
    new = {**section, **{key: name for key, name in columns.items() if name is not None}}
    kept = [new[key] for key in (*columns, "id_column", "group_column") if new.get(key) is not None]
    needed = kept if all(new.get(key) is not None for key in columns) else None
    for key, (argument, value) in given.items():
        if isinstance(value, pd.DataFrame):
            new[key] = str(stored_frame(argument, value, needed, default_cache_dir()))
            classes = ordered_classes(value, new.get("label_column")) if key == "path" else None
            if classes is not None and new.get("classes") is None:
                new["classes"] = classes
        elif isinstance(value, (Path, str)):
            new[key] = str(value)
        elif value is not None:
            raise OptionError(
                f"`{argument}` is a {type(value).__name__}. Give a pandas DataFrame, or the path "
                "of a file."
            )
    return new


def _plain(config: SearchConfig | Mapping[str, Any] | Path | str) -> Mapping[str, Any]:
    if isinstance(config, SearchConfig):
        return config.model_dump(mode="json")
    return config if isinstance(config, Mapping) else read_yaml(Path(config))
