"""The filter of a leaderboard: `cell == 'gru' and hidden_size >= 64`.

Written as in Python, and read by Python's own parser, but never run as Python: only columns,
constants, comparisons, `in`, `and`, `or` and `not` mean anything; whatever else stands in a filter
is refused. A filter can't call, compute or reach anything.
"""

from __future__ import annotations

import ast
import operator
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from celltune.search.errors import OptionError
from celltune.spelling import closest_match

_Value = Callable[[Mapping[str, Any]], Any]

_WORDS = {"true": True, "false": False, "null": None}
"""As YAML writes them; Python's own are constants to its parser."""

_EXAMPLE = "A filter looks like: cell == 'gru' and hidden_size >= 64"


def parse_filter(
    text: str, columns: Sequence[str] | None = None
) -> Callable[[Mapping[str, Any]], bool]:
    """Read a filter.

    A column without a value is None: it equals nothing but None, and is neither above nor below
    anything.

    Args:
        text: the filter.
        columns: what a row holds; None: not known, every name passes.

    Returns:
        A function that says of a row whether the filter holds. It raises OptionError where two
        values can't be compared.

    Raises:
        OptionError: the filter doesn't parse, or names a column that isn't there.
    """
    try:
        value = _Reader(text, columns).read(_parse(text))
    except RecursionError as error:
        raise _refused(text, "is nested too deeply") from error

    def holds(row: Mapping[str, Any]) -> bool:
        try:
            return _truth(text, value(row))
        except RecursionError as error:
            raise _refused(text, "is nested too deeply") from error
        except TypeError as error:
            raise _refused(text, f"compares what can't be compared ({error})") from error

    return holds


def _parse(text: str) -> ast.expr:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an odd backslash, which is the person's business
            return ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        where = "" if error.offset is None else f" at character {error.offset}"
        raise _refused(text, f"doesn't parse{where} ({error.msg})") from error
    except (MemoryError, RecursionError) as error:
        raise _refused(text, "is nested too deeply") from error
    except ValueError as error:
        raise _refused(text, f"doesn't parse ({error})") from error


def _refused(text: str, why: str) -> OptionError:
    return OptionError(f'The filter "{text}" {why}. {_EXAMPLE}')


class _Reader:
    """Turns what the parser read into a function of a row."""

    def __init__(self, text: str, columns: Sequence[str] | None) -> None:
        self._text = text
        self._columns = columns

    def read(self, node: ast.expr) -> _Value:
        match node:
            case ast.Constant(value=bool() | int() | float() | str() | None as value):
                return lambda row: value  # noqa: ARG005
            case ast.Name(id=name):
                return self._name(name)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                return lambda row: -value  # noqa: ARG005
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                inner = self.read(operand)
                return lambda row: not _truth(self._text, inner(row))
            case ast.BoolOp(op=op, values=values):
                return self._joined(all if isinstance(op, ast.And) else any, values)
            case ast.List(elts=members) | ast.Tuple(elts=members) | ast.Set(elts=members):
                parts = [self.read(member) for member in members]
                return lambda row: [part(row) for part in parts]
            case ast.Compare(left=left, ops=ops, comparators=right):
                return self._compared(ops, [left, *right])
        raise _refused(
            self._text,
            f"holds '{ast.unparse(node)}'; allowed are columns, values, lists of values, "
            "==, !=, <, <=, >, >=, in, is, and, or, not",
        )

    def _name(self, name: str) -> _Value:
        known = self._columns is None or name in self._columns
        if name in _WORDS and not (self._columns and known):
            value = _WORDS[name]
            return lambda row: value  # noqa: ARG005
        if not known:
            raise OptionError(
                f"The filter \"{self._text}\" names no column: '{name}'. "
                f"{closest_match(name, self._columns or ())} A text is written in quotes: '{name}'."
            )
        return lambda row: row[name]

    def _joined(
        self, join: Callable[[Any], bool], values: Sequence[ast.expr]
    ) -> Callable[[Mapping[str, Any]], bool]:
        parts = [self.read(value) for value in values]
        return lambda row: join(_truth(self._text, part(row)) for part in parts)

    def _compared(self, ops: Sequence[ast.cmpop], operands: Sequence[ast.expr]) -> _Value:
        values = [self.read(operand) for operand in operands]
        tests = [_COMPARISONS[type(op)] for op in ops]
        triples = list(zip(tests, values, values[1:], strict=False))
        return lambda row: all(test(left(row), right(row)) for test, left, right in triples)


def _truth(text: str, value: Any) -> bool:
    if isinstance(value, bool) or value is None:
        return bool(value)
    raise _refused(text, f"takes {value!r} for a yes or no; compare it with something")


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    return lambda left, right: left is not None and right is not None and compare(left, right)


def _within(member: Any, whole: Any) -> bool:
    if whole is None or (member is None and isinstance(whole, str)):
        return False
    return member in whole


_COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: _ordered(operator.lt),
    ast.LtE: _ordered(operator.le),
    ast.Gt: _ordered(operator.gt),
    ast.GtE: _ordered(operator.ge),
    ast.In: _within,
    ast.NotIn: lambda member, whole: not _within(member, whole),
    ast.Is: operator.eq,
    ast.IsNot: operator.ne,
}
