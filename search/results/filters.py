"""The filter of a leaderboard: `cell == 'gru' and hidden_size >= 64`.

A filter has the syntax of a Python expression and is parsed by `ast`, but it is never executed as
Python. Only columns, constants, lists, comparisons, `in`, `and`, `or` and `not` are allowed; every
other syntax is rejected. A filter therefore cannot call functions, compute or access anything.
"""

from __future__ import annotations

import ast
import operator
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from celltune.search.errors import OptionError
from celltune.spelling import closest_match

_Expression = Callable[[Mapping[str, Any]], Any]
"""An expression of a filter, as a function of a row."""

_YAML_CONSTANTS = {"true": True, "false": False, "null": None}
"""Constants in the spelling of YAML; `ast` handles those of Python."""

_EXAMPLE = "Write a filter like: cell == 'gru' and hidden_size >= 64"


def parse_filter(
    text: str, columns: Sequence[str] | None = None
) -> Callable[[Mapping[str, Any]], bool]:
    """Parse a filter.

    A column without a value is None. It equals only None, and comparisons with <, <=, > and >= are
    false for it.

    Args:
        text: the filter.
        columns: the columns of the rows; None: unknown, so every name is accepted.

    Returns:
        A function that returns whether a row matches. It raises OptionError if two values cannot
        be compared.

    Raises:
        OptionError: the filter is invalid, or it names a column that does not exist.
    """
    try:
        expression = _Compiler(text, columns).compile(_parse(text))
    except RecursionError as error:
        raise _invalid(text, "is nested too deeply") from error

    def matches(row: Mapping[str, Any]) -> bool:
        try:
            return _truth(text, expression(row))
        except RecursionError as error:
            raise _invalid(text, "is nested too deeply") from error
        except TypeError as error:
            raise _invalid(text, f"compares values of different types ({error})") from error

    return matches


def _parse(text: str) -> ast.expr:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # `ast` warns about invalid escape sequences
            return ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        position = "" if error.offset is None else f" at character {error.offset}"
        raise _invalid(text, f"has a syntax error{position} ({error.msg})") from error
    except (MemoryError, RecursionError) as error:
        raise _invalid(text, "is nested too deeply") from error
    except ValueError as error:
        raise _invalid(text, f"has a syntax error ({error})") from error


def _invalid(text: str, problem: str) -> OptionError:
    return OptionError(f'The filter "{text}" {problem}. {_EXAMPLE}.')


class _Compiler:
    """Compiles the syntax tree of a filter into functions of a row."""

    def __init__(self, text: str, columns: Sequence[str] | None) -> None:
        self._text = text
        self._columns = columns

    def compile(self, node: ast.expr) -> _Expression:
        match node:
            case ast.Constant(value=bool() | int() | float() | str() | None as value):
                return lambda row: value  # noqa: ARG005
            case ast.Name(id=name):
                return self._name(name)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                return lambda row: -value  # noqa: ARG005
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                negated = self.compile(operand)
                return lambda row: not _truth(self._text, negated(row))
            case ast.BoolOp(op=op, values=values):
                return self._combined(all if isinstance(op, ast.And) else any, values)
            case ast.List(elts=members) | ast.Tuple(elts=members) | ast.Set(elts=members):
                items = [self.compile(member) for member in members]
                return lambda row: [item(row) for item in items]
            case ast.Compare(left=left, ops=ops, comparators=right):
                return self._comparison(ops, [left, *right])
        raise _invalid(
            self._text,
            f"contains '{ast.unparse(node)}'. Allowed are columns, values, lists of values, "
            "==, !=, <, <=, >, >=, in, is, and, or, not",
        )

    def _name(self, name: str) -> _Expression:
        exists = self._columns is None or name in self._columns
        if name in _YAML_CONSTANTS and not (self._columns and exists):
            value = _YAML_CONSTANTS[name]
            return lambda row: value  # noqa: ARG005
        if not exists:
            raise OptionError(
                f"The filter \"{self._text}\" names the column '{name}', which does not exist. "
                f"{closest_match(name, self._columns or ())} Put text in quotes."
            )
        return lambda row: row[name]

    def _combined(
        self, combine: Callable[[Any], bool], values: Sequence[ast.expr]
    ) -> Callable[[Mapping[str, Any]], bool]:
        operands = [self.compile(value) for value in values]
        return lambda row: combine(_truth(self._text, operand(row)) for operand in operands)

    def _comparison(self, ops: Sequence[ast.cmpop], operands: Sequence[ast.expr]) -> _Expression:
        values = [self.compile(operand) for operand in operands]
        tests = [_COMPARISONS[type(op)] for op in ops]
        triples = list(zip(tests, values, values[1:], strict=False))
        return lambda row: all(test(left(row), right(row)) for test, left, right in triples)


def _truth(text: str, value: Any) -> bool:
    if isinstance(value, bool) or value is None:
        return bool(value)
    raise _invalid(text, f"uses {value!r} as a condition; compare it with a value")


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    return lambda left, right: left is not None and right is not None and compare(left, right)


def _contains(member: Any, container: Any) -> bool:
    if container is None or (member is None and isinstance(container, str)):
        return False
    return member in container


_COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: _ordered(operator.lt),
    ast.LtE: _ordered(operator.le),
    ast.Gt: _ordered(operator.gt),
    ast.GtE: _ordered(operator.ge),
    ast.In: _contains,
    ast.NotIn: lambda member, container: not _contains(member, container),
    ast.Is: operator.eq,
    ast.IsNot: operator.ne,
}
