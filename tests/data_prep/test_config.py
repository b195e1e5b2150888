from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from celltune.data_prep.config import DataConfig
from celltune.data_prep.wide_config import WideConfig


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"source": "csv"}, r"The source 'csv' needs data\.path\. Set it\."),
        (
            {"source": "synthetic", "path": "x.csv"},
            r"path is x.csv, but the source 'synthetic' does",
        ),
        (
            {"source": "imdb", "classes": ["a", "b"]},
            "classes is .* but the source 'imdb' does not read",
        ),
        ({"source": "imdb", "text_column": "body"}, "text_column is 'body', but the source 'imdb'"),
        ({"source": "csv", "path": "x", "reviews": 50}, "reviews is 50, but the source 'csv'"),
        ({"source": "csv", "path": "x", "classes": ["a"]}, "Must name at least two"),
        (
            {"source": "csv", "path": "x", "classes": ["a", "a"]},
            "'a' 2 times. Name it once",
        ),
        (
            {"source": "csv", "path": "x", "classes": ["a", " "]},
            "must not be empty or start or end",
        ),
        (
            {"source": "csv", "path": "x", "classes": [False, True]},
            "Contains False, which is not text. YAML reads no, off and false without quotes as f",
        ),
        ({"source": "csv", "path": "x", "classes": ["no", True]}, "reads yes, on and true without"),
        ({"source": "csv", "path": "x", "classes": [0, 1]}, "Contains 0, which is not text. Put"),
        (
            {"source": "csv", "path": "x", "classes": ["a", None]},
            "Contains None, which is not text",
        ),
        ({"source": "csv", "path": "x", "classes": "neg"}, "Must be a list, .* but is 'neg'"),
        ({"source": "synthetic", "valid_size": 1.0}, "Must be a share .* but is 1.0"),
        ({"source": "synthetic", "valid_size": 0}, "Must be a share .* but is 0"),
        ({"source": "synthetic", "valid_size": True}, "Must be a share .* but is True"),
        ({"source": "synthetic", "valid_size": "half"}, "Must be a share .* but is 'half'"),
        (
            {"source": "synthetic", "train_size": 2990, "valid_size": 11},
            r"Set data\.reviews to 3001 or more, or reduce data\.train_size or data\.valid_size\. ",
        ),
        (
            {"source": "synthetic", "reviews": 10, "test_size": 11},
            r"Set data\.reviews to 11 or more, or reduce data\.test_size\. ",
        ),
        ({"source": "synthetic", "label_noise": 0.5}, "less than 0.5"),
        ({"source": "synthetic", "train_size": "many"}, "valid integer"),
        ({"source": "synthetic", "max_tokens": 0}, "greater than or equal to 1"),
        ({"source": "synthetic", "sed": 1}, "Extra inputs are not permitted"),
        (
            {"source": "xml"},
            "'xml' is not a data source.* synthetic, imdb, table, csv, tsv, jsonl, parquet, amazon",
        ),
        ({"source": "parquet"}, "The source 'parquet' needs data.path"),
        ({"source": "csv", "path": "a", "test_path": "b", "test_size": 5}, "Remove one of them"),
        ({"source": "csv", "path": "a", "groups": "b", "group_column": "c"}, "Remove one of them"),
        ({"source": "imdb", "test_size": 0.2}, "test_size is 0.2, but the source 'imdb' does"),
        ({"source": "synthetic", "test_size": 1.5}, "Must be a share .* but is 1.5"),
        ({"source": "synthetic", "lowercase": False}, "'basic_english' always lower-cases"),
        ({"source": "synthetic", "vocabulary_size": 0}, "greater than or equal to 1"),
        (
            {"source": "synthetic", "vectors": {}},
            r"needs exactly one of name, path and train, but has none of them\.",
        ),
        (
            {"source": "synthetic", "vectors": {"name": "a", "path": "b"}},
            r"exactly one of name, path and train, but has name and path\.",
        ),
        ({"source": "synthetic", "vectors": {"name": "glove.7B"}}, "Allowed are .*glove.6B.100d"),
        ({"source": "synthetic", "vectors": {"path": "x", "size": 5}}, "size is only read with"),
        ({"source": "synthetic", "vectors": {"name": "glove.6B.50d", "member": "x"}}, "member is"),
        (
            {"source": "synthetic", "vectors": {"train": "word2vec", "unlabelled": True}},
            "'synthetic' has no unlabelled documents",
        ),
        (
            {"source": "imdb", "tokenizer": "bpe", "vectors": {"name": "glove.6B.100d"}},
            r"name is 'glove\.6B\.100d', which are vectors of words, .* 'bpe' are subwords\. Set",
        ),
        ({"source": "imdb", "unlabelled": "x.txt"}, "the source 'imdb' does not read it"),
        (
            {"source": "csv", "path": "a", "unlabelled": "x.txt"},
            r"unlabelled is x\.txt, but it is only read .*Set data\.vectors\.train",
        ),
        (
            {"source": "csv", "path": "a", "unlabelled": "x.txt", "vectors": {"path": "v.txt"}},
            "it is only read to learn word vectors",
        ),
        (
            {"source": "csv", "path": "a", "vectors": {"train": "word2vec", "unlabelled": True}},
            r"data\.unlabelled is not\. Set data\.unlabelled to a file",
        ),
        ({"path": []}, r"is an empty list\. It must name at least one file"),
        ({"path": ["a", 1]}, r"contains 1, which is not the path of a file"),
        ({"path": "a", "delimiter": "ab"}, r"is 'ab'\. It must be one character.* semicolon, tab"),
        ({"path": "a", "delimiter": '"'}, r"must be one character"),
        ({"path": "a", "encoding": "base64"}, r"'base64', which is not an encoding of text files"),
        ({"path": "a", "encoding": "utf-9"}, r"'utf-9', which is not an encoding of text files"),
        (
            {"source": "csv", "path": "a", "format": "jsonl"},
            r"data\.format is jsonl\. Set data\.so",
        ),
        (
            {"source": "amazon", "path": ["a", "b"]},
            r"a list, but the source 'amazon' reads one path",
        ),
    ],
)
def test_rejects_invalid_config(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DataConfig(**fields)


def test_all_problems_are_reported_at_once() -> None:
    fields: dict[str, Any] = {
        "source": "csv",
        "test_path": "b",
        "test_size": 5,
        "classes": ["a", "a", " "],
        "reviews": 50,
        "label_noise": 0.1,
        "train_size": 0,
        "lowercase": False,
        "vectors": {"path": "x", "member": 3, "size": 5, "epochs": 4, "unlabelled": "x"},
    }
    with pytest.raises(ValidationError) as raised:
        DataConfig(**fields)
    assert [".".join(map(str, line["loc"])) for line in raised.value.errors()] == [
        "path",
        "test_size",
        "classes",
        "reviews",
        "label_noise",
        "train_size",
        "lowercase",
        "vectors.member",
        "vectors.size",
        "vectors.epochs",
        "vectors.unlabelled",
    ]
    classes = raised.value.errors()[2]["msg"]
    assert "Contains 'a' 2 times" in classes
    assert "Contains ' '" in classes


def test_invalid_source_is_reported_without_problems_that_depend_on_it() -> None:
    with pytest.raises(ValidationError) as raised:
        DataConfig(source="xml", reviews=50, max_tokens=0)
    assert [line["loc"] for line in raised.value.errors()] == [("source",), ("max_tokens",)]


@pytest.mark.parametrize(
    "fields",
    [
        {"source": "synthetic", "reviews": 40, "label_noise": 0, "valid_size": 10},
        {"source": "imdb"},
        {"source": "imdb", "path": "aclImdb", "train_size": 100},
        {"source": "csv", "path": "r.csv", "classes": ["neg", "pos"], "text_column": "body"},
    ],
)
def test_config_written_with_all_defaults_can_be_loaded(fields: dict[str, Any]) -> None:
    config = DataConfig(**fields)
    assert DataConfig(**config.model_dump(mode="json")) == config


def test_number_and_share_keep_their_types() -> None:
    assert isinstance(DataConfig(source="synthetic", valid_size=500).valid_size, int)
    assert isinstance(DataConfig(source="synthetic", valid_size=0.5).valid_size, float)


def test_every_field_is_documented() -> None:
    undocumented = [name for name, f in DataConfig.model_fields.items() if not f.description]
    assert not undocumented


def test_wide_part_can_be_a_boolean() -> None:
    config = DataConfig(source="imdb", wide=True)  # type: ignore[arg-type]
    assert config.wide == WideConfig()
    assert DataConfig(source="imdb", wide=False).wide is None  # type: ignore[arg-type]
    assert DataConfig(**config.model_dump()).wide == WideConfig()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"characters": 1}, "wide.characters is 1, but the smallest n-grams have 2"),
        ({"penalties": []}, r"wide.penalties is \[\]\. It has to contain at least one"),
        ({"penalties": [3, 3]}, "and no number twice, such as"),
        ({"penalties": [0]}, "greater than 0"),
        ({"words": 0}, "greater than or equal to 1"),
    ],
)
def test_invalid_settings_of_the_wide_part_are_rejected(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        WideConfig(**fields)


@pytest.mark.parametrize(
    ("given", "expected"), [("tab", "\t"), ("\\t", "\t"), ("Semicolon", ";"), ("|", "|")]
)
def test_delimiter_has_a_name(given: str, expected: str) -> None:
    assert DataConfig(path="a", delimiter=given).delimiter == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [("UTF8", "utf-8"), ("cp1252", "windows-1252"), ("UTF-16LE", "utf-16-le")],
)
def test_encoding_has_one_name(given: str, expected: str) -> None:
    assert DataConfig(path="a", encoding=given).encoding == expected


def test_several_paths_become_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    config = DataConfig(path=["a.csv", "b/*.csv"], test_path="c")
    assert config.location == "a.csv and 1 more"
    anchored = config.anchored()
    assert anchored.path == (tmp_path / "a.csv", tmp_path / "b/*.csv")
    assert anchored.test_path == tmp_path / "c"
    assert DataConfig.model_validate(anchored.model_dump(mode="json")) == anchored
