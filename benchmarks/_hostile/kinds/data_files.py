"""Data files of every source, and files of word vectors: bombs, lying headers, damaged bytes."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from _hostile import fixtures, special, tables
from _hostile.box import Box
from _hostile.cases import Case, Command, Kind
from _hostile.mutations import TEXTS, mutated_bytes

BOMBS = "bombs"
"""Name of the folder of bombs among the original files."""
_SOURCES = {"csv": "csv", "tsv": "tsv", "jsonl": "jsonl", "parquet": "parquet", "pkl": "amazon"}


def build(box: Box, random: Random) -> Case:
    """Write a data file and a config that reads it."""
    strategies = (_bomb, _damaged, _texts, _special, _other_format)
    return random.choices(strategies, (2, 6, 4, 1.5, 1))[0](box, random)


def _case(box: Box, random: Random, label: str, path: Path, **data: Any) -> Case:
    ending = path.name.removesuffix(".gz").rpartition(".")[2]
    source = "imdb" if ending in ("tar", "tgz") else _SOURCES.get(ending, "table")
    is_table = source not in ("imdb", "amazon")
    if is_table and random.random() < 0.5:  # Its format is recognized instead.
        source = "table"
    config = {
        "name": "new",
        "data": {"source": source, "path": str(path), **data},
        "space": {"cell": "gru", "hidden_size": 4, "embedding_size": 4, "learning_rate": 0.01},
        "budget": {"trials": 1, "max_epochs": 1},
    }
    if source == "imdb":
        config["data"]["train_size"] = 10
    elif source == "amazon":
        config["data"]["test_size"] = 0.2
    (box / "files/config.yaml").write_text(yaml.safe_dump(config))
    commands = [
        Command(("validate", "../files/config.yaml")),
        Command(("prepare", "../files/config.yaml", "--test")),
        Command(("launch", "../files/config.yaml", "--dry-run")),
    ]
    if is_table:
        bundle = ("predict", "../bundles/linear", "--file", str(path), "--format")
        commands += [Command((*bundle, form)) for form in ("csv", "jsonl")]
        commands += [Command(("init", "-o", "../out/new.yaml", "--overwrite", "--", str(path)))]
    return Case(label, commands)


def _bomb(box: Box, random: Random) -> Case:
    bombs = sorted(path for path in (box.fixtures / BOMBS).iterdir() if "vectors" not in path.name)
    path = random.choice(bombs)
    case = _case(box, random, f"bomb {path.name}", path)
    # A prediction answers for the texts below the limit one block after the other.
    commands = case.commands if ".csv" in path.name else case.commands[:3]
    return Case(case.label, random.sample(commands, 2))


def _damaged(box: Box, random: Random) -> Case:
    path = box / "files" / random.choice(tables.NAMES)
    tables.write_valid(path)
    label = tables.damage(path, random)
    return _case(box, random, label, path)


def _texts(box: Box, random: Random) -> Case:
    """Write tables whose texts, labels and columns are hostile."""
    path = box / "files" / random.choice(("data.csv", "data.jsonl", "data.tsv", "data.parquet"))
    label_names = random.choice((("0", "1"), random.sample(TEXTS, 2)))
    rows = [(text, label_names[int(label)]) for text, label in fixtures.reviews(40)]
    for _ in range(random.choice((1, 5, 20))):
        index = random.randrange(len(rows))
        rows[index] = (random.choice(TEXTS), random.choice((*label_names, random.choice(TEXTS))))
    columns = random.choice((("text", "label"), ("text", random.choice(TEXTS)), ("text", "text")))
    clean = [tuple(_encodable(cell) for cell in row) for row in (columns, *rows)]
    if path.suffix == ".jsonl":
        values = [dict(zip(columns, row, strict=True)) for row in rows]
        path.write_text("\n".join(json.dumps(value) for value in values))
    elif path.suffix == ".parquet":
        names = list(dict.fromkeys(clean[0]))
        arrays = [[row[index] for row in clean[1:]] for index in range(len(names))]
        pq.write_table(pa.table(dict(zip(names, arrays, strict=True))), path)
    else:
        separator = "," if path.suffix == ".csv" else "\t"
        quoted = random.random() < 0.5
        lines = (separator.join(_cell(cell, quoted) for cell in row) for row in clean)
        path.write_text("\n".join(lines), "utf-8")
    data = {"classes": [name.strip() for name in map(_encodable, label_names)]}
    if random.random() < 0.3:
        data["text_column"] = _encodable(random.choice(TEXTS))
    return _case(
        box, random, f"{path.name}: hostile texts, labels {label_names!r:.60}", path, **data
    )


def _cell(text: str, quoted: bool) -> str:
    return '"' + text.replace('"', '""') + '"' if quoted else text


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _special(box: Box, random: Random) -> Case:
    path = box / "files" / random.choice(tables.NAMES)
    action = random.choice(special.ACTIONS)
    special.replace(path, action, box)
    return _case(box, random, f"{path.name}: {action}", path)


def _other_format(box: Box, random: Random) -> Case:
    """Give a file the name of another format."""
    valid = box / "files" / random.choice(tables.NAMES)
    tables.write_valid(valid)
    path = box / "files" / f"renamed.{random.choice(tables.NAMES).partition('.')[2]}"
    valid.rename(path)
    return _case(box, random, f"{valid.name} as {path.name}", path)


def build_vectors(box: Box, random: Random) -> Case:
    """Write a file of word vectors and a config that reads it."""
    strategy = random.choices(("bomb", "damaged", "header", "special", "values"), (1, 5, 3, 1, 2))[
        0
    ]
    name = random.choice(("v.txt", "v.txt.gz", "v.bin", "v.bin.gz", "v.zip"))
    path = box / "files" / name
    if strategy == "bomb":
        path = (
            box.fixtures / BOMBS / random.choice(("vectors.txt.gz", "vectors.zip", "line.txt.gz"))
        )
        label = path.name
    elif strategy == "special":
        label = random.choice(special.ACTIONS)
        special.replace(path, label, box)
    else:
        header, rows = _vectors(".bin" in name)
        label = strategy
        if strategy == "header":
            header = random.choice(_HEADERS)
            label = f"header {header!r:.40}"
        elif strategy == "values":
            rows = rows.replace(
                random.choice((b"0.5", b" ", b"good", b"\n")), random.choice(_VALUES)
            )
        content = header + rows
        if strategy == "damaged" and (random.random() < 0.5 or "." not in name[2:]):
            content, label = mutated_bytes(content, random)
        content = _packed(name, content)
        if strategy == "damaged":
            content, second = mutated_bytes(content, random)
            label = f"{label}; {second}"
        path.write_bytes(content)
    vectors: dict[str, Any] = {"path": str(path)}
    if name == "v.zip" and random.random() < 0.3:
        vectors["member"] = _encodable(random.choice(TEXTS))
    config = {
        "name": "new",
        "data": {"source": "synthetic", "reviews": 60, "vectors": vectors},
        "space": {"cell": "gru", "hidden_size": 4, "learning_rate": 0.01},
        "budget": {"trials": 1, "max_epochs": 1},
    }
    (box / "files/config.yaml").write_text(yaml.safe_dump(config))
    commands = [
        Command(("prepare", "../files/config.yaml")),
        Command(("launch", "../files/config.yaml", "--name", "new"), writes=("storage",)),
    ]
    return Case(f"{path.name}: {label}", commands)


_HEADERS = (
    b"9" * 5_000 + b" 4\n",
    b"4 " + b"9" * 5_000 + b"\n",
    b"-1 4\n",
    b"2147483648 4\n",
    b"4 2147483648\n",
    b"4 0\n",
    b"0 0\n",
    b"\xff\xfe\n",
    b"1 1 1 1 1 1\n" * 2,
    b"4\n",
    b" " * 100_000 + b"\n",
    "٣ ٤\n".encode(),
)
_VALUES = (
    b"nan",
    b"inf",
    b"1e999",
    b"-",
    b"0x10",
    b"1_0",
    b"\xff",
    b"\0",
    b"",
    b"0." + b"5" * 50_000,
    "\u0663".encode(),
    b"\x1b[31m",
    b"\r\n",
)


def _vectors(binary: bool) -> tuple[bytes, bytes]:
    words = ("good", "bad", "film", "the", "movie", "boring", "wonderful", "and")
    if binary:
        rows = b"".join(
            word.encode() + b" " + struct.pack("<4f", 0.5, 0.1, -0.2, 0.3) + b"\n" for word in words
        )
    else:
        rows = b"".join(f"{word} 0.5 0.1 -0.2 0.3\n".encode() for word in words)
    return b"%d 4\n" % len(words), rows


def _packed(name: str, content: bytes) -> bytes:
    if name.endswith(".gz"):
        return gzip.compress(content, 1)
    if not name.endswith(".zip"):
        return content
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("vectors.txt", content)
    return file.getvalue()


DATA_FILES = Kind("data-files", 9, build)
VECTORS = Kind("vectors", 6, build_vectors)
