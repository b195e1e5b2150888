"""The launched config, in the ledger and in its file."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import yaml

from celltune.search.config.loading import dump_config
from celltune.search.errors import ConfigError, ExperimentError, LedgerError
from celltune.search.ledger.events import ExperimentCreated
from celltune.search.storage.launched import created_event, launched_config
from tests.search.simulated_search import make_config

CONFIG = make_config()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "experiment.yaml").write_text(dump_config(CONFIG), "utf-8")
    return tmp_path / "experiment.yaml"


def created(**changes: Any) -> ExperimentCreated:
    event = created_event(CONFIG, at=1.0, fingerprint="f", valid_reviews=3)
    return event.model_copy(update=changes)


def test_the_event_contains_the_config_and_an_id(file: Path) -> None:
    first, second = created(), created()
    assert first.experiment_id != second.experiment_id
    assert (first.schema_version, first.valid_reviews) == (2, 3)
    assert launched_config(file, first, "demo") == CONFIG


def test_a_file_that_means_the_same_is_accepted(file: Path) -> None:
    text = file.read_text("utf-8")
    assert "retries: 2\n" in text
    file.write_text("# mine\n" + text.replace("retries: 2\n", "retries: !!int '2'\n"), "utf-8")
    assert launched_config(file, created(), "demo") == CONFIG


@pytest.mark.parametrize(
    ("line", "edited", "message"),
    [
        ("seed: 3", "seed: 2", r"has seed '2' instead of '3'\. Its results"),
        ("metric: valid_accuracy", "metric: mine", "has metric 'mine' instead of 'valid_accuracy'"),
        ("seed: 3", "", "has seed nothing instead of '3'"),
        ("retries: 2", "retries: 2\nmore: 1", "has more '1' instead of nothing"),
        ("seed: 3", 'seed: "3\\e"', r"has seed '3\\x1b' instead of '3'"),
    ],
)
def test_an_edited_file_is_rejected(line: str, edited: str, message: str, file: Path) -> None:
    text = file.read_text("utf-8")
    assert f"\n{line}\n" in text
    file.write_text(text.replace(f"\n{line}\n", f"\n{edited}\n", 1), "utf-8")
    with pytest.raises(ExperimentError, match=message) as raised:
        launched_config(file, created(), "demo")
    assert "undo the edit, or remove the file" in str(raised.value)
    assert "`overrides` of a resume" in str(raised.value)
    assert "`warm_start`" in str(raised.value)


def test_a_message_names_three_differences(file: Path) -> None:
    text = file.read_text("utf-8").replace("seed: 3\n", "seed: 9\n")
    file.write_text(text.replace("true", "false") + "a: 1\nb: 2\n", "utf-8")
    with pytest.raises(ExperimentError, match=r"has seed .*; .*; .*; \.\.\.\. Its results"):
        launched_config(file, created(), "demo")


@pytest.mark.parametrize("content", [None, b"", b"\xff", b"{", b"- a\n"])
def test_a_missing_or_damaged_file_is_replaced_by_the_ledger(
    content: bytes | None, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    intact = file.read_bytes()
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert launched_config(file, created(), "demo") == CONFIG
    assert "experiment.yaml" in caplog.text
    assert "The copy in the ledger is used." in caplog.text
    assert (file.read_bytes() if file.exists() else None) == content
    with caplog.at_level(logging.WARNING):
        assert launched_config(file, created(), "demo", restore=True) == CONFIG
    assert "was restored from the ledger" in caplog.text
    assert file.read_bytes() == intact


def test_a_file_that_cannot_be_restored_is_an_error(file: Path) -> None:
    file.unlink()
    file.mkdir()
    with pytest.raises(ExperimentError, match="cannot be restored from the ledger: Is a directory"):
        launched_config(file, created(), "demo", restore=True)


def test_an_invalid_config_in_the_ledger_is_damage(file: Path) -> None:
    for config in ({}, {"name": "demo", "seed": -1}, {"name": {"a": []}}):
        with pytest.raises(
            LedgerError, match=r"The config in the ledger of 'demo' has .*error"
        ) as e:
            launched_config(file, created(config=config), "demo")
        assert "\n" not in str(e.value)


def test_experiments_of_older_releases_have_the_file_only(file: Path) -> None:
    older = ExperimentCreated(at=1.0, fingerprint="f")
    file.write_text(file.read_text("utf-8").replace("seed: 3\n", "seed: 9\n"), "utf-8")
    assert launched_config(file, older, "demo").seed == 9
    file.unlink()
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        launched_config(file, older, "demo")


def test_searches_that_could_repeat_configurations_still_can(file: Path) -> None:
    """Older releases repeated them, and recorded no key about it."""
    config = CONFIG.model_dump(mode="json")
    del config["budget"]["repeat"]
    older = created(config=config)
    assert launched_config(file, older, "demo").budget.repeat
    file.unlink()
    assert launched_config(file, older, "demo", restore=True).budget.repeat
    assert launched_config(file, older, "demo").budget.repeat
    without_config = ExperimentCreated(at=1.0, fingerprint="f")
    file.write_text(yaml.safe_dump(config), "utf-8")
    assert launched_config(file, older, "demo").budget.repeat
    assert launched_config(file, without_config, "demo").budget.repeat
    assert not launched_config(file, created(), "demo").budget.repeat
