"""The command line in this process, as a person types it."""

from __future__ import annotations

import sys

import pytest

from celltune.search.cli import app as cli


def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object
) -> tuple[int, str, str]:
    """Give the exit code, and what was written to the two outputs."""
    monkeypatch.setattr(sys, "argv", ["celltune", *(str(argument) for argument in arguments)])
    code = 0
    try:
        cli.main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    said = capsys.readouterr()
    return code, said.out, said.err
