from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console, ConsoleDimensions

from celltune.search.cli.live_table import drawing, sparkline
from celltune.search.config.schema import SearchConfig
from celltune.search.ledger.events import EpochReported, TrialCreated, TrialFailed, TrialStopped
from celltune.search.ledger.state import ExperimentState
from celltune.search.storage.local import LocalExperiment
from tests.search.simulated_search import make_config, make_controller, start_ledger, steps


def drawn(
    config: SearchConfig,
    state: ExperimentState,
    width: int = 100,
    height: int = 24,
    *,
    ascii_only: bool = False,
) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    size = ConsoleDimensions(width, height)
    folder = LocalExperiment(Path("demo"))
    console.print(drawing(folder, config, state, 754.0, size=size, ascii_only=ascii_only))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def trial(state: ExperimentState, number: int, values: tuple[float, ...], end: str = "") -> None:
    params = {"cell": "gru", "hidden_size": 8}
    state.apply(TrialCreated(at=1.0, number=number, params=params, max_epochs=10))
    for epoch, value in enumerate(values, start=1):
        metrics = {"valid_accuracy": value, "valid_loss": 0.5, "seconds": 10.0}
        state.apply(
            EpochReported(at=1.0, number=number, epoch=epoch, metrics=metrics, checkpoint=None)
        )
    if end:
        state.apply(TrialStopped(at=1.0, number=number, reason=end))


@pytest.mark.parametrize("width", [50, 80, 200])
def test_the_drawing_fits_the_terminal(width: int, tmp_path: Path) -> None:
    with start_ledger(tmp_path / "ledger.jsonl") as ledger:
        controller = make_controller(make_config(budget={"trials": 40, "max_epochs": 4}), ledger)
        list(steps(controller, workers=3))
        state = controller.state
    state.apply(TrialCreated(at=1.0, number=40, params={"cell": "gru"}, max_epochs=4))
    state.apply(TrialCreated(at=1.0, number=41, params={"cell": "gru"}, max_epochs=4))
    state.apply(TrialFailed(at=1.0, number=41, error="no"))
    lines = drawn(make_config(budget={"trials": 42, "max_epochs": 4}), state, width)
    assert max(map(len, lines)) <= width
    assert len(lines) <= 24
    shown = " ".join(" ".join(lines).split())
    assert "demo 41 of 42 trials done" in shown
    assert "1 failed" in shown
    assert "12:34" in shown
    assert "40 running 0/4" in shown


@pytest.mark.parametrize(("height", "running", "pruned"), [(24, 14, 6), (30, 20, 6), (60, 30, 10)])
def test_trials_fill_the_terminal(height: int, running: int, pruned: int) -> None:
    state = ExperimentState()
    for number in range(40):
        ended = number < 10
        trial(state, number, (0.5,) if ended else (), "pruned" if ended else "")
    lines = drawn(make_config(), state, height=height)
    assert sum("running" in line for line in lines) == running
    assert sum("  pruned  " in line for line in lines[1:]) == pruned
    assert len(lines) <= height


def test_a_few_running_trials_leave_their_rows_to_ended_ones() -> None:
    state = ExperimentState()
    for number in range(40):
        trial(state, number, (number / 40,), "" if number < 2 else "completed")
    lines = drawn(make_config(), state)
    assert sum("running" in line for line in lines) == 2
    assert sum("completed" in line for line in lines) == 18
    assert len(lines) == 24 - 1  # a line is free for a remark


def test_curves_have_the_scale_of_the_shown_trials() -> None:
    state = ExperimentState()
    trial(state, 0, (0.2, 0.55, 0.9))
    trial(state, 1, (0.5,) * 9 + (0.9,))
    lines = drawn(make_config(), state)
    assert any("▁▅█" in line for line in lines)
    # Ten epochs do not fit, so every second one is shown; the last one always is.
    assert any("▄▄▄▄█" in line for line in lines)
    assert any("_+@" in line for line in drawn(make_config(), state, ascii_only=True))
    assert not any("▁" in line for line in drawn(make_config(), state, width=60))


def test_sparkline_of_equal_values_and_of_none() -> None:
    assert sparkline([0.5, 0.5], 0.5, 0.5) == "▁▁"
    assert sparkline([], 0.0, 0.0) == ""


def test_constant_hyperparameters_are_omitted() -> None:
    config = make_config(space={"cell": ["gru", "rnn"], "hidden_size": 8, "embedding_size": 16})
    state = ExperimentState()
    params = {"cell": "gru", "hidden_size": 8, "embedding_size": 16}
    state.apply(TrialCreated(at=1.0, number=0, params=params, max_epochs=4))
    text = "\n".join(drawn(config, state))
    assert " gru" in text
    assert "gru 8" not in text
    assert "embedding_size" not in text


def test_the_time_left_is_estimated_and_bounded_by_the_time_limit() -> None:
    state = ExperimentState()
    config = make_config(budget={"trials": 3, "max_epochs": 10})
    assert "left" not in drawn(config, state)[0]
    trial(state, 0, (0.5, 0.6))
    # Eight epochs of this trial and ten of each of the others, 10 s each, one after the other.
    assert "0:12:34, about 5 min left" in drawn(config, state)[0]
    limited = make_config(budget={"trials": 3, "max_epochs": 10, "time": 764})
    assert "about 10 s left" in drawn(limited, state)[0]
    over = make_config(budget={"trials": 3, "max_epochs": 10, "time": 700})
    assert "left" not in drawn(over, state)[0]
