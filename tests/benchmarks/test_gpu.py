"""The sections of `benchmarks/gpu.py` on the CPU, with small sizes."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks._gpu import (
    cells,
    compiling,
    documents,
    epoch,
    numerics,
    packed,
    runner,
    search,
)
from benchmarks._gpu.common import Deadline, Options, Report, summary
from benchmarks._gpu.documents import synthetic_data
from celltune.models.extensions import CELLS, READOUTS
from celltune.search.config.schema import SearchConfig
from celltune.search.ledger.events import EpochReported, Event, ExperimentCreated, TrialStopped

CPU = Options(torch.device("cpu"), quick=True)


def later() -> Deadline:
    return Deadline.after(60)


def test_cases_cover_every_cell_readout_and_precision() -> None:
    cases = list(numerics.all_cases())
    assert {case.cell for case in cases} == set(CELLS.names())
    assert {case.readout for case in cases} == set(READOUTS.names())
    assert len(cases) == len(set(cases)) == 5 * 4 * (2 * 5 + 2 * 6)
    first = cases[:20]
    assert {(case.layers, case.bidirectional, case.readout) for case in first} == {
        (2, True, "mean")
    }
    assert len({(case.cell, case.precision) for case in first}) == 20


def test_precisions_of_a_model_share_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[numerics.Case] = []

    def compute(case: numerics.Case, *_: object) -> numerics.Outcome:
        computed.append(case)
        return numerics.Outcome(torch.ones(1), {}, torch.ones(1))

    monkeypatch.setattr(numerics, "compute", compute)
    references = numerics.References()
    for case in numerics.all_cases():
        references.get(case)
    assert len(computed) == 110


@pytest.mark.parametrize("cell", CELLS.names())
def test_case_in_float32_is_close_to_float64(cell: str) -> None:
    case = numerics.Case(cell, 1, True, "mean", "float32")
    reference = numerics.compute(case, torch.device("cpu"), torch.float64)
    row = numerics.check_case(case, torch.device("cpu"), reference)
    assert row["passed"]
    assert 0 < row["logits"] < 1e-5
    assert 0 < row["gradients"] < 1e-5
    assert row["padding"] == 0


def test_wrong_results_do_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    case = numerics.Case("gru", 1, False, "final", "float32")
    reference = numerics.compute(case, torch.device("cpu"), torch.float64)
    wrong = reference.gradients | {"embedding": reference.gradients["embedding"] * math.nan}
    monkeypatch.setattr(
        numerics, "compute", lambda *_: numerics.Outcome(reference.logits, wrong, reference.logits)
    )
    assert not numerics.check_case(case, torch.device("cpu"), reference)["passed"]


def test_failing_case_is_reported_and_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> numerics.Outcome:
        raise RuntimeError("no kernel image\nis available\nfor this card")

    monkeypatch.setattr(numerics, "compute", broken)
    report = Report()
    numerics.check_cases(list(numerics.all_cases(("float32",)))[:3], CPU, later(), report)
    assert report.figures == {"numerics_cases": 3, "numerics_passed": 0}
    assert len(report.errors) == 3
    expected = (
        "FAILED gru, 2 layers, two directions, mean, float32: "
        "RuntimeError: no kernel image | is available"
    )
    assert expected in capsys.readouterr().out


def test_lost_context_ends_the_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> numerics.Outcome:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(numerics, "compute", broken)
    report = Report()
    numerics.check_cases(list(numerics.all_cases(("float32",)))[:5], CPU, later(), report)
    assert report.figures["numerics_cases"] == 1
    assert report.left_out == ["4 cases after a lost CUDA context"]


def test_states_are_compared_bitwise() -> None:
    first = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor(3.0)}
    assert numerics.compare_states(first, first) == (1.0, 0.0)
    second = {"a": torch.tensor([1.0, 2.5]), "b": torch.tensor(3.0)}
    assert numerics.compare_states(first, second) == (2 / 3, 0.5)


def test_trainings_are_repeated_and_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numerics, "CELL_ORDER", ("gru",))
    report = Report()
    numerics.check_trainings(CPU, later(), report)
    assert report.errors == []
    assert report.figures == {
        "deterministic_share": 1,
        "repeat_difference": 0,
        "resume_share": 1,
        "resume_difference": 0,
    }


def test_cells_are_compared_with_torch() -> None:
    report = Report()
    cells.measure(CPU, later(), report)
    assert report.errors == []
    rows = report.details["rows"]
    assert [row["cell"] for row in rows] == list(cells.CELL_ORDER)
    assert all(row["ratio"] > 0 for row in rows)
    assert {report.figures[cell] for cell in cells.CELL_ORDER} == {row["ratio"] for row in rows}


def test_figures_of_cells_are_the_worst_ratios_in_float32() -> None:
    rows = [
        {"cell": "gru", "precision": precision, "ratio": ratio}
        for precision, ratio in (("float32", 1.0), ("float32", 3.0), ("tf32", 9.0))
    ]
    assert cells.figures_of(rows) == {"gru": 3.0, "gru_median": 2.0}


def test_all_shapes_are_measured_the_important_ones_first() -> None:
    shapes = cells.shapes(quick=False)
    assert len(set(shapes)) == len(shapes) == 6 * 2 * 3
    assert [shape.hidden for shape in shapes[:6]] == [64, 128, 256, 16, 32, 512]
    plan = cells.plan_of(Options(torch.device("cuda")))
    assert len(plan) == 36 + 24
    jobs = cells.compiled_jobs(plan)
    assert jobs[0] == compiling.Job("gru", 64)
    assert {job.precision for job in jobs} == {"float32", "tf32"}


@pytest.mark.parametrize(("seconds", "runs"), [(0.0001, 9), (0.15, 4), (7, 3)])
def test_number_of_runs_depends_on_their_time(
    seconds: float, runs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    def run() -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(cells.time, "perf_counter", lambda: now)
    options = Options(torch.device("cpu"))
    assert cells._number_of_runs({"side": run}, options) == runs


def test_shapes_without_time_are_left_out() -> None:
    report = Report()
    cells.measure(CPU, Deadline.after(-1), report)
    assert report.figures == {}
    assert report.left_out == ["1 of 1 shapes: from hidden  16 batch  16 steps  24"]


def test_epoch_is_compared_with_the_plain_script() -> None:
    report = Report()
    epoch.measure(CPU, later(), report)
    assert report.errors == []
    assert report.left_out == ["host_syncs and gpu_busy_share, which need a GPU"]
    figures = report.figures
    assert figures["epoch_vs_plain"] == pytest.approx(
        figures["epoch_seconds"] / figures["plain_epoch_seconds"]
    )
    assert figures["tokens_per_second"] > 0


@pytest.mark.parametrize(
    ("intervals", "length"),
    [([], 0), ([(0, 2), (5, 6)], 3), ([(5, 6), (0, 4), (1, 2), (3, 5.5)], 6)],
)
def test_union_of_intervals(intervals: list[tuple[float, float]], length: float) -> None:
    assert epoch.covered(intervals) == length


def test_synthetic_documents_have_the_lengths_of_imdb() -> None:
    lengths = documents.draw_lengths(np.random.default_rng(3), 100_000, 10_000)
    assert np.median(lengths) == pytest.approx(201, rel=0.02)
    assert np.quantile(lengths, 0.9) == pytest.approx(546, rel=0.02)
    assert lengths.mean() == pytest.approx(274, rel=0.02)
    data = documents.synthetic_data(50, 20, words=300, max_tokens=90)
    assert (len(data.train), len(data.valid), data.vocabulary_size) == (50, 20, 302)
    assert data.train.lengths.max() == 90
    assert 2 <= data.train.ids.min() <= data.train.ids.max() < 302
    assert set(data.train.labels) == {0, 1}


def test_reviews_of_a_file_are_prepared(tmp_path: Path) -> None:
    file = tmp_path / "reviews.csv"
    rows = [f"{number % 2},word{number} film number {number}" for number in range(3000)]
    file.write_text("label,text\n" + "\n".join(rows) + "\n")
    data = documents.imdb_data(file, tmp_path / "cache", quick=True)
    assert (len(data.train), len(data.valid)) == (1280, 128)


def test_sections_are_named_or_numbered() -> None:
    assert runner.section_names("2, numerics,") == ["cells", "numerics"]
    with pytest.raises(ValueError, match=r"--sections contains '9'\. The sections are 1 \(nume"):
        runner.section_names("1,9")


def test_time_is_divided_among_the_remaining_sections() -> None:
    assert runner.allot(["numerics", "cells", "epoch"], 75) == 25
    assert runner.allot(["epoch"], 50) == 50


def test_section_writes_its_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def section(options: Options, deadline: Deadline, report: Report) -> None:
        report.figures["speed"] = 2.0
        report.save()
        raise OSError("The disk is full.")

    monkeypatch.setitem(runner.SECTIONS, "numerics", section)
    runner.run_section("numerics", CPU, 5, tmp_path)
    record = json.loads((tmp_path / "gpu-numerics.json").read_text())
    assert record["figures"] == {"speed": 2.0}
    assert record["errors"] == ["numerics: OSError: The disk is full."]
    assert record["machine"]["torch"] == torch.__version__
    figures, left_out, errors = runner.collect(["numerics", "cells"], tmp_path)
    assert (figures, left_out, len(errors)) == ({"speed": 2.0}, ["section cells"], 1)


def test_exceptions_are_summarized_in_one_line() -> None:
    assert summary(ValueError("first\n\nsecond\nthird")) == "ValueError: first | second"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_machine_without_a_gpu_is_told_what_is_needed() -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "gpu.py"
    command = [sys.executable, str(script), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("benchmarks/gpu.py needs an NVIDIA GPU with its driver and a")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--minutes", "0"], "--minutes is 0.0. It must be above 0"),
        (["--imdb", "missing.csv"], "--imdb is missing.csv, which is no file."),
        (["--sections", "speed"], "--sections contains 'speed'."),
    ],
)
def test_invalid_options_are_rejected(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        runner.parse(arguments)
    assert message in capsys.readouterr().err


def events_of_search() -> list[Event]:
    created = ExperimentCreated(at=100, fingerprint="f")
    epochs = [
        EpochReported(at=at, number=number, epoch=1, metrics={"seconds": seconds}, checkpoint=None)
        for at, number, seconds in ((130, 0, 20.0), (140, 1, 25.0), (160, 0, 15.0))
    ]
    ends = [TrialStopped(at=165, number=number, reason="completed") for number in range(2)]
    return [created, *epochs, *ends]


def test_share_of_busy_slots_is_that_of_all_epochs() -> None:
    figures, missing = search.figures_of(events_of_search(), trials=2, slots=2)
    assert missing == ""
    assert figures["slots_busy_share"] == 60 / (2 * 50)  # from 110 to 160
    assert figures["search_minutes"] == 65 / 60
    assert (figures["search_trials"], figures["search_epochs"]) == (2, 3)


def test_search_that_ran_out_of_time_has_no_duration() -> None:
    figures, missing = search.figures_of(events_of_search(), trials=64, slots=2)
    assert "search_minutes" not in figures
    assert missing == "62 of 64 trials of the search"
    assert search.figures_of([], 64, 4) == ({}, "the search reported no epoch")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_config_of_the_search_is_valid(device: str, tmp_path: Path) -> None:
    options = Options(torch.device(device), imdb=tmp_path / "reviews.csv")
    for given in (options, Options(torch.device(device))):
        config = SearchConfig.model_validate(search.config_of(given, 100))
        assert config.budget.trials == 64
        assert config.resources.gpus_per_trial == (0.25 if device == "cuda" else 0)


@pytest.mark.parametrize("packed", [True, False])
def test_kernels_of_a_search_are_compiled_the_slowest_first(packed: bool) -> None:
    jobs = search.compiled_jobs(packed=packed)
    assert [job.hidden for job in jobs] == sorted((job.hidden for job in jobs), reverse=True)
    assert {(job.precision, job.packed) for job in jobs} == {("tf32", packed)}
    space = search.config_of(Options(torch.device("cpu")), 100)["space"]
    assert {job.cell for job in jobs} == set(space["cell"])


def test_search_in_another_folder_finds_the_same_packages() -> None:
    given = {"PYTHONPATH": f"site{os.pathsep}{os.pathsep}/abs"}
    expected = f"{Path.cwd() / 'site'}{os.pathsep}/abs"
    assert search.absolute_python_path(given) == {"PYTHONPATH": expected}
    assert search.absolute_python_path({}) == {}


def test_search_without_packs_has_one_trial_per_worker() -> None:
    resources = search.config_of(CPU, 100, packed=1)["resources"]
    assert resources == {"cpus_per_trial": 1, "gpus_per_trial": 0, "trials_per_worker": 1}
    assert search.config_of(CPU, 100)["resources"]["trials_per_worker"] == 16


@pytest.mark.parametrize("ignored", [False, True])
def test_search_that_does_not_end_is_stopped(
    ignored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "KILL_SECONDS", 0.2)
    code = "import signal, time; print(flush=True); time.sleep(60)"
    if ignored:
        code = "import signal; signal.signal(15, signal.SIG_IGN); " + code
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    assert search._wait(process, 0.01) == (-9 if ignored else -15)
    process.stdout.close()


def test_packed_trials_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    class Measurement:
        def __init__(self, data: Any, model: Any, training: Any, seconds: float, publish: Any):
            self.model, self.publish = model, publish
            self.results = {"documents_per_second_packed_2": 7.0, "packed_2": 1.5}

        def measure_packs(self, counts: tuple[int, ...]) -> None:
            assert counts == (2,)
            self.publish(self.results)

        def measure_processes(self, count: int, start_seconds: float) -> None:
            assert (count, start_seconds) == (2, packed.PROCESS_START_SECONDS)
            raise TimeoutError("A training process did not finish within 3 s.")

    module = SimpleNamespace(
        Measurement=Measurement, imdb_like_data=lambda count: synthetic_data(count, 5)
    )
    monkeypatch.setitem(sys.modules, "_gpu_packed", module)
    report = Report()
    packed.measure(CPU, later(), report)
    assert report.figures == {"packed_2": 1.5}
    assert report.details["hidden 64"]["documents_per_second_packed_2"] == 7
    assert report.errors == [
        "processes of hidden size 64: TimeoutError: A training process did not finish within 3 s."
    ]
