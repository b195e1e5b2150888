"""Paths that YAML ends at a comment."""

from __future__ import annotations

from pathlib import Path

import pytest

from celltune.search.config.loading import resolve
from celltune.search.errors import ConfigError

CONFIG = """\
name: cut
data:
  source: csv
  path: {path}
space: {{cell: gru}}
"""


def config_file(folder: Path, path: str) -> Path:
    file = folder / "search.yaml"
    file.write_text(CONFIG.format(path=path))
    return file


def test_a_path_with_a_number_sign_is_reported(tmp_path: Path) -> None:
    file = config_file(tmp_path, "/no/reviews #1.csv")
    with pytest.raises(ConfigError, match=r"search\.yaml has an error:") as caught:
        resolve(file)
    assert (
        "data.path is '/no/reviews', because the rest of the line, '#1.csv', is a comment for "
        'YAML. Put the complete path in quotes: "/no/reviews #1.csv". If it is a comment, write a '
        "space after #." in str(caught.value)
    )


def test_a_cut_path_is_reported_with_all_other_problems(tmp_path: Path) -> None:
    file = config_file(tmp_path, "/no/reviews #1.csv")
    with pytest.raises(ConfigError, match=r"search\.yaml has 3 errors:") as caught:
        resolve(file, ["seed=010", "retries=x"])
    problems = caught.value.args[1:]
    assert [text.split(" is ")[0] for text in problems] == ["data.path", "seed", "retries"]
    with pytest.raises(ConfigError, match="`overrides` contains 'x', which is not of the form"):
        resolve(file, ["x"])


def test_a_comment_that_completes_the_path_of_a_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "a # b.csv").touch()
    file = config_file(tmp_path, f"{tmp_path}/a # b.csv")
    with pytest.raises(ConfigError, match=r"data\.path is .*, because the rest of the line, '# b"):
        resolve(file)
    assert resolve(file, ["data.path=/other.csv"]).data.path == Path("/other.csv")
    with pytest.raises(ConfigError, match=r"data\.path is"):
        resolve(file, ["name=x", "data.seed=3"])


@pytest.mark.parametrize("comment", [" # from the archive", "  #\tx", " #", ""])
def test_other_comments_are_no_problem(tmp_path: Path, comment: str) -> None:
    file = config_file(tmp_path, f"/no/reviews.csv{comment}")
    assert resolve(file).data.path == Path("/no/reviews.csv")


def test_a_comment_after_an_existing_path_or_quotes_is_no_problem(tmp_path: Path) -> None:
    (tmp_path / "a.csv").touch()
    assert resolve(config_file(tmp_path, f"{tmp_path}/a.csv #small")).data.path is not None
    file = config_file(tmp_path, '"/no/reviews #1.csv" #one')
    assert resolve(file).data.path == Path("/no/reviews #1.csv")
