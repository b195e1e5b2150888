"""Reader of pickles of plain data: lists, tuples, mappings, sets, strings, bytes and numbers.

Python's own unpickler calls any function that a pickle names, allocates what a pickle announces,
and overflows the stack at deeply nested data. This reader knows only the instructions that build
plain data. It never calls anything by name, its memory is limited, and nothing in it is recursive.

Source of the instructions: Python's `pickletools`, which documents all protocols (0 to 5).
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable
from typing import Any

from celltune.printable import quoted

BYTES_PER_INSTRUCTION = 24
"""Memory that instructions need on average: most push a short string or store it in the memo."""
BYTES_PER_CONTAINER = 256

_DAMAGED = "it is truncated or damaged"
_SETS = {"set": set, "frozenset": frozenset}


class PlainPickleError(Exception):
    """A pickle is damaged, needs too much memory or contains more than plain data."""


class PlainPickleTooLargeError(PlainPickleError):
    """A pickle needs too much memory."""


def load_plain(content: bytes, memory: int) -> Any:
    """Return the object that a pickle contains.

    Keys of mappings and members of sets have to be strings or integers of up to 32 bits. Strings of
    Python 2 are decoded as Latin-1. What follows the object is ignored.

    Args:
        content: the pickle.
        memory: limit for the memory that the object needs besides its characters, in bytes.

    Raises:
        PlainPickleTooLargeError: the pickle needs too much memory.
        PlainPickleError: the pickle is damaged or contains more than plain data.
    """
    machine = _Machine(content, memory)
    try:
        return machine.run()
    except PlainPickleError:
        raise
    except (IndexError, KeyError, ValueError, TypeError, struct.error) as error:
        # Too few bytes or objects, an unknown entry of the memo, or a number or text that is none.
        raise PlainPickleError(_DAMAGED) from error


class _Machine:
    """The stack machine that pickles are programs of."""

    def __init__(self, content: bytes, memory: int) -> None:
        self._content, self._at = content, 0
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._instructions = memory // BYTES_PER_INSTRUCTION
        self._containers = memory // BYTES_PER_CONTAINER

    def run(self) -> Any:
        """Execute the instructions; return the object."""
        content, stack, memo, at = self._content, self._stack, self._memo, 0
        decode, number = codecs.utf_8_decode, int.from_bytes
        for _ in range(self._instructions):
            code = content[at]
            # Nearly all instructions push a string and store it in the memo, so they come first.
            if code in (0x8C, 0x58):  # SHORT_BINUNICODE, BINUNICODE
                begin = at + 2 if code == 0x8C else at + 5
                end = begin + number(content[at + 1 : begin], "little")
                text = decode(content[begin:end], "surrogatepass")[0]
                stack.append(text)
                following = content[end]
                if following == 0x94:  # MEMOIZE
                    memo[len(memo)] = text
                    end += 1
                elif following == 0x72:  # LONG_BINPUT
                    memo[number(content[end + 1 : end + 5], "little")] = text
                    end += 5
                at = end
            elif code == 0x68:  # BINGET
                stack.append(memo[content[at + 1]])
                at += 2
            elif code == 0x6A:  # LONG_BINGET
                stack.append(memo[number(content[at + 1 : at + 5], "little")])
                at += 5
            elif code == 0x2E:  # STOP
                return stack.pop()
            else:
                self._at = at + 1
                self._execute(code)
                at = self._at
        raise PlainPickleTooLargeError("it contains too many objects")

    def _execute(self, code: int) -> None:
        instruction = _INSTRUCTIONS.get(code)
        if instruction is None:
            raise PlainPickleError(
                f"it contains the instruction 0x{code:02x} at byte {self._at - 1}, which does not "
                f"build plain data"
            )
        instruction(self)

    def _take(self, count: int) -> bytes:
        begin, self._at = self._at, self._at + count
        taken = self._content[begin : self._at]
        if len(taken) != count:
            raise PlainPickleError(_DAMAGED)
        return taken

    def _line(self) -> bytes:
        begin = self._at
        end = self._content.index(b"\n", begin)
        self._at = end + 1
        return self._content[begin:end]

    def _number(self, layout: str) -> Any:
        return struct.unpack(layout, self._take(struct.calcsize(layout)))[0]

    def _sized(self, layout: str) -> bytes:
        count: int = self._number(layout)
        if count < 0:
            raise PlainPickleError(_DAMAGED)
        return self._take(count)

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _push_container(self, value: Any) -> None:
        self._containers -= 1
        if self._containers < 0:
            raise PlainPickleTooLargeError("it contains too many containers")
        self._stack.append(value)

    def _since_mark(self) -> list[Any]:
        begin = self._marks.pop()
        items = self._stack[begin:]
        del self._stack[begin:]
        return items

    def _pop(self, count: int) -> list[Any]:
        items = self._stack[-count:]
        if len(items) < count:
            raise PlainPickleError(_DAMAGED)
        del self._stack[-count:]
        return items

    def _drop(self, count: int) -> None:
        self._pop(count)

    def _drop_since_mark(self) -> None:
        self._since_mark()

    def _skip(self, count: int) -> None:
        self._take(count)

    def _mark(self) -> None:
        self._marks.append(len(self._stack))

    def _duplicate(self) -> None:
        self._push(self._stack[-1])

    def _store(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    def _append(self, items: list[Any]) -> None:
        _require(self._stack[-1], list).extend(items)

    def _set_items(self, items: list[Any]) -> None:
        keys, values = items[::2], items[1::2]
        if len(keys) != len(values):
            raise PlainPickleError(_DAMAGED)
        _require(self._stack[-1], dict).update(zip(_hashable(keys), values, strict=True))

    def _add_items(self) -> None:
        items = self._since_mark()
        _require(self._stack[-1], set).update(_hashable(items))

    def _dictionary(self) -> None:
        items = self._since_mark()
        self._push_container({})
        self._set_items(items)

    def _integer(self) -> None:
        line = self._line()
        booleans = {b"00": False, b"01": True}
        self._push(booleans[line] if line in booleans else int(line.rstrip(b"L")))

    def _string(self) -> None:
        line = self._line()
        if len(line) < 2 or line[:1] not in (b"'", b'"') or line[-1:] != line[:1]:
            raise PlainPickleError(_DAMAGED)
        self._push(codecs.escape_decode(line[1:-1])[0].decode("latin1"))

    def _global(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            raise PlainPickleError(_DAMAGED)
        if module not in ("builtins", "__builtin__") or name not in _SETS:
            shown = quoted(f"{module}.{name}")
            raise PlainPickleError(f"it loads {shown}, which is not plain data")
        self._push(_SETS[name])

    def _global_by_lines(self) -> None:
        self._global(*(self._line().decode("utf-8", "replace") for _ in range(2)))

    def _reduce(self) -> None:
        """Make a set of the list in a tuple: pickles of protocol 3 and older load it by name."""
        kind, arguments = self._pop(2)
        if kind not in (set, frozenset) or type(arguments) is not tuple or len(arguments) != 1:
            raise PlainPickleError("it calls a function, which is not plain data")
        self._push_container(kind(_hashable(_require(arguments[0], list))))

    def _reject_reference(self) -> None:
        raise PlainPickleError("it refers to an object outside the file")


def _text(content: bytes) -> str:
    return content.decode("utf-8", "surrogatepass")


def _long(content: bytes) -> int:
    return int.from_bytes(content, "little", signed=True)


def _require(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise PlainPickleError(_DAMAGED)
    return value


def _hashable(values: list[Any]) -> list[Any]:
    # The hash of nested tuples overflows the stack, and the hashes of long integers can collide.
    for value in values:
        if type(value) is not str and (type(value) is not int or value.bit_length() > 32):
            raise PlainPickleError(
                "a key of a mapping or a member of a set is neither a string nor a short integer"
            )
    return values


_INSTRUCTIONS: dict[int, Callable[[_Machine], None]] = {
    ord("("): _Machine._mark,
    ord("0"): lambda machine: machine._drop(1),
    ord("1"): _Machine._drop_since_mark,
    ord("2"): _Machine._duplicate,
    ord("N"): lambda machine: machine._push(None),
    0x88: lambda machine: machine._push(True),
    0x89: lambda machine: machine._push(False),
    ord("I"): _Machine._integer,
    ord("L"): _Machine._integer,
    ord("J"): lambda machine: machine._push(machine._number("<i")),
    ord("K"): lambda machine: machine._push(machine._number("<B")),
    ord("M"): lambda machine: machine._push(machine._number("<H")),
    0x8A: lambda machine: machine._push(_long(machine._sized("<B"))),
    0x8B: lambda machine: machine._push(_long(machine._sized("<i"))),
    ord("F"): lambda machine: machine._push(float(machine._line())),
    ord("G"): lambda machine: machine._push(machine._number(">d")),
    ord("S"): _Machine._string,
    ord("T"): lambda machine: machine._push(machine._sized("<i").decode("latin1")),
    ord("U"): lambda machine: machine._push(machine._sized("<B").decode("latin1")),
    ord("V"): lambda machine: machine._push(str(machine._line(), "raw-unicode-escape")),
    0x8D: lambda machine: machine._push(_text(machine._sized("<Q"))),
    ord("B"): lambda machine: machine._push(machine._sized("<I")),
    ord("C"): lambda machine: machine._push(machine._sized("<B")),
    0x8E: lambda machine: machine._push(machine._sized("<Q")),
    0x96: lambda machine: machine._push(machine._sized("<Q")),
    ord("]"): lambda machine: machine._push_container([]),
    ord("l"): lambda machine: machine._push_container(machine._since_mark()),
    ord("a"): lambda machine: machine._append(machine._pop(1)),
    ord("e"): lambda machine: machine._append(machine._since_mark()),
    ord(")"): lambda machine: machine._push(()),
    ord("t"): lambda machine: machine._push_container(tuple(machine._since_mark())),
    0x85: lambda machine: machine._push_container(tuple(machine._pop(1))),
    0x86: lambda machine: machine._push_container(tuple(machine._pop(2))),
    0x87: lambda machine: machine._push_container(tuple(machine._pop(3))),
    ord("}"): lambda machine: machine._push_container({}),
    ord("d"): _Machine._dictionary,
    ord("s"): lambda machine: machine._set_items(machine._pop(2)),
    ord("u"): lambda machine: machine._set_items(machine._since_mark()),
    0x8F: lambda machine: machine._push_container(set()),
    0x90: _Machine._add_items,
    0x91: lambda machine: machine._push_container(frozenset(_hashable(machine._since_mark()))),
    ord("p"): lambda machine: machine._store(int(machine._line())),
    ord("q"): lambda machine: machine._store(machine._number("<B")),
    ord("r"): lambda machine: machine._store(machine._number("<I")),
    0x94: lambda machine: machine._store(len(machine._memo)),
    ord("g"): lambda machine: machine._push(machine._memo[int(machine._line())]),
    0x80: lambda machine: machine._skip(1),
    0x95: lambda machine: machine._skip(8),
    ord("c"): _Machine._global_by_lines,
    0x93: lambda machine: machine._global(*machine._pop(2)),
    ord("R"): _Machine._reduce,
    ord("P"): _Machine._reject_reference,
    ord("Q"): _Machine._reject_reference,
}
"""The instructions that build plain data, by their code, except those that `run` executes."""
