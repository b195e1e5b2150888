"""Texts to classify, as arguments, files and streams: control characters, bytes, long lines.

An innocent text among them has to get its known prediction.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from random import Random

from _hostile import catalogue, special, tables
from _hostile.box import Box
from _hostile.cases import ORIGINAL, Case, Check, Command, Kind
from _hostile.kinds.configs import typed
from _hostile.kinds.ledgers import impossible_prediction
from _hostile.mutations import TEXTS

_BYTES = (
    b"\xff\xfe",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"\xf8\x88\x80\x80\x80",
    b"\0",
    b"\x1b[2J",
    b"\xc2\x9b31m",
    b"\r",
    b"\x0b\x0c\x1c\x85",
    b"\xe2\x80\xa8",
    b"\xef\xbb\xbf",
)
_SOURCES = ("../bundles/trial", "../bundles/ensemble", "../bundles/linear", "small")


def build(box: Box, random: Random) -> Case:
    """Choose hostile reviews and how they reach the command."""
    strategies = (_argument, _stream, _file, _special)
    case = random.choices(strategies, (4, 4, 3, 1))[0](box, random)
    return replace(case, commands=random.sample(case.commands, 2))


def _argument(box: Box, random: Random) -> Case:  # noqa: ARG001
    source = random.choice(_SOURCES)
    words = [random.choice(TEXTS) for _ in range(random.choice((1, 1, 3)))]
    text = typed(" ".join(words))[:50_000]
    several = [typed(random.choice(TEXTS)), catalogue.TEXT, text]
    form = random.choice(("csv", "jsonl", "table"))
    commands = [
        Command(("predict", "--format", form, source, "--", text)),
        Command(("predict", "--format", "table", source, "--", *several)),
        Command(("predict", "--format", "jsonl", source, "--", *several)),
        Command(("predict", "--explain", "--format", form, source, "--", f"{text} good film")),
    ]
    return Case(f"{source}: {text!r:.60}", commands, check=_innocent_is_known(len(several)))


def _stream(box: Box, random: Random) -> Case:  # noqa: ARG001
    source = random.choice(_SOURCES)
    lines = [_hostile_line(random) for _ in range(random.choice((1, 5, 50)))]
    lines.insert(random.randrange(len(lines) + 1), catalogue.TEXT.encode())
    content = random.choice((b"\n", b"\r\n")).join(lines) + random.choice((b"", b"\n"))
    commands = [
        Command(("predict", source, "-", "--format", form), stdin=content)
        for form in ("csv", "jsonl", "table")
    ]
    return Case(f"{source}: {len(lines)} lines from a stream", commands, check=_valid_lines)


def _hostile_line(random: Random) -> bytes:
    parts = []
    for _ in range(random.choice((1, 2, 6))):
        text = random.choice(TEXTS).encode("utf-8", "surrogatepass").replace(b"\n", b"")
        parts.append(
            random.choice((text, random.choice(_BYTES), b"good film", random.randbytes(20)))
        )
    line = b" ".join(parts).replace(b"\n", b" ").replace(b"\r", b" ")
    return line * random.choice((1, 1, 1, 1, 20)) if random.random() < 0.995 else b"word " * 200_000


def _file(box: Box, random: Random) -> Case:
    source = random.choice(_SOURCES)
    name = random.choice(("r.txt", "r.txt.gz", *tables.NAMES[:-2]))
    path = box / "files" / name
    if name.startswith("r."):
        content = b"\n".join([_hostile_line(random) for _ in range(20)])
        path.write_bytes(gzip.compress(content, 1) if name.endswith(".gz") else content)
        label = "hostile lines"
    elif random.random() < 0.5:
        tables.write_valid(path)
        label = tables.damage(path, random)
    else:
        path = box / "files/r.jsonl"
        lines = [
            json.dumps({"text": random.choice((random.choice(TEXTS), 1, None, [], {"a": "b"}))})
            for _ in range(10)
        ]
        path.write_text("\n".join(lines))
        label = "hostile values"
    commands = [
        Command(("predict", source, "--file", str(path), "--format", form))
        for form in ("csv", "jsonl", "table")
    ]
    commands.append(
        Command(
            ("predict", source, "--file", str(path), "--text-column", typed(random.choice(TEXTS)))
        )
    )
    return Case(f"{source}, {path.name}: {label}", commands, check=_valid_lines)


def _special(box: Box, random: Random) -> Case:
    path = box / "files" / random.choice(("r.txt", "r.csv", "r.jsonl", "r.parquet", "r.txt.gz"))
    action = random.choice(special.ACTIONS)
    special.replace(path, action, box)
    commands = [
        Command(("predict", "../bundles/linear", "--file", str(path))),
        Command(("predict", "../bundles/linear", str(path), "--format", "csv")),
        Command(("predict", str(path), catalogue.TEXT)),
        Command(("graph", str(path), "-o", "../out/graph.svg")),
    ]
    return Case(f"{path.name}: {action}", commands, (ORIGINAL,))


def _valid_lines(command: Command, shown: str) -> str:
    return impossible_prediction(shown) if "jsonl" in command.arguments else ""


def _innocent_is_known(count: int) -> Check:
    """Return a check that the second of several texts has the prediction that it always has."""

    def check(command: Command, shown: str) -> str:
        if "jsonl" not in command.arguments or "--explain" in command.arguments:
            return ""
        lines = shown.splitlines()
        if catalogue.TEXT in command.arguments and len(lines) != count:
            return f"{len(lines)} lines for {count} texts"
        return impossible_prediction(shown)

    return check


REVIEWS = Kind("reviews", 8, build)
