from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from celltune.search.config.loading import load_config
from celltune.search.errors import ConfigError, OptionError
from celltune.search.evaluation.published_models import load_published_models
from tests.integration.conftest import REPOSITORY
from tests.search.evaluation.published import RAW, load_one, write_config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"published": None}, r"old.yaml has no section 'published', so there are no"),
        (
            {"space": {**RAW["space"], "hidden_size": [4, 8], "cell": ["gru", "rnn"]}},
            "searches cell, hidden_size, but a published model has a single value",
        ),
        ({"published": {"source": ""}}, "published.source is ''"),
        ({"published": {"source": "x", "reported": {"test_acuracy": 0.9}}}, "Did you mean 'test_"),
        (
            {"published": {"source": "x", "reported": {"test_accuracy": 90}}},
            "published.reported.test_accuracy is 90. It must be at most 1",
        ),
    ],
)
def test_config_without_a_published_model_is_rejected(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    space = changes.get("space", RAW["space"])
    path = write_config(tmp_path, **{**changes, "space": {**space, "hidden_size": 4}})
    if "space" in changes:
        path = write_config(tmp_path, **changes)
    with pytest.raises(ConfigError, match=message):
        load_published_models(path, scale=1.0, storage=tmp_path)


def test_empty_folder_and_unknown_name_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"contains no \.yaml file.*configs/seeds"):
        load_published_models(tmp_path, scale=1.0)
    write_config(tmp_path)
    with pytest.raises(OptionError, match=r"`only` is 'odl', .*Did you mean 'old'"):
        load_published_models(tmp_path, scale=1.0, only=["odl"])


def test_configs_are_sorted_unless_they_are_named(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        write_config(tmp_path, name)
    names = [each.config.name for each in load_published_models(tmp_path, scale=1.0)]
    assert names == ["a", "b", "c"]
    selected = load_published_models(tmp_path, scale=1.0, only=["c", "a", "c"])
    assert [each.config.name for each in selected] == ["c", "a"]


def test_experiment_name_depends_on_what_affects_the_training(tmp_path: Path) -> None:
    first = load_one(write_config(tmp_path), tmp_path)
    assert str(first.experiment.storage) == str(tmp_path / "compared")
    reported = {**RAW["published"], "source": "Another", "reported": {}}
    assert (
        load_one(write_config(tmp_path, published=reported), tmp_path).experiment.location
        == first.experiment.location
    )
    others = [
        load_one(write_config(tmp_path), tmp_path, scale=0.5),
        load_one(write_config(tmp_path, seed=2), tmp_path),
        load_one(write_config(tmp_path, published={**RAW["published"], "keep": "best"}), tmp_path),
    ]
    assert len({each.experiment.location for each in [first, *others]}) == 4


def test_stand_in_replaces_missing_data(tmp_path: Path) -> None:
    existing = tmp_path / "existing.csv"
    existing.write_text("text,label\n")
    stand_in = {"source": "csv", "path": str(tmp_path / "other.csv")}
    published = {**RAW["published"], "stand_in": stand_in}
    data = {"source": "csv", "path": str(existing), "test_path": str(tmp_path / "missing.csv")}
    model = load_one(write_config(tmp_path, data=data, published=published), tmp_path)
    assert model.uses_stand_in
    assert model.config.data.path == tmp_path / "other.csv"
    (tmp_path / "missing.csv").write_text("text,label\n")
    model = load_one(write_config(tmp_path, data=data, published=published), tmp_path)
    assert (model.uses_stand_in, model.config.data.path) == (False, existing)
    vectors = {"path": str(tmp_path / "missing.txt")}
    changed = write_config(tmp_path, data={**data, "vectors": vectors}, published=published)
    assert load_one(changed, tmp_path).uses_stand_in


def test_shipped_configs_report_the_values_of_their_sources() -> None:
    """Spot checks; tests/integration checks that all models are there."""
    configs = {
        path.stem: load_config(path) for path in (REPOSITORY / "configs" / "seeds").glob("*.yaml")
    }
    reported = {name: config.published.reported for name, config in configs.items()}
    assert reported["perf-multilayer"].parameters == 3_393_641
    assert reported["zhao-gru"].test_accuracy == 0.8777
    assert reported["sahin-gruh"].seconds == 5 * 3600 + 31 * 60 + 48
    assert not any(reported["sayed-rnn"].model_dump().values())
