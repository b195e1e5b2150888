"""Fingerprints with built-in tokenizers, which must never change: caches and ledgers store them."""

from __future__ import annotations

from pathlib import Path

import pytest

from celltune.data_prep.config import DataConfig
from celltune.data_prep.preparation.pipeline import fingerprint, prepare

# Computed by release 0.1.0.
FINGERPRINTS = {
    "basic_english": "3b4c4ede65d000ca97ae57986bf2baf2",
    "whitespace": "fb6885d7fe48f2206fc325ca2c8073a9",
    "spacy": "96481aa8e4cc9bbade7623946c6af08c",
}
PREPARED = "d643a862fd9eca469fc876222ea8974d"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "reviews.csv"
    rows = (f"A good film number {i} isn't it,1\nA bad film number {i} oh no,0" for i in range(10))
    path.write_text("\n".join(["text,label", *rows, ""]))
    return path


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_fingerprint_of_a_builtin_tokenizer_is_stable(path: Path, name: str) -> None:
    config = DataConfig(source="csv", path=path, tokenizer=name, valid_size=4)
    assert fingerprint(config, "00" * 32) == FINGERPRINTS[name]


def test_wide_part_changes_the_fingerprint(path: Path) -> None:
    given = [
        {"source": "csv", "path": path, "valid_size": 4, "wide": wide}
        for wide in (False, True, {"words": 2})
    ]
    without, default, pairs = [fingerprint(DataConfig(**config), "00" * 32) for config in given]
    assert without == FINGERPRINTS["basic_english"]
    assert len({without, default, pairs}) == 3


def test_fingerprint_of_prepared_data_is_stable(path: Path, tmp_path: Path) -> None:
    config = DataConfig(source="csv", path=path, valid_size=4)
    assert prepare(config, cache_dir=tmp_path / "cache").fingerprint == PREPARED
