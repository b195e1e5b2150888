"""Data sets on disk, from their files to a config that describes them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from celltune.data_prep.errors import DataError
from celltune.search.config.loading import parse_config
from celltune.search.errors import ConfigError, OptionError
from celltune.search.setup.inspection import (
    Inspection,
    experiment_name,
    is_data,
    propose,
    this_machine,
)

GOOD = ("good", "fine", "great", "lovely")


def write_reviews(path: Path, documents: int = 100, *, header: str = "text,label") -> Path:
    """Write reviews, every fourth of which is bad."""
    rows = [
        f"a {GOOD[n % 4]} film number {n % 7},pos" if n % 4 else f"a bad film number {n % 7},neg"
        for n in range(documents)
    ]
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    return write_reviews(tmp_path / "reviews.csv")


def data_of(inspection: Inspection) -> dict[str, object]:
    return dict(inspection.proposal.values["data"])


def test_the_proposal_describes_the_file_and_loads_again(reviews: Path) -> None:
    inspection = propose({"path": str(reviews)})
    config = parse_config(inspection.proposal.values)
    assert config.name == "reviews"
    assert config.data.classes == ("neg", "pos")
    assert config.data.path == reviews
    assert list(data_of(inspection)).index("classes") < list(data_of(inspection)).index("wide")
    assert inspection.survey.counts["train"].sum() == 70
    assert "- neg" in inspection.proposal.yaml
    assert "# 25 texts" in inspection.proposal.yaml
    again = propose(data_of(inspection), name="reviews")
    assert again.inferred.notes == ()
    assert data_of(again) == data_of(inspection)


def test_files_of_splits_replace_their_sizes(reviews: Path, tmp_path: Path) -> None:
    test = write_reviews(tmp_path / "test.csv", 40)
    valid = write_reviews(tmp_path / "valid.csv", 20)
    files = {"path": str(reviews), "test_path": str(test), "valid_path": str(valid)}
    inspection = propose(files)
    assert not {"valid_size", "test_size"} & set(data_of(inspection))
    counts = {split: int(each.sum()) for split, each in inspection.survey.counts.items()}
    assert counts == {"train": 100, "valid": 20, "test": 40}


def test_repeated_and_contradictory_texts_are_reported(tmp_path: Path) -> None:
    texts = [f"review {n} of film {n},{('pos', 'neg')[n % 2]}" for n in range(300)]
    clean, repeated = tmp_path / "clean.csv", tmp_path / "repeated.csv"
    clean.write_text("\n".join(["text,label", *texts]))
    changed = [text.replace("neg", "pos") for text in texts[:20]]
    repeated.write_text("\n".join(["text,label", *texts, *texts[:60], *changed]))
    assert not any("another label" in each for each in propose({"path": str(clean)}).warnings)
    warnings = propose({"path": str(repeated)}).warnings
    assert any("Texts are in two splits" in warning for warning in warnings)
    assert any("also occurs with another label" in warning for warning in warnings)


def test_texts_without_labels_are_read_for_the_word_vectors(reviews: Path, tmp_path: Path) -> None:
    more = tmp_path / "more.txt"
    more.write_text("a film\nanother film\n")
    inspection = propose({"path": str(reviews), "unlabelled": str(more)})
    assert parse_config(inspection.proposal.values).data.reads_unlabelled
    assert inspection.survey.unlabelled == 2


def test_many_texts_need_a_smaller_validation_split(tmp_path: Path) -> None:
    path = write_reviews(tmp_path / "many.csv", 15_000)
    assert data_of(propose({"path": str(path)}))["valid_size"] == 0.1
    assert data_of(propose({"path": str(path), "valid_size": 0.3}))["valid_size"] == 0.3


def test_texts_without_spaces_get_subwords(tmp_path: Path) -> None:
    rng = random.Random(1)  # noqa: S311 (no secrets)
    words = {"neg": "差坏糟劣", "pos": "好美佳优"}
    rows = [
        "".join(rng.choice("的一是不了人我在有他这中大来上个国" + words[label]) for _ in range(12))
        + f",{label}"
        for label in ("neg", "pos") * 60
    ]
    path = tmp_path / "texts.csv"
    path.write_text("\n".join(["text,label", *rows]))
    inspection = propose({"path": str(path)})
    assert data_of(inspection)["tokenizer"] == "bpe"
    assert "100.0 % of the validation split's words are unknown" in inspection.proposal.yaml
    chosen = propose({"path": str(path), "tokenizer": "whitespace"})
    assert data_of(chosen)["tokenizer"] == "whitespace"
    (tmp_path / "vectors.txt").write_text("的 0.1 0.2\n")
    given = propose({"path": str(path), "vectors": {"path": str(tmp_path / "vectors.txt")}})
    assert data_of(given)["tokenizer"] != "bpe"


def test_a_given_limit_of_tokens_lowers_the_estimate(reviews: Path) -> None:
    shorter = propose({"path": str(reviews), "max_tokens": 2})
    assert data_of(shorter)["max_tokens"] == 2
    assert shorter.survey.lengths.max() == 2
    assert shorter.proposal.seconds < propose({"path": str(reviews)}).proposal.seconds


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("reviews.csv", "reviews"),
        ("a/b/My reviews (final).csv.gz", "My-reviews-final"),
        ("2024.05.tsv", "2024.05"),
        ("parts/*.jsonl", "search"),
        ("été.csv", "t"),
        ("漢字.csv", "search"),
        ("-x.parquet", "x"),
        ("folder", "folder"),
        (f"{'n' * 300}.csv", "n" * 100),
    ],
)
def test_an_experiment_has_the_name_of_its_file(path: str, name: str) -> None:
    assert experiment_name(path) == name


def test_only_yaml_files_are_configs() -> None:
    assert [is_data(Path(name)) for name in ("a.yaml", "a.YML", "a.csv", "a.json", "a")] == [
        False,
        False,
        True,
        True,
        True,
    ]


def test_invalid_input_is_an_error(reviews: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="`time` "):
        propose({"path": str(reviews)}, time="soon")
    with pytest.raises(ConfigError, match=r"data\.tokenizer: 'x' is not a tokenizer"):
        propose({"path": str(reviews), "tokenizer": "x"})
    with pytest.raises(DataError, match=r"none\.csv"):
        propose({"path": str(tmp_path / "none.csv")})


def test_the_machine_has_cores_and_memory() -> None:
    machine = this_machine()
    assert machine.cores >= 1
    assert machine.memory > 2**28
