"""Paths in a config file that YAML ends early: a # after a space begins a comment."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from celltune.printable import quoted
from celltune.search.config.overrides import key_of
from celltune.search.config.problems import shown_path
from celltune.search.config.yaml_text import texts_before_comments

_PATHS = ("path", "test_path", "valid_path", "unlabelled", "groups", "tensorboard")
"""Keys whose values are paths, in any section."""
_GLOB = re.compile(r"[*?[]")


def cut_path_problems(text: str, overrides: Sequence[str]) -> list[str]:
    """Return a sentence for each path of a config file whose rest was probably read as a comment.

    That is certain if the complete line is the path of a file, and probable if the shorter path is
    of no file and nothing separates the # from what follows, as in `reviews #1.csv`.

    Args:
        text: the file's content, which is valid.
        overrides: changes of the config; paths that they set are not reported.
    """
    changed = [f"{key_of(override)}." for override in overrides]
    problems = []
    for location, (path, line) in texts_before_comments(text).items():
        key = ".".join(location)
        names = [part for part in location if not part.isdigit()]
        if not names or names[-1] not in _PATHS or f"{key}.".startswith(tuple(changed)):
            continue
        comment = line[len(path) :].lstrip()
        if _exists(line) or (comment[1:2].strip() and not _exists(path) and not _GLOB.search(path)):
            problems.append(
                f"{shown_path(location)} is {quoted(path)}, because the rest of the line, "
                f"{quoted(comment)}, is a comment for YAML. Put the complete path in quotes: "
                f'"{line}". If it is a comment, write a space after #.'
            )
    return problems


def _exists(path: str) -> bool:
    try:
        return Path(path).expanduser().exists()
    except (OSError, RuntimeError):
        return False
