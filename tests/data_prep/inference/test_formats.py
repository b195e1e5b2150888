from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from celltune.data_prep.config import DataConfig
from celltune.data_prep.errors import DataError
from celltune.data_prep.inference.formats import with_formats
from celltune.data_prep.inference.infer import infer
from celltune.data_prep.preparation.pipeline import prepare
from celltune.data_prep.sources.factory import open_source

ROWS = [
    (f'text {number}, "good" and long enough', ("neg", "pos")[number % 2]) for number in range(40)
]

DESCRIBING = (
    *("format", "delimiter", "quoting", "header", "encoding"),
    *("text_column", "label_column", "classes"),
)


def separated(delimiter: str, *, header: bool = True, quotes: bool = True) -> str:
    def cell(text: str) -> str:
        return '"' + text.replace('"', '""') + '"' if quotes else text

    lines = [delimiter.join([cell(text), label]) for text, label in ROWS]
    return "\n".join([*([f"review{delimiter}verdict"] if header else []), *lines, ""])


def write(folder: Path, name: str, content: str, encoding: str = "utf-8") -> Path:
    (path := folder / name).write_text(content, encoding)
    return path


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("r.csv", separated(";"), {"delimiter": ";", "text_column": "review"}),
        ("r.tsv", separated("\t", quotes=False), {"format": "csv", "quoting": False}),
        ("r.txt", separated("\t", header=False), {"header": False, "text_column": "1"}),
        (
            "r.json.txt",
            "".join(json.dumps({"body": t, "class": y}) + "\n" for t, y in ROWS),
            {"format": "jsonl", "text_column": "body", "label_column": "class"},
        ),
    ],
)
def test_any_table_is_read_without_settings(
    tmp_path: Path, name: str, content: str, expected: dict[str, Any]
) -> None:
    result = infer(DataConfig(path=write(tmp_path, name, content)))
    found = {key: getattr(result.config, key) for key in expected}
    if name == "r.tsv":
        assert found["quoting"] is False
        assert result.config.delimiter == "\t"
    else:
        assert found == expected
    documents = list(open_source(result.config, cache_dir=tmp_path).documents())
    assert [(each.text, each.label) for each in documents] == [
        (text, ("neg", "pos").index(label)) for text, label in ROWS
    ]
    noted = {note.key for note in result.notes}
    assert noted == {key for key in DESCRIBING if getattr(result.config, key) is not None}


def test_unusual_settings_are_shown_with_reasons(tmp_path: Path) -> None:
    path = write(tmp_path, "r.csv", separated(";"), "utf-16")
    shown = infer(DataConfig(path=path)).lines()
    assert any(line.startswith("  delimiter     semicolon  (") for line in shown)
    assert any(line.startswith("  encoding      utf-16") for line in shown)
    assert not any("quoting" in line or "header " in line for line in shown)


def test_other_files_can_have_their_own_formats(tmp_path: Path) -> None:
    config = DataConfig(
        path=write(tmp_path, "r.csv", separated(",")),
        test_path=write(tmp_path, "t.csv", separated(";")),
        valid_path=write(tmp_path, "v.csv", separated(",")),
        unlabelled=write(tmp_path, "u.csv", separated("\t")),
        vectors={"train": "word2vec", "size": 4, "epochs": 1},  # type: ignore[arg-type]
    )
    completed, notes = with_formats(config)
    assert completed.test_format is not None
    assert completed.test_format.delimiter == ";"
    assert completed.unlabelled_format is not None
    assert completed.unlabelled_format.delimiter == "\t"
    assert completed.valid_format is None
    assert {note.key for note in notes} >= {"test_format", "unlabelled_format"}
    shown = infer(config).lines()
    assert any(
        line.startswith("  test_format        csv, delimiter semicolon  (") for line in shown
    )
    source = open_source(infer(config).config, cache_dir=tmp_path)
    texts = [[each.text for each in source.documents([s])] for s in ("unlabelled", "train")]
    assert texts[0] == texts[1]
    assert len(prepare(infer(config).config, cache_dir=tmp_path).valid) == 40


@pytest.mark.parametrize("key", ["test_path", "valid_path"])
def test_file_without_labels_is_found(tmp_path: Path, key: str) -> None:
    path = write(tmp_path, "r.csv", separated(","))
    other = write(tmp_path, "o.csv", "review\n" + "".join(f'"{text[:6]}"\n' for text, _ in ROWS))
    message = r"o\.csv has no column 'verdict', which has the labels in .*r\.csv\. .*`predict`\."
    with pytest.raises(DataError, match=message):
        infer(DataConfig(path=path, **{key: other}))  # type: ignore[arg-type]


def test_file_without_the_column_of_texts_is_found(tmp_path: Path) -> None:
    path = write(tmp_path, "r.csv", separated(","))
    other = write(tmp_path, "o.csv", separated(",").replace("review", "other"))
    with pytest.raises(DataError, match=r"no column 'review', .* remove data\.test_path\.$"):
        infer(DataConfig(path=path, test_path=other))


def test_texts_without_labels_are_no_training_file(tmp_path: Path) -> None:
    path = write(tmp_path, "r.txt", "".join(f"{text}\n" for text, _ in ROWS).replace(",", ""))
    with pytest.raises(DataError, match="contains one text per line, without labels"):
        infer(DataConfig(path=path))
