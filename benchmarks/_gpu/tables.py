"""Turns the JSON files of a run into the Markdown tables of docs/gpu.md."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

Record = dict[str, Any]
MACHINE = ("card", "driver", "torch", "cuda", "cudnn", "triton", "ray", "python")


def markdown(folder: Path) -> str:
    """Return a heading and tables for each section whose file is in a folder.

    Raises:
        FileNotFoundError: there is no such file.
    """
    records = {name: _read(folder / f"gpu-{name}.json") for name in TABLES}
    found = {name: record for name, record in records.items() if record is not None}
    if not found:
        raise FileNotFoundError(
            f"{folder} contains no file gpu-<section>.json, such as gpu-cells.json. Name the "
            "folder that --out named in a run."
        )
    parts = []
    for name, record in found.items():
        parts.append(f"### {name}")
        parts.append(_about(record))
        parts += [part for part in TABLES[name](record) if part]
        missing = [f"- left out: {text}" for text in record["left_out"]]
        parts += ["\n".join([*missing, *(f"- failed: {text}" for text in record["errors"])])]
    return "\n\n".join(part for part in parts if part)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table, or an empty text if there is no row."""
    lines = [_line(columns), _line(["---"] * len(columns))]
    lines += [_line([_text(value) for value in row]) for row in rows]
    return "\n".join(lines) if len(lines) > 2 else ""


def _read(path: Path) -> Record | None:
    return json.loads(path.read_text()) if path.is_file() else None


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def _about(record: Record) -> str:
    facts = record["machine"]
    known = [f"{name} {facts[name]}" for name in MACHINE if facts.get(name)]
    return f"{record['when'][:10]}; {', '.join(known)}."


def _figures(record: Record) -> str:
    return table(("figure", "value"), ((f"`{k}`", v) for k, v in record["figures"].items()))


def _numerics(record: Record) -> list[str]:
    groups: dict[tuple[str, str], list[Record]] = {}
    for row in record["details"].get("cases", []):
        groups.setdefault((row["cell"], row["precision"]), []).append(row)
    rows = [
        (
            *group,
            f"{sum(row['passed'] for row in cases)} of {len(cases)}",
            *(_worst(cases, key) for key in KEYS),
        )
        for group, cases in groups.items()
    ]
    trainings = [
        (
            row["cell"],
            row["precision"],
            row["equal_share"],
            row["resumed_equal_share"],
            max(row["largest_difference"], row["resumed_largest_difference"]),
        )
        for row in record["details"].get("trainings", [])
    ]
    titles = ("cell", "precision", "equal when repeated", "equal when resumed", "difference")
    return [
        table(("cell", "precision", "passed", *(f"worst {key}" for key in KEYS)), rows),
        table(titles, trainings),
    ]


def _worst(cases: Sequence[Record], key: str) -> str:
    return f"{max((row[key] for row in cases if key in row), default=float('nan')):.1e}"


KEYS = ("logits", "gradients", "padding")


def _cells(record: Record) -> list[str]:
    rows = record["details"].get("rows", [])
    cells = list(dict.fromkeys(row["cell"] for row in rows))
    parts = []
    for precision in dict.fromkeys(row["precision"] for row in rows):
        shapes: dict[tuple[int, int, int], dict[str, Record]] = {}
        for row in rows:
            if row["precision"] == precision:
                key = row["hidden"], row["batch"], row["steps"]
                shapes.setdefault(key, {})[row["cell"]] = row
        lines = [
            (*shape, *(_ratio(found.get(cell)) for cell in cells))
            for shape, found in shapes.items()
        ]
        title = f"{precision}: milliseconds, and the ratio to torch.nn in parentheses"
        parts += [title, table(("hidden", "batch", "steps", *cells), lines)]
    return [_figures(record), *parts]


def _ratio(row: Record | None) -> str:
    return "" if row is None else f"{row['ours_ms']:.2f} ({row['ratio']:.2f})"


def _epoch(record: Record) -> list[str]:
    rows = [
        (name, row["seconds"], row["tokens_per_second"] / 1e6, row.get("peak_memory_mb", ""))
        for name, row in record["details"].get("epochs", {}).items()
    ]
    return [
        _figures(record),
        table(("model", "seconds per epoch", "million tokens/s", "peak MB"), rows),
    ]


def _packed(record: Record) -> list[str]:
    sides = {k: v for k, v in record["details"].items() if k.startswith("hidden")}
    names = list(dict.fromkeys(name for results in sides.values() for name in results))
    rows = [
        (
            f"documents/s, {name.removeprefix('documents_per_second_')}"
            if name.startswith("documents")
            else f"`{name}`",
            *(results.get(name, "") for results in sides.values()),
        )
        for name in names
    ]
    return [table(("", *sides), rows)]


def _search(record: Record) -> list[str]:
    return [_figures(record)]


TABLES: dict[str, Callable[[Record], list[str]]] = {
    "numerics": _numerics,
    "cells": _cells,
    "epoch": _epoch,
    "search": _search,
    "packed": _packed,
}
"""For each section, what its tables are made of."""
