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
from celltune.data_prep.sources.registry import open_source
from tests.data_prep.formats import amazon


def rows_of(path: Path, content: bytes) -> list[Document]:
    path.write_bytes(gzip.compress(content))
    return list(AmazonSource(path).documents())


def test_categories_come_in_order_negative_first(tmp_path: Path) -> None:
    config = amazon(tmp_path, [("good one", 1), ("bad one", 0), ("fine", 1)], words=False)
    rows = list(open_source(config, cache_dir=tmp_path).documents())
    assert [(row.id, row.text, row.label) for row in rows] == [
        ("neg/music/0", "bad one", 0),
        ("pos/books/0", "good one", 1),
        ("pos/books/1", "fine", 1),
    ]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol_with_sets_and_nested_containers_is_read(
    tmp_path: Path, protocol: int
) -> None:
    content = ({"a": [["good"]]}, {"a": (["bad"],)}, {"good", "bad"})
    found = rows_of(tmp_path / "r.gz", pickle.dumps(content, protocol))
    assert [row.text for row in found] == ["bad", "good"]


class Hostile:
    def __init__(self, call: Any, *arguments: Any) -> None:
        self._reduced = (call, arguments)

    def __reduce__(self) -> Any:
        return self._reduced


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("call", [os.system, eval, exec, os.mkdir])
def test_a_hostile_pickle_runs_nothing(tmp_path: Path, call: Any, protocol: int) -> None:
    mark = tmp_path / "ran"
    argument = {os.system: f"touch {mark}", os.mkdir: str(mark)}.get(
        call, f"open({str(mark)!r}, 'w')"
    )
    content = pickle.dumps(({"a": [Hostile(call, argument)]}, {"a": []}, []), protocol)
    with pytest.raises(DataError, match=r"wants to load .*isn't plain data.*nothing of it was run"):
        rows_of(tmp_path / "r.gz", content)
    assert not mark.exists()


def test_a_dotted_name_is_refused_as_well(tmp_path: Path) -> None:
    content = b"\x80\x04\x8c\x08builtins\x8c\x0fset.__class__.x\x93."
    with pytest.raises(DataError, match="isn't plain data"):
        rows_of(tmp_path / "r.gz", content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "is of another shape; source amazon needs"),
        (({}, {1: []}, []), "is of another shape"),
        (({"a": [5]}, {"a": []}, []), "pos/a/0: a review is int; it must be a list of words"),
        (({"a": [["", " "]]}, {"a": []}, []), "pos/a/0: the review is empty"),
    ],
)
def test_other_shapes_are_refused(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        rows_of(tmp_path / "r.gz", pickle.dumps(content))


@pytest.mark.parametrize("content", [b"not a pickle", b"\x80\x04"])
def test_what_is_no_pickle_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match=r"isn't a pickle of plain data"):
        rows_of(tmp_path / "r.gz", content)


def test_a_test_file_is_read_only_if_asked_for(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    train, test = amazon(tmp_path, [("good", 1)]), amazon(tmp_path / "t", [("bad", 0)])
    config = DataConfig(source="amazon", path=train.path, test_path=test.path)
    source = open_source(config, cache_dir=tmp_path)
    assert [row.text for row in source.documents()] == ["good"]
    assert [row.text for row in source.documents(["test"])] == ["bad"]
    assert len({source.digest(), source.digest(["test"]), source.digest(["train", "test"])}) == 3
