from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from celltune.data_prep.config import DataConfig


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"source": "csv"}, "needs a file: set path"),
        ({"source": "synthetic", "path": "x.csv"}, "path is x.csv, but source synthetic doesn't"),
        ({"source": "imdb", "classes": ["a", "b"]}, "classes is .* but source imdb doesn't read"),
        ({"source": "imdb", "text_column": "body"}, "text_column is 'body', but source imdb"),
        ({"source": "csv", "path": "x", "reviews": 50}, "reviews is 50, but source csv"),
        ({"source": "csv", "path": "x", "classes": ["a"]}, "name at least two"),
        ({"source": "csv", "path": "x", "classes": ["a", "a"]}, "names 'a' twice"),
        ({"source": "csv", "path": "x", "classes": ["a", " "]}, "has no blanks around it"),
        (
            {"source": "csv", "path": "x", "classes": [False, True]},
            "reads no, off and false without quotes; put .* such as .'no', 'yes'.",
        ),
        ({"source": "csv", "path": "x", "classes": ["no", True]}, "reads yes, on and true without"),
        ({"source": "csv", "path": "x", "classes": [0, 1]}, "holds 0, which isn't text; put"),
        ({"source": "csv", "path": "x", "classes": ["a", None]}, "holds None, which isn't text"),
        ({"source": "csv", "path": "x", "classes": "neg"}, "is 'neg'; it must be a list"),
        ({"source": "synthetic", "valid_size": 1.0}, "valid_size is 1.0; allowed are a share"),
        ({"source": "synthetic", "valid_size": 0}, "valid_size is 0; allowed are a share"),
        ({"source": "synthetic", "valid_size": True}, "valid_size is True; allowed are"),
        ({"source": "synthetic", "valid_size": "half"}, "valid_size is 'half'; allowed are"),
        ({"source": "synthetic", "train_size": 2990, "valid_size": 11}, "set reviews to 3001"),
        ({"source": "synthetic", "label_noise": 0.5}, "less than 0.5"),
        ({"source": "synthetic", "train_size": "many"}, "valid integer"),
        ({"source": "synthetic", "max_tokens": 0}, "greater than or equal to 1"),
        ({"source": "synthetic", "sed": 1}, "Extra inputs are not permitted"),
        ({"source": "xml"}, "'synthetic', 'imdb', 'csv', 'tsv', 'jsonl', 'parquet' or 'amazon'"),
        ({"source": "parquet"}, "source parquet needs a file: set path"),
        ({"source": "csv", "path": "a", "test_path": "b", "test_size": 5}, "remove one of them"),
        ({"source": "csv", "path": "a", "groups": "b", "group_column": "c"}, "remove one of them"),
        ({"source": "imdb", "test_size": 0.2}, "test_size is 0.2, but source imdb doesn't read it"),
        ({"source": "synthetic", "test_size": 1.5}, "test_size is 1.5; allowed are a share"),
        ({"source": "synthetic", "lowercase": False}, "'basic_english' always lower-cases"),
        ({"source": "synthetic", "vocabulary_size": 0}, "greater than or equal to 1"),
        ({"source": "synthetic", "vectors": {}}, "one of name, path and train, and has none"),
        ({"source": "synthetic", "vectors": {"name": "a", "path": "b"}}, "has name and path"),
        ({"source": "synthetic", "vectors": {"name": "glove.7B"}}, "allowed are .*glove.6B.100d"),
        ({"source": "synthetic", "vectors": {"path": "x", "size": 5}}, "size is only read with"),
        ({"source": "synthetic", "vectors": {"name": "glove.6B.50d", "member": "x"}}, "member is"),
        (
            {"source": "synthetic", "vectors": {"train": "word2vec", "unlabelled": True}},
            "unlabelled needs source imdb",
        ),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DataConfig(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"source": "synthetic", "reviews": 40, "label_noise": 0, "valid_size": 10},
        {"source": "imdb"},
        {"source": "imdb", "path": "aclImdb", "train_size": 100},
        {"source": "csv", "path": "r.csv", "classes": ["neg", "pos"], "text_column": "body"},
    ],
)
def test_a_config_written_out_in_full_loads_again(fields: dict[str, Any]) -> None:
    config = DataConfig(**fields)
    assert DataConfig(**config.model_dump(mode="json")) == config


def test_a_count_stays_a_count_and_a_share_a_share() -> None:
    assert isinstance(DataConfig(source="synthetic", valid_size=500).valid_size, int)
    assert isinstance(DataConfig(source="synthetic", valid_size=0.5).valid_size, float)


def test_every_field_explains_itself() -> None:
    unexplained = [name for name, f in DataConfig.model_fields.items() if not f.description]
    assert not unexplained
