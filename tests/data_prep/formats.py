"""Writers of a data set in the format of each source that reads files."""

from __future__ import annotations

import csv
import gzip
import io
import json
import pickle
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from celltune.data_prep.config import DataConfig
from tests.data_prep.files import save_dataset, workbook

Labelled = tuple[str, int]
Write = Callable[[Path, Sequence[Labelled]], DataConfig]


def separated(delimiter: str, suffix: str) -> Write:
    def write(folder: Path, documents: Sequence[Labelled]) -> DataConfig:
        text = io.StringIO(newline="")
        rows = [(f"id{n}", text, label) for n, (text, label) in enumerate(documents)]
        csv.writer(text, delimiter=delimiter).writerows([("id", "text", "label"), *rows])
        return write_config(folder / f"reviews.{suffix}", text.getvalue().encode())

    return write


def jsonl(suffix: str) -> Write:
    def write(folder: Path, documents: Sequence[Labelled]) -> DataConfig:
        rows = [{"id": f"id{n}", "text": t, "label": y} for n, (t, y) in enumerate(documents)]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        return write_config(folder / f"reviews.{suffix}", text.encode())

    return write


def write_config(path: Path, content: bytes) -> DataConfig:
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return DataConfig(source=path.name.split(".")[1], path=path, id_column="id")


def parquet(folder: Path, documents: Sequence[Labelled]) -> DataConfig:
    texts, labels = zip(*documents, strict=True)
    ids = [f"id{n}" for n in range(len(documents))]
    path = folder / "reviews.parquet"
    pq.write_table(pa.table({"id": ids, "text": texts, "label": labels}), path)
    return DataConfig(source="parquet", path=path, id_column="id")


def table(name: str, pack: Callable[[list[list[str]]], bytes]) -> Write:
    """Return a writer of a table whose config states only what its name does not."""

    def write(folder: Path, documents: Sequence[Labelled]) -> DataConfig:
        rows = [[f"id{n}", text, str(label)] for n, (text, label) in enumerate(documents)]
        (path := folder / f"reviews.{name}").write_bytes(pack([["id", "text", "label"], *rows]))
        return DataConfig(path=path, id_column="id")

    return write


def _json(rows: list[list[str]]) -> bytes:
    return json.dumps([dict(zip(rows[0], row, strict=True)) for row in rows[1:]]).encode()


def _packed_csv(rows: list[list[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return bytes(pa.Codec("zstd").compress(text.getvalue().encode(), asbytes=True))


def saved_dataset(folder: Path, documents: Sequence[Labelled]) -> DataConfig:
    texts, labels = zip(*documents, strict=True)
    ids = [f"id{n}" for n in range(len(documents))]
    columns = pa.table({"id": ids, "text": list(texts), "label": list(labels)})
    path = save_dataset(folder / "saved", columns)
    return DataConfig(path=path, format="dataset", id_column="id")


def imdb_folder(folder: Path, documents: Sequence[Labelled]) -> DataConfig:
    for number, (text, label) in enumerate(documents):
        subfolder = folder / "aclImdb" / "train" / ("neg", "pos")[label]
        subfolder.mkdir(parents=True, exist_ok=True)
        (subfolder / f"{number}_5.txt").write_text(text, "utf-8", newline="")
    return DataConfig(source="imdb", path=folder / "aclImdb")


def imdb_archive(folder: Path, documents: Sequence[Labelled]) -> DataConfig:
    unpacked = imdb_folder(folder, documents)
    path = folder / "aclImdb_v1.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(unpacked.path or folder, "aclImdb")
    return DataConfig(source="imdb", path=path)


def amazon(folder: Path, documents: Sequence[Labelled], words: bool = True) -> DataConfig:
    by_label: list[Any] = [{"books": [], "music": []} for _ in range(2)]
    for number, (text, label) in enumerate(documents):
        by_label[label][("books", "music")[number % 2]].append(text.split(" ") if words else text)
    path = folder / "reviews.pkl.gz"
    path.write_bytes(gzip.compress(pickle.dumps((by_label[1], by_label[0], ["word"]), protocol=2)))
    return DataConfig(source="amazon", path=path)


FORMATS: dict[str, Write] = {
    "csv": separated(",", "csv"),
    "csv.gz": separated(",", "csv.gz"),
    "tsv": separated("\t", "tsv"),
    "tsv.gz": separated("\t", "tsv.gz"),
    "jsonl": jsonl("jsonl"),
    "jsonl.gz": jsonl("jsonl.gz"),
    "parquet": parquet,
    "json": table("json", _json),
    "csv.zst": table("csv.zst", _packed_csv),
    "xlsx": table("xlsx", lambda rows: workbook({"Reviews": rows})),
    "dataset": saved_dataset,
    "imdb folder": imdb_folder,
    "imdb archive": imdb_archive,
    "amazon": amazon,
}
