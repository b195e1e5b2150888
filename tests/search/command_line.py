"""Run the command line in the process of a test."""

from __future__ import annotations

import sys

import pytest

from celltune.search.cli import app as cli


def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object
) -> tuple[int, str, str]:
    """Run `celltune` with arguments and return its exit code, stdout and stderr."""
    monkeypatch.setattr(sys, "argv", ["celltune", *(str(argument) for argument in arguments)])
    code = 0
    try:
        cli.main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    captured = capsys.readouterr()
    return code, captured.out, captured.err
