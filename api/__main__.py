"""Run the command line: the command `celltune`, and `python -m celltune`."""

from __future__ import annotations

from celltune.import_path import omit_working_directory


def main() -> None:
    """Run a command, which imports nothing from the working directory."""
    omit_working_directory()
    from celltune.search.cli.app import main as run

    run()


if __name__ == "__main__":
    main()
