"""What `celltune validate --estimate` prints."""

from __future__ import annotations

from dataclasses import replace

import pytest

from celltune.search.cli.validation.estimate import estimate_as_json, show_estimate
from celltune.search.runs.estimate import Estimate, Range

FOUND = Estimate(
    trials=12,
    workers=2,
    seconds=Range(500.0, 640.0, 900.0),
    epochs=3.2,
    epoch_seconds=Range(4.0, 12.5, 130.0),
    worker_bytes=570_000_000,
    data_bytes=40_000_000,
    measured=4,
    documents=1_600,
    train_documents=20_000,
    limited=False,
)


def shown(found: Estimate, capsys: pytest.CaptureFixture[str]) -> str:
    show_estimate(found)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) < 80
    return " ".join(out.split())


def test_the_estimate_names_its_basis(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(FOUND, capsys) == (
        "duration about 11 min (8 min to 15 min) on this machine: 12 trials of 3.2 epochs on "
        "average, 2 at the same time "
        "memory about 1.2 GB: 570 MB for each of 2 workers, and the data, 40 MB; Ray itself takes "
        "more "
        "basis 4 trials trained on at least 1,600 of 20,000 training documents; an epoch of all "
        "takes 12 s on average (4.0 s to 2 min)"
    )


def test_unknown_memory_and_a_time_limit_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(replace(FOUND, worker_bytes=0, limited=True, seconds=Range(60, 60, 60)), capsys)
    assert out.startswith("duration 60 s, the limit budget.time, which ends the search early basis")


def test_json_has_every_digit() -> None:
    value = estimate_as_json(FOUND)
    assert value["seconds"] == {"low": 500.0, "mean": 640.0, "high": 900.0}
    assert value["worker_bytes"] == 570_000_000
    assert estimate_as_json(replace(FOUND, worker_bytes=0))["worker_bytes"] is None
