"""Run the command line: `python -m celltune`."""

from __future__ import annotations

from celltune.search.cli.app import main

main()
