"""Kernels are compiled by other processes."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

from benchmarks._gpu import compiling


def test_jobs_are_passed_to_processes_as_text() -> None:
    jobs = [compiling.Job("gru", 64, "tf32"), compiling.Job("mgu", 16, packed=True)]
    assert [compiling.parse_job(str(job)) for job in jobs] == jobs


def test_every_model_of_a_job_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[str] = []
    for name in ("Trainer", "PackedTrainer"):
        original = getattr(compiling, name)

        def spy(*args: Any, original: Any = original, **kwargs: Any) -> Any:
            trained.append(original.__name__)
            return original(*args, **kwargs)

        monkeypatch.setattr(compiling, name, spy)
    compiling.run_jobs("gru:4:float32:1,rnn:4:tf32:0", device="cpu")
    assert trained == ["PackedTrainer", "Trainer"]


def test_compilation_waits_for_its_processes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[list[compiling.Job]] = []
    command = [sys.executable, "-c", "import time; time.sleep(60)"]

    def start(jobs: list[compiling.Job]) -> subprocess.Popen[bytes]:
        started.append(jobs)
        return subprocess.Popen(command)

    monkeypatch.setattr(compiling, "_start", start)
    monkeypatch.setattr(compiling, "PROCESSES", 2)
    jobs = [compiling.Job("gru", size) for size in (16, 32, 64, 64, 256)]
    with compiling.Compilation(jobs, torch.device("cpu")) as compilation:
        assert compilation.wait(1) < 1
    assert started == []
    with compiling.Compilation(jobs, torch.device("cuda")) as compilation:
        assert compilation.wait(0) >= 0
    assert [[job.hidden for job in part] for part in started] == [[16, 64], [32]]
    assert "not all kernels were compiled after 0 s" in capsys.readouterr().out
