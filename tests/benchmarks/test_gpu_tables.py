"""The results of a run as Markdown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks._gpu import runner, tables
from benchmarks._gpu.common import Report


def test_results_become_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = Report()
    row = {"cell": "gru", "hidden": 64, "batch": 8, "steps": 9, "ours_ms": 1.234, "ratio": 0.5}
    report.figures = {"gru": 0.5}
    report.details = {"rows": [{**row, "precision": "float32"}]}
    report.left_out.append("1 of 2 shapes")
    machine = {"card": "Card", "torch": "2.11", "driver": None}
    content = {"when": "2026-01-02T03:04", "machine": machine, **report.as_json()}
    (tmp_path / "gpu-cells.json").write_text(json.dumps(content))
    assert runner.main(["--tables", str(tmp_path)]) == 0
    assert capsys.readouterr().out == (
        "### cells\n\n2026-01-02; card Card, torch 2.11.\n\n"
        "| figure | value |\n| --- | --- |\n| `gru` | 0.5 |\n\n"
        "float32: milliseconds, and the ratio to torch.nn in parentheses\n\n"
        "| hidden | batch | steps | gru |\n| --- | --- | --- | --- |\n"
        "| 64 | 8 | 9 | 1.23 (0.50) |\n\n- left out: 1 of 2 shapes\n"
    )


@pytest.mark.parametrize(
    ("name", "details", "line"),
    [
        (
            "numerics",
            {
                "cases": [
                    {"cell": "gru", "precision": "tf32", "passed": True, "logits": 1e-4}
                    | {"gradients": 2e-4, "padding": 0.0},
                    {"cell": "gru", "precision": "tf32", "passed": False, "error": "lost"},
                ]
            },
            "| gru | tf32 | 1 of 2 | 1.0e-04 | 2.0e-04 | 0.0e+00 |",
        ),
        (
            "epoch",
            {"epochs": {"lstm": {"seconds": 2.5, "tokens_per_second": 3.21e6}}},
            "| lstm | 2.5 | 3.21 |  |",
        ),
        ("search", {}, "| `speed` | 12,345 |"),
        ("packed", {"hidden 64": {"packed_8": 5.5}, "hidden 16": {}}, "| `packed_8` | 5.5 |  |"),
    ],
)
def test_every_section_has_a_table(
    name: str, details: dict[str, Any], line: str, tmp_path: Path
) -> None:
    content = {"when": "2026", "machine": {}, "left_out": [], "errors": [], "details": details}
    file = tmp_path / f"gpu-{name}.json"
    file.write_text(json.dumps({**content, "figures": {"speed": 12345.0}}))
    assert line in tables.markdown(tmp_path).splitlines()


def test_folder_without_results_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert runner.main(["--tables", str(tmp_path)]) == 2
    assert f"{tmp_path} contains no file gpu-<section>.json" in capsys.readouterr().err
