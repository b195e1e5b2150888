"""Commands that print one JSON object: its fields are those of docs/results.md."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from celltune.data_prep.cache import ray_store
from celltune.data_prep.cache.ray_store import PublishedDataset
from celltune.search.cli.app import app
from celltune.search.cli.validation.estimate import estimate_as_json
from celltune.search.ledger.events import BaselineValidated, ExperimentCreated, RunStarted
from celltune.search.ledger.ledger import Ledger
from celltune.search.storage.locate import new_experiment
from tests.search.cli.test_estimate import FOUND
from tests.search.simulated_search import RAW, finished_search, make_config, make_controller

DOCS = Path(__file__).parents[3] / "docs" / "results.md"


@pytest.fixture(autouse=True)
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CELLTUNE_STORAGE", str(tmp_path / "storage"))
    monkeypatch.setenv("CELLTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "storage"


def parsed(*arguments: str, code: int = 0) -> Any:
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == code, done.output
    assert done.stderr == ""
    return json.loads(done.stdout)


def documented(command: str) -> set[str]:
    """Return the fields that the documentation of a command lists, with dots between levels."""
    _, _, text = DOCS.read_text("utf-8").partition(f"### `celltune {command} --json`")
    table = text.partition("###")[0].partition("\n## ")[0]
    cells = re.findall(r"^\| (.*?) \|", table, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([a-z_0-9.\[\]]+)`", cell)}


OPEN = {
    "inferred[].value",
    "fixed",
    "best_params",
    "baselines",
    "data.splits",
    "data_sets[].documents",
}
"""Values of any type, and objects whose names are not fixed."""


def fields(value: Any, name: str = "") -> set[str]:
    """Return the names of all values, with dots between levels and [] for members of lists."""
    if name in OPEN or not isinstance(value, (dict, list)):
        return {name}
    if isinstance(value, list):
        return set().union(*(fields(member, f"{name}[]") for member in value)) or {f"{name}[]"}
    return set().union(*(fields(v, f"{name}.{key}".lstrip(".")) for key, v in value.items()))


def test_list(storage: Path) -> None:
    assert parsed("list") == {"storage": str(storage), "experiments": []}
    finished_search(storage, make_config())
    (storage / "x").mkdir()
    (storage / "x" / "experiment.yaml").write_text("x")
    value = parsed("list")
    demo, damaged = value["experiments"]
    assert (demo["name"], demo["status"], demo["end_reason"]) == ("demo", "finished", "finished")
    assert sum(demo["trials"].values()) == 12
    assert demo["best_value"] == pytest.approx(0.85, abs=0.15)
    assert damaged["status"] == "damaged"
    assert damaged["problem"].startswith("The ledger ")
    assert fields(value) == documented("list")


def test_status(storage: Path) -> None:
    folder = finished_search(storage, make_config())
    with Ledger(folder.ledger) as ledger:
        score = {"valid_accuracy": 0.5, "valid_macro_f1": 0.4, "seconds": 1.0}
        ledger.append(BaselineValidated(at=2.0, name="words", **score))
    value = parsed("status", "demo")
    assert value["location"] == str(folder.location)
    assert value["best_params"]["embedding_size"] == 8
    assert value["baselines"] == {
        "words": {
            "valid_accuracy": 0.5,
            "valid_macro_f1": 0.4,
            "valid_balanced_accuracy": None,
            "valid_auroc": None,
            "valid_loss": None,
        }
    }
    assert value["failures"] == []
    assert fields({**value, "failures": [{"trial": 0, "error": ""}]}) == documented("status")


def test_status_of_a_search_without_epochs_and_with_a_failure(storage: Path) -> None:
    folder = new_experiment("demo", storage)
    folder.create(make_config(), ExperimentCreated(at=1.0, fingerprint="f"))
    with Ledger(folder.ledger) as ledger:
        ledger.append(RunStarted(at=1.0, resumed=False, celltune="1", host="h", pid=1))
        controller = make_controller(make_config(), ledger)
        controller.next()
        controller.fail(0, "it \x1b[2Jbroke")
    value = parsed("status", "demo")
    assert (value["status"], value["end_reason"], value["best_value"]) == ("killed", None, None)
    assert value["best_trial"] is value["best_params"] is None
    assert value["failures"] == [{"trial": 0, "error": "it \x1b[2Jbroke"}]
    done = CliRunner().invoke(app, ["status", "none", "--json"])
    assert done.exit_code != 0
    assert done.stdout == ""


def write_config(**changes: Any) -> str:
    Path("demo.yaml").write_text(yaml.safe_dump({**RAW, **changes}))
    return "demo.yaml"


def test_validate() -> None:
    rows = [f"film number {index},{'pos' if index % 2 else 'neg'}" for index in range(40)]
    Path("films.csv").write_text("\n".join(["text,label", *rows]))
    space = {"cell": ["gru", "lstm"], "hidden_size": 8}
    config = write_config(space=space, data={"path": "films.csv", "test_size": 10})
    value = parsed("validate", config)
    assert value["estimate"] is None
    assert value["configurations"] == value["planned_trials"] == 2
    assert (value["trials"], value["searched"]) == (12, ["cell"])
    assert value["fixed"] == {"hidden_size": 8}
    assert {note["key"]: note["value"] for note in value["inferred"]}["classes"] == [
        "neg",
        "pos",
    ]
    data = value["data"]
    assert {name: split["documents"] for name, split in data["splits"].items()} == {
        "train": 22,
        "valid": 8,
        "test": 10,
    }
    for split in data["splits"].values():
        assert sum(split["documents_of_class"]) == split["documents"]
    assert data["tokens"]["median"] == data["tokens"]["percentile_90"] == 3
    assert data["majority"]["class"] in data["classes"] == ["neg", "pos"]
    complete = {**value, "estimate": estimate_as_json(FOUND)}
    assert {*fields(complete), "data", "estimate"} == documented("validate")
    assert parsed("validate", write_config())["configurations"] is None


def test_validate_of_data_that_is_not_downloaded() -> None:
    assert parsed("validate", write_config(data={"source": "imdb"}))["data"] is None


def test_cache_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(tmp_path / "cache")
    assert parsed("cache", "list") == {"folder": folder, "data_sets": []}
    CliRunner().invoke(app, ["prepare", write_config()])
    (tmp_path / "cache" / ("0" * 32)).mkdir()
    value = parsed("cache", "list")
    prepared, damaged = sorted(value["data_sets"], key=lambda each: each["damaged"])
    assert prepared["documents"] == {"train": 32, "valid": 8}
    assert prepared["bytes"] > 1_000
    assert (damaged["documents"], damaged["bytes"]) == ({}, 0)
    held = [PublishedDataset("f" * 32, 40, 4_000, 1)]
    monkeypatch.setattr(ray_store, "published_datasets", lambda: held)
    monkeypatch.setattr(
        "celltune.search.cluster.shared_data.list_shared_data", lambda address: held
    )
    in_memory = parsed("cache", "list", "--address", "10.0.0.1:6379")
    assert in_memory == {
        "address": "10.0.0.1:6379",
        "data_sets": [{"fingerprint": "f" * 32, "documents": 40, "bytes": 4_000, "searches": 1}],
    }
    assert fields(value) | fields(in_memory) == documented("cache list")
