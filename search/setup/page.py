"""YAML with a comment for each key that needs one."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from celltune.search.config.yaml_text import comment, dump_inline

WIDTH = 100
"""Longest line, unless a single value is longer."""
_INDENT = "  "
_MOST_ALIGNED = 44
"""Longest line whose comment begins in the same column as those of its section."""


class _Line(NamedTuple):
    text: str
    comment: str


def commented_yaml(
    config: Mapping[str, Any], comments: Mapping[str, str], introduction: Sequence[str]
) -> str:
    """Return a config as YAML, which loads again to the same values.

    Args:
        config: plain values. A mapping of the highest level becomes a section, with a line per key.
        comments: text for people by dotted path, such as `data.path`; that of an element of a list
            by its index.
        introduction: lines of text before the first key.
    """
    sections = [[comment(line) for line in introduction]]
    top: list[_Line] = []
    for key, value in config.items():
        lines = list(_lines(key, value, key, comments))
        if isinstance(value, Mapping) and value:
            section = _Line(f"{key}:", comments.get(key, ""))
            members = [
                line
                for name, each in value.items()
                for line in _lines(name, each, f"{key}.{name}", comments)
            ]
            lines = [section, *(line._replace(text=f"{_INDENT}{line.text}") for line in members)]
        if len(lines) == 1:
            top += lines
            continue
        sections += [_aligned(top)] if top else []
        top = []
        sections.append(_aligned(lines))
    sections += [_aligned(top)] if top else []
    return "\n\n".join("\n".join(section) for section in sections if section) + "\n"


def _lines(key: str, value: Any, path: str, comments: Mapping[str, str]) -> Iterator[_Line]:
    """Yield a key and its value: on one line, or a list with a line per element."""
    about = comments.get(path, "")
    of_elements = [comments.get(f"{path}.{index}", "") for index in range(_length(value))]
    if any(of_elements) or (of_elements and isinstance(value[0], Mapping)):
        yield _Line(f"{key}:", about)
        for element, text in zip(value, of_elements, strict=True):
            first, *rest = _wrapped(element, 2 * len(_INDENT) + 2)
            yield _Line(f"{_INDENT}- {first}", text)
            yield from (_Line(f"{_INDENT}  {line}", "") for line in rest)
        return
    first, *rest = _wrapped(value, len(_INDENT) + len(key) + 2)
    if rest:
        yield _Line(f"{key}:", about)
        yield from (_Line(f"{_INDENT}{line}", "") for line in (first, *rest))
    else:
        yield _Line(f"{key}: {first}", about)


def _length(value: Any) -> int:
    return len(value) if isinstance(value, (list, tuple)) else 0


def _wrapped(value: Any, indent: int) -> list[str]:
    """Return a value as YAML: on one line or, if it is a longer list or mapping, on several."""
    whole = dump_inline(value)
    if indent + len(whole) <= WIDTH or not isinstance(value, (list, tuple, Mapping)):
        return [whole]
    if isinstance(value, Mapping):
        members, ends = [f"{key}: {dump_inline(each)}" for key, each in value.items()], "{}"
    else:
        members, ends = [dump_inline(each) for each in value], "[]"
    lines = [ends[0]]
    for index, member in enumerate(members):
        text = f"{member}{',' if index + 1 < len(members) else ends[1]}"
        if indent + len(lines[-1]) + len(text) > WIDTH and lines[-1].strip(ends):
            lines[-1] = lines[-1].rstrip()
            lines.append(" ")
        lines[-1] += f"{text} "
    return [line.rstrip() for line in lines]


def _aligned(lines: Sequence[_Line]) -> list[str]:
    """Return lines with their comments in one column, or above them if they are long."""
    short = [len(line.text) for line in lines if line.comment and len(line.text) <= _MOST_ALIGNED]
    column = max(short, default=0)
    result: list[str] = []
    for line in lines:
        if not line.comment:
            result.append(line.text)
            continue
        whole = f"{line.text.ljust(column)}  {comment(line.comment)}"
        if len(whole) > WIDTH:
            indent = line.text[: len(line.text) - len(line.text.lstrip())]
            result += textwrap.wrap(
                comment(line.comment)[2:],
                WIDTH,
                initial_indent=f"{indent}# ",
                subsequent_indent=f"{indent}# ",
                break_on_hyphens=False,
            )
            whole = line.text
        result.append(whole)
    return result
