"""A package adds a leaderboard format as docs/extending/leaderboard_format.md describes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from celltune.registry import ExtensionError
from celltune.search.cli.app import app
from celltune.search.results.formats import format_of, render
from tests.extensions.page import example
from tests.search.simulated_search import finished_search, make_config

EXAMPLE = example("leaderboard_format")

exec(EXAMPLE.suite)  # noqa: S102 - defines TestTsv, the contract suite of the page's example


@pytest.fixture(autouse=True, scope="module")
def _tsv_format(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with EXAMPLE.installed(tmp_path_factory.mktemp("site")):
        yield


def test_command_writes_a_file_in_the_installed_format(tmp_path: Path) -> None:
    finished_search(tmp_path, make_config())
    output = tmp_path / "board.tsv"
    command = ["leaderboard", "demo", "--storage", str(tmp_path), "--top", "3"]
    written = CliRunner().invoke(app, [*command, "--output", str(output)])
    assert written.exit_code == 0, written.output
    printed = CliRunner().invoke(app, [*command, "--format", "tsv"])
    assert printed.stdout == output.read_text("utf-8")
    header, *lines = [line.split("\t") for line in printed.stdout.splitlines()]
    assert [line[header.index("rank")] for line in lines] == ["1", "2", "3"]


def test_unknown_format_is_reported_with_the_installed_one() -> None:
    assert format_of(".TSV") == "tsv"
    with pytest.raises(ExtensionError, match=r"'tvs' is not a leaderboard format. .*latex, tsv\."):
        render([], "tvs")
