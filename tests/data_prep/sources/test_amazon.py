from __future__ import annotations

import gzip
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from celltune.data_prep.config import DataConfig
from celltune.data_prep.errors import DataError
from celltune.data_prep.sources.amazon import AmazonSource
from celltune.data_prep.sources.base import Document
from celltune.data_prep.sources.factory import open_source
from tests.data_prep.formats import amazon


def read(path: Path, content: bytes) -> list[Document]:
    path.write_bytes(gzip.compress(content))
    return list(AmazonSource((path,)).documents())


def test_yields_negative_reviews_first_and_sorted_categories(tmp_path: Path) -> None:
    config = amazon(tmp_path, [("good one", 1), ("bad one", 0), ("fine", 1)], words=False)
    documents = open_source(config, cache_dir=tmp_path).documents()
    assert [(each.id, each.text, each.label) for each in documents] == [
        ("neg/music/0", "bad one", 0),
        ("pos/books/0", "good one", 1),
        ("pos/books/1", "fine", 1),
    ]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_reads_sets_and_nested_containers_of_every_pickle_protocol(
    tmp_path: Path, protocol: int
) -> None:
    content = ({"a": [["good"]]}, {"a": (["bad"],)}, {"good", "bad"})
    documents = read(tmp_path / "r.gz", pickle.dumps(content, protocol))
    assert [each.text for each in documents] == ["bad", "good"]


class Malicious:
    def __init__(self, call: Any, *arguments: Any) -> None:
        self._call = (call, arguments)

    def __reduce__(self) -> Any:
        return self._call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("call", [os.system, eval, exec, os.mkdir])
def test_malicious_pickle_executes_nothing(tmp_path: Path, call: Any, protocol: int) -> None:
    marker = tmp_path / "executed"
    argument = {os.system: f"touch {marker}", os.mkdir: str(marker)}.get(
        call, f"open({str(marker)!r}, 'w')"
    )
    content = pickle.dumps(({"a": [Malicious(call, argument)]}, {"a": []}, []), protocol)
    with pytest.raises(
        DataError, match=r"it loads .*is not plain data.*Nothing in it was executed"
    ):
        read(tmp_path / "r.gz", content)
    assert not marker.exists()


def test_rejects_dotted_name(tmp_path: Path) -> None:
    content = b"\x80\x04\x8c\x08builtins\x8c\x0fset.__class__.x\x93."
    with pytest.raises(DataError, match="is not plain data"):
        read(tmp_path / "r.gz", content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "has an unexpected structure. The source 'amazon' needs"),
        (({}, {1: []}, []), "has an unexpected structure"),
        (
            ({"a": [5]}, {"a": []}, []),
            "pos/a/0: a review is of type int. It must be a list of words",
        ),
        (({"a": [["", " "]]}, {"a": []}, []), "pos/a/0: the review is empty"),
    ],
)
def test_rejects_unexpected_structure(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path / "r.gz", pickle.dumps(content))


@pytest.mark.parametrize("content", [b"not a pickle", b"\x80\x04"])
def test_rejects_file_that_is_no_pickle(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match="is not a pickle of plain data"):
        read(tmp_path / "r.gz", content)


def test_reads_test_file_only_if_requested(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    train, test = amazon(tmp_path, [("good", 1)]), amazon(tmp_path / "t", [("bad", 0)])
    config = DataConfig(source="amazon", path=train.path, test_path=test.path)
    source = open_source(config, cache_dir=tmp_path)
    assert [each.text for each in source.documents()] == ["good"]
    assert [each.text for each in source.documents(["test"])] == ["bad"]
    assert len({source.digest(), source.digest(["test"]), source.digest(["train", "test"])}) == 3


def test_texts_that_are_repeated_by_reference_are_limited(tmp_path: Path) -> None:
    review = ["word"] * 1000
    content = pickle.dumps(({"a": [review] * 100}, {"a": ["bad"]}, []))
    (path := tmp_path / "r.gz").write_bytes(gzip.compress(content))
    assert len(list(AmazonSource((path,), max_bytes=600_000).documents())) == 101
    with pytest.raises(DataError, match=r"more than 400,000 bytes .* set data\.max_bytes"):
        list(AmazonSource((path,), max_bytes=400_000).documents())
    (path := tmp_path / "r.gz").write_bytes(
        gzip.compress(pickle.dumps(({"a": ["fine"] * 500}, {}, [])))
    )
    with pytest.raises(DataError, match=r"more than 390 documents"):
        list(AmazonSource((path,), max_bytes=100_000).documents())


def test_memory_of_a_pickle_is_limited(tmp_path: Path) -> None:
    (path := tmp_path / "r.gz").write_bytes(gzip.compress(b"]" * 5_000))
    message = r"r\.gz needs more than 1,000,000 bytes of memory .*set data\.max_bytes"
    with pytest.raises(DataError, match=message):
        list(AmazonSource((path,), max_bytes=1_000_000).documents())


def test_review_is_not_joined_if_it_is_too_long(tmp_path: Path) -> None:
    word = "x" * 100_000
    content = pickle.dumps(({"a": [[word] * 200]}, {"a": []}, []))
    with pytest.raises(DataError, match="pos/a/0: the review is longer than 16,777,216 bytes"):
        read(tmp_path / "r.gz", content)


def test_deeply_nested_pickle_is_rejected(tmp_path: Path) -> None:
    content = b")" + b"\x85" * 100_000 + b"."
    with pytest.raises(DataError, match="has an unexpected structure"):
        read(tmp_path / "r.gz", content)
