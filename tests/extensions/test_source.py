"""A package adds a data source as docs/extending/source.md describes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from celltune.data_prep.config import DataConfig
from celltune.data_prep.errors import DataError
from celltune.data_prep.preparation.pipeline import prepare, prepare_test
from celltune.data_prep.preparation.survey import survey
from celltune.search.bundles.model_card import data_terms
from tests.api.extension import installed

PAGE = (Path(__file__).parents[2] / "docs" / "extending" / "source.md").read_text("utf-8")
MODULE, SUITE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
ENTRY_POINT = re.search(r'entry-points\."(.*?)"\]\n(\w+) = "(.*?)"', PAGE)

exec(SUITE)  # noqa: S102 - defines TestTextFolders, the contract suite of the page's example

TABLE_MODULE = """
from celltune.data_prep.sources.table import TableSource
from celltune.data_prep.tables.separated import csv_cells


class PipeSource(TableSource):
    def cells(self, path, columns):
        return csv_cells(path, columns, delimiter="|")
"""


@pytest.fixture(autouse=True, scope="module")
def _packages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    assert ENTRY_POINT is not None
    group, name, reference = ENTRY_POINT.groups()
    folder = tmp_path_factory.mktemp("site")
    pipe = {group: {"pipe": "pipe_source:PipeSource"}}
    with (
        installed(folder, "text_folders", {group: {name: reference}}, MODULE),
        installed(folder, "pipe_source", pipe, TABLE_MODULE),
    ):
        yield


@pytest.fixture
def letters(tmp_path: Path) -> Path:
    for name, word in (("complaint", "bad"), ("praise", "good")):
        (tmp_path / "letters" / name).mkdir(parents=True)
        for number in range(10):
            text = f"a {word} letter {number}"
            (tmp_path / "letters" / name / f"{number}.txt").write_text(text, "utf-8")
    return tmp_path / "letters"


def test_config_selects_the_source_by_name(letters: Path) -> None:
    assert DataConfig(source="text_folders", path=letters).source == "text_folders"
    with pytest.raises(ValueError, match=r"'text_folder' is not a data source.*'text_folders'"):
        DataConfig(source="text_folder", path=letters)


def test_config_accepts_declared_keys_only(letters: Path) -> None:
    with pytest.raises(ValueError, match=r"The source 'text_folders' needs data\.path"):
        DataConfig(source="text_folders")
    with pytest.raises(ValueError, match=r"'text_folders' does not read it .*path, test_size"):
        DataConfig(source="text_folders", path=letters, text_column="body")


def test_documents_are_prepared(letters: Path, tmp_path: Path) -> None:
    config = DataConfig(source="text_folders", path=letters, test_size=4, valid_size=4)
    data = prepare(config, cache_dir=tmp_path / "cache")
    test = prepare_test(config, cache_dir=tmp_path / "cache")
    assert data.classes == ("complaint", "praise")
    assert (len(data.train), len(data.valid), len(test.split)) == (12, 4, 4)
    assert sum(survey(config).counts.values()).tolist() == [10, 10]


def test_terms_of_the_data_ask_for_the_missing_terms(letters: Path) -> None:
    terms = data_terms(DataConfig(source="text_folders", path=letters))
    assert "trained on data of the source 'text_folders'" in terms
    assert "State them here" in terms


def test_error_names_the_file(letters: Path, tmp_path: Path) -> None:
    (letters / "praise" / "3.txt").write_bytes(b"caf\xe9")
    with pytest.raises(DataError, match=r"praise/3\.txt is not valid UTF-8"):
        prepare(DataConfig(source="text_folders", path=letters), cache_dir=tmp_path / "cache")


def test_package_adds_a_table_format(tmp_path: Path) -> None:
    path = tmp_path / "letters.pipe"
    path.write_text("text|label\n" + "".join(f"letter {n}|{n % 2}\n" for n in range(10)))
    config = DataConfig(source="pipe", path=path, valid_size=2)
    assert sum(survey(config).counts.values()).tolist() == [5, 5]
    path.write_text("text|label\n|1\n")
    with pytest.raises(DataError, match=r"letters\.pipe, row 1 .*the text .* is empty"):
        survey(config)
