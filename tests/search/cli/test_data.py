from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from celltune.data_prep.cache import ray_store as store
from celltune.data_prep.config import DataConfig
from celltune.data_prep.preparation.pipeline import prepare
from celltune.search.cli.app import app
from celltune.search.cli.data import _number
from celltune.search.errors import OptionError

SAMPLE = str(Path(__file__).parents[3] / "configs" / "sample.yaml")
SMALL = ["--set", "data.reviews=60"]


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CELLTUNE_CACHE", str(tmp_path))
    return tmp_path


def test_prepare_list_and_clear() -> None:
    assert "contains no prepared data" in run("cache", "list")
    output = run("prepare", SAMPLE, *SMALL, "--set", "data.test_size=0.2", "--test")
    assert "Prepared 36 training and 12 validation documents" in output
    assert "Prepared 12 test documents. Identical texts in other splits: train" in output
    listed = run("cache", "list")
    assert "synthetic, 36 train, 12 valid" in listed
    assert "test split, 12 documents" in listed
    assert "Removed 2 from" in run("cache", "clear")
    assert "contains no prepared data" in run("cache", "list")


def test_prepare_describes_the_wide_part() -> None:
    output = run("prepare", SAMPLE, *SMALL, "--set", "data.wide=true", "--set", "space.wide=add")
    assert re.search(
        r"^Wide part: [\d,]+ n-grams, penalty \d+, validation accuracy \d+\.\d\d %, fitted in \d",
        output,
        re.MULTILINE,
    )


def test_prepare_shows_the_share_of_words_that_have_a_vector() -> None:
    assert _number(0.958) == "95.80 %"
    assert _number(50) == "50"


def test_clearing_downloads_of_a_cluster_is_rejected() -> None:
    done = CliRunner().invoke(app, ["cache", "clear", "--downloads", "--address", "auto"])
    assert isinstance(done.exception, OptionError)
    assert str(done.exception) == (
        "--downloads cannot be combined with --address: downloaded files are on this machine. "
        "Omit one of them."
    )


@pytest.mark.usefixtures("local_ray")
def test_cluster_memory_is_listed_and_cleared(cache: Path) -> None:
    store.clear()
    data = prepare(DataConfig(source="synthetic", reviews=60), cache_dir=cache)
    with store.acquired(data):
        assert run("cache", "list", "--address", "auto").splitlines()[2].split()[-1] == "1"
        output = run("cache", "clear", "--address", "auto", data.fingerprint[:12])
        assert f"Kept, because searches use them: {data.fingerprint[:12]}" in output
    listed = run("cache", "list", "--address", "auto")
    assert data.fingerprint[:12] in listed
    assert f"Removed 1 from the cluster at auto: {data.fingerprint[:12]}" in run(
        "cache", "clear", "--address", "auto"
    )
    assert "holds no prepared data" in run("cache", "list", "--address", "auto")
    assert data.fingerprint[:12] in run("cache", "list")


def test_validate_does_not_download_data(cache: Path) -> None:
    output = run("validate", str(Path(SAMPLE).with_name("imdb.yaml")))
    assert "the source 'imdb' is downloaded at the first launch; it was not checked" in output
    assert not (cache / "downloads").exists()
