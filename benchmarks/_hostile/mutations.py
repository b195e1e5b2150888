"""Random changes of bytes, JSON and tensors, and values that programs stumble over."""

from __future__ import annotations

import copy
import json
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

TEXTS: tuple[str, ...] = (
    "",
    " ",
    ".",
    "..",
    "../../outside/victim",
    "/outside/victim",
    "a/b",
    "a\\b",
    "-rf",
    "--help",
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\x9b31m",
    "two\nlines",
    "carriage\rreturn",
    "tab\there",
    "nul\0byte",
    "\u202eright to left",
    "\u2066isolated",
    "line\u2028separator",
    "\ufeffmark",
    "\ud800",
    "=cmd|' /C calc'!A0",
    "+1+1",
    "@SUM(A1)",
    "`code`",
    "| cell | of | a | table |",
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "[link](javascript:alert(1))",
    "[bold]markup[/bold]",
    "[/]",
    "{0.__class__}",
    "%s%n%d",
    "${HOME}",
    "$(touch executed)",
    "; touch executed",
    "~nosuchuser",
    "~root",
    "NaN",
    "null",
    "🙂" * 20,
    "é\u0301" * 50,
    "x" * 5_000,
    "漢" * 3_000,
)
"""Texts for names, labels and messages."""

NUMBERS: tuple[Any, ...] = (
    -1,
    0,
    1,
    2,
    -0.0,
    0.5,
    1.5,
    7,
    1e-320,
    1e308,
    -1e308,
    float("nan"),
    float("inf"),
    float("-inf"),
    2**31,
    2**63,
    -(2**63) - 1,
    2**64,
    10**30,
    10**400,
)
"""Numbers at and beyond the limits of types."""


def deep(levels: int) -> list[Any]:
    """Return nested lists."""
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def hostile_value(random: Random) -> Any:
    """Return a value of any type."""
    others: tuple[Any, ...] = (None, True, False, [], {}, [[]], {"": {}}, deep(60), [None] * 40)
    return random.choice((random.choice(TEXTS), random.choice(NUMBERS), random.choice(others)))


def files_of(folder: Path) -> list[Path]:
    """Return the files directly in a folder, by name."""
    return sorted(path for path in folder.iterdir() if path.is_file())


def damage_file(files: Sequence[Path], random: Random) -> str:
    """Change bytes of one of the files, and return its name and that of the change."""
    path = random.choice(files)
    content, label = mutated_bytes(path.read_bytes(), random)
    path.write_bytes(content)
    return f"{path.name} {label}"


def mutated_bytes(content: bytes, random: Random) -> tuple[bytes, str]:
    """Return changed bytes and the name of the change; it may change nothing."""
    size = len(content)
    start = random.randrange(size + 1)
    length = min(random.choice((1, 2, 8, 64, 1000)), size - start)
    end = start + length
    junk = random.randbytes(max(1, length))
    changes: tuple[tuple[str, Callable[[], bytes]], ...] = (
        ("bit", lambda: content[:start] + _flipped(content[start:end], random) + content[end:]),
        ("replaced", lambda: content[:start] + junk[:length] + content[end:]),
        ("inserted", lambda: content[:start] + junk + content[start:]),
        ("removed", lambda: content[:start] + content[end:]),
        ("doubled", lambda: content[:end] + content[start:]),
        ("zeroed", lambda: content[:start] + bytes(length) + content[end:]),
        ("truncated", lambda: content[:start]),
        ("appended", lambda: content + junk),
        ("emptied", lambda: b""),
        ("beheaded", lambda: content[start:]),
        ("digit", lambda: _other_digit(content, random)),
    )
    weights = (6, 4, 3, 3, 2, 2, 3, 2, 0.3, 1, 4)
    name, change = random.choices(changes, weights)[0]
    return change(), f"{name} at byte {start} of {size}"


def _flipped(part: bytes, random: Random) -> bytes:
    if not part:
        return part
    changed = bytearray(part)
    changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _other_digit(content: bytes, random: Random) -> bytes:
    places = [index for index, byte in enumerate(content) if 48 <= byte <= 57]
    if not places:
        return content
    place = random.choice(places)
    return content[:place] + str(random.randrange(10)).encode() + content[place + 1 :]


def mutated_json(value: Any, random: Random, changes: int = 1) -> tuple[Any, str]:
    """Return a copy of a JSON value with random changes, and where they are."""
    value = copy.deepcopy(value)
    labels = []
    for _ in range(changes):
        path, holder = _random_place(value, random)
        if holder is None:
            return hostile_value(random), "all"
        key = path[-1]
        action = random.choices(
            ("value", "removed", "copied", "renamed"),
            (8, 2, 1, 1 if isinstance(holder, dict) else 0),
        )[0]
        if action == "value":
            holder[key] = hostile_value(random)
        elif action == "removed":
            del holder[key]
        elif action == "copied":
            _, other = _random_place(value, random)
            holder[key] = copy.deepcopy(other)
        else:
            holder[random.choice(TEXTS)] = holder.pop(key)
        labels.append(f"{action} {'.'.join(map(str, path))[:80]}")
    return value, ", ".join(labels)


def _random_place(value: Any, random: Random) -> tuple[list[Any], Any]:
    """Return the keys on the way to a random member, and the container that holds it."""
    path: list[Any] = []
    holder, current = None, value
    while isinstance(current, (dict, list)) and current:
        if holder is not None and random.random() < 0.25:
            break
        key = random.choice(list(current) if isinstance(current, dict) else range(len(current)))
        path.append(key)
        holder, current = current, current[key]
    return path, holder


def dumped(value: Any) -> bytes:
    """Return JSON with the constants NaN and Infinity, as Python and other writers accept it."""
    return json.dumps(value).encode()


def mutated_tensors(content: bytes, random: Random) -> tuple[bytes, str]:
    """Return a safetensors file whose header or values were changed consistently, and how."""
    size = struct.unpack("<Q", content[:8])[0]
    header, body = json.loads(content[8 : 8 + size]), content[8 + size :]
    action = random.choice(("nan", "infinite", "length", "header", "shape", "type", "name", "none"))
    name = random.choice([key for key in header if key != "__metadata__"])
    entry = header[name]
    if action in ("nan", "infinite"):
        start, end = entry["data_offsets"]
        value = struct.pack("<f", float("nan") if action == "nan" else 3e38)
        body = body[:start] + value * ((end - start) // 4) + body[end - (end - start) % 4 :]
    elif action == "length":
        wrong = random.choice((0, 1, size - 1, size + 1, 2**31, 2**63, 2**64 - 1))
        return struct.pack("<Q", wrong) + content[8:], f"header of {wrong} bytes"
    elif action == "header":
        header, where = mutated_json(header, random)
        return _with_header(header, body), f"header: {where}"
    elif action == "shape":
        entry["shape"] = random.choice(
            ([], [0], [1], [2**31, 2**31], [2**62], [-1], [10**9], entry["shape"][::-1])
        )
    elif action == "type":
        entry["dtype"] = random.choice(("F64", "F16", "BF16", "I64", "BOOL", "U8", "F8_E4M3", "X"))
    elif action == "name":
        header[random.choice((*TEXTS, f"{name}.x"))] = header.pop(name)
    else:
        del header[name]
    return _with_header(header, body), f"{action} of {name}"


def _with_header(header: Any, body: bytes) -> bytes:
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + body
