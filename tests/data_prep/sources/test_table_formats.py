"""Tables of several files, and of formats that a config states."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from celltune.data_prep.config import DataConfig
from celltune.data_prep.errors import DataError
from celltune.data_prep.preparation.pipeline import fingerprint
from celltune.data_prep.sources.base import Source
from celltune.data_prep.sources.factory import check_files_exist, open_source


def opened(**keys: Any) -> Source:
    return open_source(DataConfig(**keys), cache_dir=Path())


def texts(source: Source, split: Any = "train") -> list[tuple[str, str]]:
    return [(document.id, document.text) for document in source.documents([split])]


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    (tmp_path / "parts").mkdir()
    for name, word in (("b.csv", "b"), ("a.csv", "a"), ("c.txt", "c")):
        (tmp_path / "parts" / name).write_text(f"text,label\n{word} one,1\n{word} two,0\n")
    return tmp_path / "parts"


def test_files_of_a_pattern_are_read_as_one_in_sorted_order(parts: Path) -> None:
    expected = [("row 1", "a one"), ("row 2", "a two"), ("row 3", "b one"), ("row 4", "b two")]
    assert texts(opened(path=parts / "*.csv")) == expected
    assert texts(opened(path=[parts / "a.csv", parts / "b.csv"])) == expected
    assert texts(opened(path=parts / "a.csv", test_path=[parts / "b*"]), "test")[0][1] == "b one"


def test_name_with_brackets_is_no_pattern_if_the_file_exists(parts: Path) -> None:
    (parts / "a.csv").rename(parts / "a[1].csv")
    assert len(texts(opened(path=parts / "a[1].csv"))) == 2


def test_missing_and_repeated_files_are_reported(parts: Path) -> None:
    config = DataConfig(path=parts / "*.tsv")
    with pytest.raises(DataError, match=r"No file matches .*/\*\.tsv .*Set data\.path to existing"):
        check_files_exist(config)
    with pytest.raises(DataError, match=r"data\.path names .*/a\.csv 2 times\. Name it once"):
        opened(path=[parts / "a.csv", parts / "*.csv"])


def test_digest_depends_on_which_files_belong_to_a_split(parts: Path) -> None:
    a, b = parts / "a.csv", parts / "b.csv"
    both: list[Any] = ["train", "test"]
    digests = {
        opened(path=[a, b]).digest(),
        opened(path=[b, a]).digest(),
        opened(path=a).digest(),
        opened(path=a, test_path=b).digest(both),
        opened(path=a, test_path=b, test_format={"delimiter": ";"}).digest(both),
        opened(path=a, test_path=[a, b]).digest(both),
    }
    assert len(digests) == 6


def test_stated_format_is_read(tmp_path: Path) -> None:
    (path := tmp_path / "train.dat").write_bytes('schön "so"|1\n"nein|0\n'.encode("cp1252"))
    (tmp_path / "test.txt").write_text("label;text\n1;fine\n")
    keys: dict[str, Any] = {"format": "csv", "delimiter": "pipe", "quoting": False}
    source = opened(
        path=path, header=False, text_column="1", label_column="2", encoding="cp1252", **keys
    )
    assert [text for _, text in texts(source)] == ['schön "so"', '"nein']
    with pytest.raises(DataError, match=r"train\.dat does not state its format\. Set data\.format"):
        texts(opened(path=path))
    keys = {"test_path": tmp_path / "test.txt", "test_format": {"format": "csv", "delimiter": ";"}}
    (path := tmp_path / "train.jsonl").write_text('{"text": "dull", "label": 0}\n')
    source = opened(path=path, **keys)
    assert texts(source, "test") == [("row 1", "fine")]
    assert texts(source) == [("row 1", "dull")]


def test_bytes_of_another_encoding_are_reported(tmp_path: Path) -> None:
    (path := tmp_path / "r.csv").write_bytes(b"text,label\n" + b"fine,1\n" * 10 + b"\x81,1\n")
    with pytest.raises(DataError, match=r"byte 81: 0x81 is not valid in the encoding windows-1252"):
        texts(opened(path=path, encoding="windows-1252"))
    (path := tmp_path / "r.csv").write_bytes("text,label\nfine,1\n".encode("utf-16")[:-1])
    with pytest.raises(DataError, match=r"byte 36: 0x0a is not valid in the encoding utf-16"):
        texts(opened(path=path, encoding="utf-16"))


def test_fingerprint_is_that_of_earlier_releases_if_the_settings_mean_the_same() -> None:
    stated = {"delimiter": ",", "quoting": True, "header": True, "encoding": "utf-8"}
    same = [
        DataConfig(source="csv", path="a.csv"),
        DataConfig(source="csv", path="a.csv", format="csv", **stated),
        DataConfig(path="a.csv", format="csv", **stated),
        DataConfig(path="a.csv", format="csv", unlabelled_format={"format": "txt"}),
    ]
    # Computed with the release 0.1.0.
    assert {fingerprint(config, "content") for config in same} == {
        "3f1315382fd344d7f5f6b76f787362cc"
    }
    others = [
        DataConfig(path="a.csv", format="csv", **{**stated, key: value})
        for key, value in (("delimiter", ";"), ("quoting", False), ("header", False),
                           ("encoding", "windows-1252"))
    ]  # fmt: skip
    assert len({fingerprint(config, "content") for config in (*same, *others)}) == 5
