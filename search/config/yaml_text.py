"""YAML that may come from anyone: the only place where it is parsed and written.

Configs, overrides and stored configs consist of texts, numbers, true, false, null, lists and
mappings with texts as keys. Everything else that YAML offers is rejected, and so is what would use
unbounded time or memory. Dates, numbers with colons (1:30) and numbers with a leading zero (010)
are texts, because YAML 1.1 would turn them into dates, 90 and 8.
"""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

from celltune.printable import printable, quoted

MAX_BYTES = 2**20
"""Largest size of a YAML text."""
MAX_NODES = 50_000
"""Largest number of keys and values, those behind an alias counted each time it is used."""
MAX_DEPTH = 50
"""Largest number of lists and mappings within each other."""
MAX_DIGITS = 100
"""Largest length of a number; Python would refuse to show one of thousands of digits."""

_PREFIX = "tag:yaml.org,2002:"
_NUMBERS = (f"{_PREFIX}int", f"{_PREFIX}float")
_MERGE = f"{_PREFIX}merge"
_FORMS = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (
        r"yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF",
        list("yYnNtTfFoO"),
    ),
    "int": (
        r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F][0-9a-fA-F_]*|0b[01][01_]*)",
        list("-+0123456789"),
    ),
    "float": (
        r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+"
        r"|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)",
        list("-+0123456789."),
    ),
    "merge": ("<<", ["<"]),
}
"""Pattern and first characters of the scalars without quotes that are not texts. Unlike in YAML
1.1, 1e-3 is a number."""

_FORBIDDEN = re.compile("[\0\ud800-\udfff]")
"""Characters that neither a path nor a UTF-8 file can contain."""
_NO_YAML = yaml.reader.Reader.NON_PRINTABLE
"""Characters that a YAML file cannot contain, not even in a comment."""


class YamlError(ValueError):
    """Raised if a text is not a YAML document of the supported kind.

    The message is a predicate, such as "is not valid YAML: line 2, column 1: ...".
    """


class _Dumper(yaml.SafeDumper):
    """Quotes the texts that this module or a YAML 1.1 parser would read as something else."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        # PyYAML would write some line separators so that it reads back something else.
        style = None if printable(text) == text else '"'
        return self.represent_scalar(f"{_PREFIX}str", text, style=style)


class _Loader(yaml.SafeLoader):
    """Rejects what this module does not support, before it is constructed."""

    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012 (replaces the base class's forms)

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._nodes = 0
        self._depth = 0
        self._sizes: dict[str, int | None] = {}
        """Number of nodes by anchor; None while its node is being read."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            self._count(self._size_of(event), event)
            return super().compose_node(parent, index)
        if (tag := getattr(event, "tag", None)) is not None:
            shown = quoted(tag.replace(_PREFIX, "!!", 1))
            raise _problem(f"the tag {shown} is not supported. Remove it", event)
        self._count(1, event)
        before, anchor = self._nodes, getattr(event, "anchor", None)
        if anchor is not None:
            self._sizes[anchor] = None
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _problem(f"there are more than {MAX_DEPTH} levels of nesting", event)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if anchor is not None:
            self._sizes[anchor] = self._nodes - before + 1
        if isinstance(node, yaml.ScalarNode):
            _check_scalar(node)
        return node

    def _size_of(self, alias: yaml.AliasEvent) -> int:
        size = self._sizes.get(str(alias.anchor), 1)
        if size is None:
            raise _problem(f"the alias {quoted(alias.anchor)} is within its own value", alias)
        return size

    def _count(self, nodes: int, event: yaml.Event) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise _problem(
                f"there are more than {MAX_NODES:,} values, those of aliases included", event
            )

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys: set[str] = set()
        for key_node, _ in node.value:
            if key_node.tag == _MERGE:
                raise _problem("the key << is not supported. Write out the keys", key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                raise _problem("a key is a list or a mapping. Write text", key_node)
            key = key_node.value
            if key_node.tag != f"{_PREFIX}str":
                raise _problem(f"the key {quoted(key)} is not text. Put it in quotes", key_node)
            if key in keys:
                raise _problem(f"the key {quoted(key)} occurs twice. Remove one", key_node)
            keys.add(key)
        return super().construct_mapping(node, deep)


for _name, (_pattern, _first) in _FORMS.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"{_PREFIX}{_name}", re.compile(rf"(?:{_pattern})\Z"), _first)
_Dumper.add_representer(str, _Dumper.represent_text)


def parse_yaml(content: bytes | str) -> Any:
    """Return the value of a YAML document; None if it is empty.

    Raises:
        YamlError: the content is too large, not UTF-8, not YAML, or uses what is not supported.
    """
    if len(content) > MAX_BYTES:
        raise YamlError(f"is larger than {MAX_BYTES:,} bytes. Shorten it.")
    try:
        text = content.decode() if isinstance(content, bytes) else content
        loader = _Loader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except UnicodeDecodeError as error:
        raise YamlError(
            f"is not UTF-8 text: {error.reason} at byte {error.start + 1}. Save it as UTF-8."
        ) from error
    except yaml.reader.ReaderError as error:
        line, column = _position(text, error.position)
        character = printable(text[error.position])
        raise YamlError(
            f"is not valid YAML: line {line}, column {column}: the character {character} is not "
            "allowed. Remove it."
        ) from error
    except yaml.MarkedYAMLError as error:
        raise YamlError(_sentence(error)) from error


def comment_of(text: str) -> str:
    """Return the comment at the end of a YAML value, with its #; empty if there is none.

    Raises:
        YamlError: the text is not such a value (see `parse_yaml`).
    """
    node = _composed(text)
    rest = text[node.end_mark.index if node else 0 :].strip()
    return rest if rest.startswith("#") else ""


def texts_before_comments(text: str) -> dict[tuple[str, ...], tuple[str, str]]:
    """Return the texts without quotes that a comment follows on the same line.

    Some of them may have been meant to contain the comment, such as the path of `file #1.csv`.

    Returns:
        The text and all of the line from its beginning on, by the keys and indices that lead to it.

    Raises:
        YamlError: the text is not a YAML document (see `parse_yaml`).
    """
    found: dict[tuple[str, ...], tuple[str, str]] = {}
    root = _composed(text)
    pending: list[tuple[tuple[str, ...], yaml.Node]] = [((), root)] if root else []
    while pending:
        location, node = pending.pop()
        if isinstance(node, yaml.MappingNode):
            pending += [((*location, key.value), value) for key, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            pending += [((*location, str(i)), value) for i, value in enumerate(node.value)]
        elif (
            isinstance(node, yaml.ScalarNode) and node.style is None and node.tag == f"{_PREFIX}str"
        ):
            start = node.start_mark.index
            line = text[start : (text + "\n").index("\n", start)].rstrip()
            if line[len(node.value) :].lstrip(" \t").startswith("#"):
                found[location] = (node.value, line)
    return found


def _composed(text: str) -> yaml.Node | None:
    loader = _Loader(text)
    try:
        node: yaml.Node | None = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        raise YamlError(_sentence(error)) from error
    finally:
        loader.dispose()
    return node


def dump_yaml(value: Any) -> str:
    """Return plain values as YAML, in the order of their keys."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def dump_inline(value: Any) -> str:
    """Return a plain value as printable YAML on one line: the value of a key or within a list."""
    text: str = yaml.dump(
        [value],
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=True,
        width=math.inf,
    )
    # A text that is not printable is in double quotes, where its escapes stand for it.
    return printable(text.strip()[1:-1])


def comment(text: str) -> str:
    """Return text of anyone as a comment of one line; characters that YAML lacks are escapes."""
    shown = _NO_YAML.sub(lambda match: ascii(match[0])[1:-1], printable(text))
    return f"# {' '.join(shown.split())}"


class _Rejected(yaml.MarkedYAMLError):
    """A YAML document with something that is not supported."""


def _problem(text: str, origin: yaml.Event | yaml.Node) -> _Rejected:
    mark: Any = origin.start_mark
    return _Rejected(None, None, text, mark)


def _check_scalar(node: yaml.ScalarNode) -> None:
    if node.tag in _NUMBERS and len(node.value) > MAX_DIGITS:
        raise _problem(f"the number is longer than {MAX_DIGITS} characters. Shorten it", node)
    if found := _FORBIDDEN.search(node.value):
        raise _problem(f"the character {printable(found[0])} is not allowed. Remove it", node)


def _sentence(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    problem = error.problem or "unexpected content"
    if problem.startswith("but "):
        problem = f"{error.context} {problem}"
    problem = printable(problem, 200).rstrip(".")
    fix = "" if isinstance(error, _Rejected) else " Check the indentation, brackets and quotes."
    return f"is not valid YAML: {where}{problem}.{fix}"


def _position(text: str, index: int) -> tuple[int, int]:
    """Return the line and the column of a character, both counted from 1."""
    return text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index)
