from __future__ import annotations

import io
import logging
import re
import sys
from pathlib import Path

import pytest
import typer
from rich.console import Console

from celltune.printable import printable, printable_lines
from celltune.search.cli.commands import add_command
from celltune.search.cli.live_table import drawing
from celltune.search.cli.options import make_view
from celltune.search.cli.output import TextConsole, protect_streams
from celltune.search.cli.views import LiveView, PlainView
from celltune.search.errors import OptionError
from celltune.search.ledger.events import (
    BaselineValidated,
    EpochReported,
    ExperimentCreated,
    TrialCreated,
    TrialFailed,
    TrialStopped,
    WorkerLost,
)
from celltune.search.ledger.state import ExperimentState
from celltune.search.runs.view import View
from celltune.search.storage.local import LocalExperiment
from celltune.search.wording import describe_params, metric_text
from tests.search.hostile_text import EVERYTHING, assert_printable
from tests.search.results.test_ranking import state_of
from tests.search.simulated_search import make_config, make_controller, start_ledger, steps


def test_describe_params() -> None:
    params = {
        "cell": "gru",
        "hidden_size": 32,
        "num_layers": 2,
        "bidirectional": True,
        "dropout": 0.25,
        "learning_rate": 0.00123456,
    }
    assert describe_params(params) == "gru 32x2 bidirectional, lr 0.00123, dropout 0.25"
    assert describe_params({"cell": "mgu"}) == "mgu"


def test_metric_text() -> None:
    assert metric_text("valid_accuracy", 0.98765) == "98.77 %"
    assert metric_text("valid_loss", 0.12345) == "0.1235"
    assert metric_text("valid_loss", None) == "-"
    assert metric_text("valid_loss", 999_999.5) == "999999.5000"
    assert metric_text("valid_loss", 915563352799748808015215591424.0) == "9.156e+29"


def watch(view: View, folder: LocalExperiment) -> None:
    folder.path.mkdir(exist_ok=True)
    with start_ledger(folder.ledger) as ledger:
        controller = make_controller(make_config(), ledger)
        controller.observe(view.event)
        view.stage("Starting")
        view.progress("read", 10, None)
        view.progress("read", 20, None)
        with view.running(folder, make_config(), controller.state):
            running = steps(controller)
            for _ in range(6):
                next(running)
            while (assignment := controller.next()) is None or assignment.checkpoints:
                pass
            controller.fail(assignment.number, "it broke")


def test_plain_view_writes_one_line_per_event(tmp_path: Path) -> None:
    lines: list[str] = []
    watch(PlainView(lines.append), LocalExperiment(tmp_path / "demo"))
    assert lines[:2] == ["Starting ...", "Reading documents ..."]
    assert lines[2].startswith("Searching: 12 trials of up to 4 epochs, 0 done; results in")
    assert lines[3].startswith("trial 0 starts: ")
    assert lines[4].startswith("trial 0 epoch 1/4: valid_accuracy ")
    assert lines[4].endswith("% (0.5 s)")
    assert any(line.startswith("trial 0 completed: best valid_accuracy ") for line in lines)
    assert lines[-1].endswith("failed: it broke")


def test_live_view_draws_and_restores_the_terminal(tmp_path: Path) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100, height=30)
    watch(LiveView(console, clock=lambda: 0.0), LocalExperiment(tmp_path / "demo"))
    text = out.getvalue()
    assert "Starting ..." in text
    assert "of 12 trials done" in text
    assert text.endswith("\x1b[2K") or text.count("\x1b[?25l") == text.count("\x1b[?25h")


def test_plain_view_names_each_stage_once() -> None:
    lines: list[str] = []
    view = PlainView(lines.append)
    for stage in ("Evaluating models", "read", "Evaluating models", "other", "read"):
        view.progress(stage, 1, None)
    assert lines == ["Evaluating models ...", "Reading documents ...", "other ..."]


def test_views_show_the_majority_class_and_label_trials_that_are_no_better(tmp_path: Path) -> None:
    created = ExperimentCreated(
        at=0.0, fingerprint="f", majority_class="neg", majority_accuracy=0.7
    )
    trials = state_of(({"cell": "gru"}, [0.6], ""), ({"cell": "gru"}, [0.8], "")).trials
    state = ExperimentState([created])
    state.trials = trials
    lines: list[str] = []
    view = PlainView(lines.append)
    folder = LocalExperiment(tmp_path / "demo")
    with view.running(folder, make_config(), state):
        for number in range(2):
            event = TrialStopped(at=1.0, number=number, reason="pruned")
            state.apply(event)
            view.event(event, state)
    assert lines[1:] == [
        "Always predicting the majority class 'neg' has a validation accuracy of 70.00 %.",
        "trial 0 pruned: best valid_accuracy 60.00 %, no better than the majority class",
        "trial 1 pruned: best valid_accuracy 80.00 %",
    ]
    console = Console(file=io.StringIO(), width=100)
    console.print(drawing(folder, make_config(), state, 0.0))
    drawn = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert "best 80.00 %" in drawn[0]
    assert drawn[1].rstrip() == ("accuracy: best trial 80.00 %, majority 70.00 %")


def test_views_show_the_baselines(tmp_path: Path) -> None:
    created = ExperimentCreated(
        at=0.0, fingerprint="f", majority_class="neg", majority_accuracy=0.7
    )
    state = ExperimentState([created])
    state.trials = state_of(({"cell": "gru"}, [0.8], "")).trials
    event = BaselineValidated(
        at=1.0, name="nb_svm", valid_accuracy=0.86, valid_macro_f1=0.85, seconds=3.14
    )
    lines: list[str] = []
    view = PlainView(lines.append)
    folder = LocalExperiment(tmp_path / "demo")
    with view.running(folder, make_config(), state):
        state.apply(event)
        view.event(event, state)
    assert lines[-1] == "baseline nb_svm: validation accuracy 86.00 % (3.1 s)"
    console = Console(file=io.StringIO(), width=100)
    console.print(drawing(folder, make_config(), state, 0.0))
    drawn = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert drawn[1].rstrip() == (
        "accuracy: best trial 80.00 %, baseline nb_svm 86.00 %, majority 70.00 %"
    )


@pytest.mark.parametrize(
    ("packed", "expected"),
    [
        (
            4,
            [
                "A worker died, and its trials continue from their checkpoints: it was killed",
                "A worker ran out of memory, and its trials continue from their checkpoints: full",
            ],
        ),
        (
            1,
            [
                "trial 0 continues from its checkpoint because its worker died: it was killed",
                "trial 0 continues from its checkpoint because it ran out of memory: full",
            ],
        ),
    ],
)
def test_live_view_prints_one_line_per_lost_worker(
    packed: int, expected: list[str], tmp_path: Path
) -> None:
    config = make_config(resources={"trials_per_worker": packed})
    state = ExperimentState()
    numbers = range(packed)
    for number in numbers:
        state.apply(TrialCreated(at=1.0, number=number, params={"cell": "gru"}, max_epochs=4))
    before = [WorkerLost(at=1.0, number=n, error="earlier") for n in numbers]
    losses = [WorkerLost(at=2.0, number=n, error="it was killed") for n in numbers]
    losses += [WorkerLost(at=3.0, number=n, error="full", cause="memory") for n in numbers]
    for event in before:
        state.apply(event)
    console = Console(file=io.StringIO(), width=100)
    view = LiveView(console)
    with view.running(LocalExperiment(tmp_path / "demo"), config, state):
        for event in losses:
            state.apply(event)
            view.event(event, state)
        view.event(TrialFailed(at=4.0, number=0, error="no"), state)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().splitlines() == expected


def test_live_view_prints_log_messages_above_its_drawing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A terminal shows both streams.
    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    logger, handler = logging.getLogger("tests.live_view"), logging.StreamHandler(out)
    monkeypatch.setattr(logger, "handlers", [handler])
    monkeypatch.setattr(logger, "propagate", False)
    console = Console(file=out, force_terminal=True, width=100, height=30)
    view = LiveView(console, clock=lambda: 0.0)
    state = ExperimentState()
    with view.running(LocalExperiment(tmp_path / "demo"), make_config(), state):
        console.print("first")
        logger.error("something happened")
    assert handler.stream is out
    erased = "\x1b[2K"
    before, _, _ = out.getvalue().partition("something happened")
    # The drawing below `first` is erased before the message, which starts a line.
    assert before.rpartition("saved")[2].count(erased) == 3
    assert before.endswith(erased)


def test_live_view_says_why_a_better_value_is_not_the_best(tmp_path: Path) -> None:
    config, state = make_config(metric="valid_loss"), ExperimentState()
    for number, (wide, loss) in enumerate([("only", 0.9753), ("add", 0.9691)]):
        state.apply(TrialCreated(at=1.0, number=number, params={"wide": wide}, max_epochs=1))
        metrics = {"valid_accuracy": 0.5, "valid_loss": loss}
        if wide == "add":
            metrics |= {"wide_gain": 0.0062, "wide_gain_error": 0.01}
        epoch = EpochReported(at=1.0, number=number, epoch=1, metrics=metrics, checkpoint=None)
        state.apply(epoch)
    console = Console(file=io.StringIO(), width=100)
    console.print(drawing(LocalExperiment(tmp_path / "demo"), config, state, 1.0))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "best 0.9753" in text
    assert "Trial 1 (0.9691) has a better value, but is not better than the wide part" in text


def test_the_end_of_a_command_removes_the_progress_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100)
    monkeypatch.setattr("celltune.search.cli.options.make_console", lambda: console)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    app = typer.Typer()

    def read() -> None:
        make_view().progress("read", 10, None)
        assert "\x1b[?25h" not in out.getvalue()
        raise OptionError("`path` is wrong.")

    add_command(app, read)
    with pytest.raises(OptionError):
        app(standalone_mode=False, args=[])
    assert out.getvalue().count("\x1b[?25h") == 1
    assert out.getvalue().endswith("\x1b[2K")


def test_texts_of_data_stay_one_printable_line(tmp_path: Path) -> None:
    text = f"{EVERYTHING} [bold]x[/bold]"
    events = [
        WorkerLost(at=1.0, number=0, error=text, cause="raised"),
        TrialFailed(at=1.0, number=0, error=text),
        BaselineValidated(at=1.0, name=text, valid_accuracy=0.5, valid_macro_f1=0.5, seconds=1.0),
    ]
    out = io.StringIO()
    console = TextConsole(file=out, force_terminal=True, width=10_000, color_system=None)
    lines: list[str] = []
    for view in (LiveView(console), PlainView(lines.append)):
        state = state_of(({"cell": "gru"}, [0.6], ""))
        view.stage(text)
        view.progress(text, 1, 2)
        view.message(text)
        with view.running(LocalExperiment(tmp_path), make_config(), state):
            for event in events:
                state.apply(event)
                view.event(event, state)
    assert len(lines) == 7
    assert lines == list(map(printable, lines))
    drawn = out.getvalue()
    assert drawn.count(printable(text)) >= 4
    assert_printable(re.sub(r"\x1b\[(\?25[hl]|\d*[AK]|\d*G)|\r", "", drawn))


def test_messages_and_tracebacks_of_logs_are_printable(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "_logRecordFactory", logging.getLogRecordFactory())
    protect_streams()
    logger = logging.Logger("celltune.test")
    logger.addHandler(logging.StreamHandler(sys.stderr))
    logger.error("failed: %s", EVERYTHING, exc_info=ValueError(EVERYTHING))
    logged = capsys.readouterr().err
    assert printable_lines(logged) == logged
    assert r"failed: a \x1b[35;7m" in logged
    assert r"ValueError: a \x1b[35;7m" in logged
