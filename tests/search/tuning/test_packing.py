from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celltune.models.config import PER_TRIAL
from celltune.search.config.space import hyperparameters
from celltune.search.errors import ConfigError
from celltune.search.extensions import SAMPLERS
from celltune.search.ledger.events import (
    EpochReported,
    Event,
    PriorTrial,
    TrialCreated,
    WarmStarted,
)
from celltune.search.ledger.ledger import Ledger
from celltune.search.ledger.state import ExperimentState
from celltune.search.tuning.base import Sampler
from celltune.search.tuning.controller import SearchController
from celltune.search.tuning.packing import (
    PackShape,
    ShapePlanner,
    check_sampler,
    describe_packs,
    given_values,
    group_size,
    shape_of,
)
from celltune.search.types import EpochReport, ParameterValue
from tests.search.simulated_search import RAW, formula, make_config, start_ledger

LANES, PER_WORKER, TRIALS = 2, 3, 18
CONFIG = make_config(
    budget={"trials": TRIALS, "max_epochs": 4},
    # TPE keeps values of its own for the conditional hyperparameters of running trials.
    space={**RAW["space"], "num_layers": [1, 2], "layer_dropout": {"low": 0.0, "high": 0.5}},
    sampler={"name": "tpe", "startup_trials": 4},
)
Step = tuple[str, int]


def make_packed(ledger: Ledger, per_worker: int = PER_WORKER) -> SearchController:
    return SearchController(CONFIG, ledger, clock=lambda: 1.0, trials_per_worker=per_worker)


class Workers:
    """Workers that train up to `per_worker` trials of one shape each."""

    def __init__(self, path: Path, per_worker: int) -> None:
        self._path, self._per_worker = path, per_worker
        self._ledger = start_ledger(path)
        self.controller = make_packed(self._ledger, per_worker)
        self.lanes: list[dict[int, dict[str, ParameterValue]]] = [{} for _ in range(LANES)]
        self.assigned: list[int] = []

    def shape(self, lane: int) -> PackShape | None:
        return next((shape_of(params) for params in self.lanes[lane].values()), None)

    def take(self, lane: int) -> bool:
        """Give a worker another trial; return whether there is one."""
        shape = self.shape(lane)
        full = len(self.lanes[lane]) == self._per_worker
        assignment = None if full else self.controller.next(shape)
        if assignment is None:
            return False
        assert shape in (None, shape_of(assignment.params))
        self.lanes[lane][assignment.number] = assignment.params
        self.assigned.append(assignment.number)
        return True

    def report(self, lane: int, *, fails: bool = False) -> None:
        """Let the trial of a worker that has trained the least end its epoch."""
        if not self.lanes[lane]:
            return
        trials = self.controller.state.trials
        number = min(self.lanes[lane], key=lambda n: (trials[n].epochs_done, n))
        epoch = trials[number].epochs_done + 1
        if fails:
            self.controller.fail(number, "it broke")
            del self.lanes[lane][number]
            return
        report = EpochReport(epoch, formula(self.lanes[lane][number], epoch), f"epoch-{epoch}")
        if not self.controller.report(number, [report]):
            del self.lanes[lane][number]

    def resume(self) -> None:
        """Replace the controller by one that knows only the ledger."""
        self.close()
        self._ledger = Ledger(self._path)
        self.controller = make_packed(self._ledger, self._per_worker)
        running = {n: params for lane in self.lanes for n, params in lane.items()}
        again = [self.controller.next(shape_of(params)) for params in running.values()]
        assert {a.number: a.params for a in again if a is not None} == running

    def close(self) -> list[Event]:
        self._ledger.close()
        return list(self._ledger.events)


def run(path: Path, steps: Sequence[Step], per_worker: int) -> tuple[list[int], list[Event]]:
    """Carry out steps, then finish the search; return the assigned trials and the events."""
    workers = Workers(path, per_worker)
    for action, lane in steps:
        if action == "take":
            workers.take(lane)
        elif action == "resume":
            workers.resume()
        else:
            workers.report(lane, fails=action == "fail")
    while any(workers.take(lane) or workers.lanes[lane] for lane in range(LANES)):
        for lane in range(LANES):
            while workers.take(lane):
                pass
            workers.report(lane)
    assert workers.controller.end_reason is not None
    return workers.assigned, workers.close()


actions = st.sampled_from(["take", "take", "report", "report", "report", "resume", "fail"])


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=st.lists(st.tuples(actions, st.integers(0, LANES - 1)), min_size=10, max_size=60))
@pytest.mark.parametrize("per_worker", [1, PER_WORKER])
def test_a_search_with_several_workers_continues_after_interruptions_as_without_them(
    per_worker: int,
    steps: list[Step],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ShapePlanner, "GROUP", PER_WORKER)  # several groups in a short search
    folder = tmp_path_factory.mktemp("packed")
    assigned, events = run(folder / "cut.jsonl", steps, per_worker)
    uncut = [step for step in steps if step[0] != "resume"]
    assert run(folder / "uncut.jsonl", uncut, per_worker) == (assigned, events)
    assert assigned == list(range(len(assigned))), "no trial is assigned twice"
    assert len(assigned) <= TRIALS


def test_proposals_do_not_depend_on_values_that_a_ledger_lacks(tmp_path: Path) -> None:
    every_third: list[Step] = []
    for step in range(60):
        every_third += [("take", step % LANES), ("take", (step + 1) % LANES), ("report", step % 2)]
        every_third += [("resume", 0)] if step % 3 == 0 else []
    uncut = [step for step in every_third if step[0] != "resume"]
    cut = run(tmp_path / "cut.jsonl", every_third, 1)
    assert run(tmp_path / "uncut.jsonl", uncut, 1) == cut


def test_a_waiting_trial_of_the_shape_comes_before_new_ones(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with start_ledger(path) as ledger:
        controller = make_packed(ledger)
        first = [controller.next() for _ in range(3)]
    shapes = [shape_of(assignment.params) for assignment in first if assignment is not None]
    assert len(set(shapes)) == 3
    with Ledger(path) as ledger:
        controller = make_packed(ledger)
        again = [controller.next(shapes[1]), controller.next(), controller.next()]
        assert [a.number for a in again if a is not None] == [1, 0, 2]
        fourth = controller.next(shapes[2])
        assert fourth is not None
        assert fourth.number == 3
        assert shape_of(fourth.params) == shapes[2]


def test_packed_trials_differ_in_what_the_shape_leaves_free(tmp_path: Path) -> None:
    with start_ledger(tmp_path / "ledger.jsonl") as ledger:
        controller = make_packed(ledger)
        leader = controller.next()
        assert leader is not None
        follower = controller.next(shape_of(leader.params))
        assert follower is not None
    different = {n for n in leader.params if leader.params[n] != follower.params.get(n)}
    assert "learning_rate" in different
    assert different <= PER_TRIAL


def test_the_shape_has_every_other_hyperparameter() -> None:
    shape = shape_of({"cell": "gru", "hidden_size": 12, "learning_rate": 0.1})
    assert dict(shape)["num_layers"] == 1, "defaults count"
    assert {name for name, _ in shape} == {*hyperparameters()} - PER_TRIAL
    assert given_values(CONFIG.space, shape) == {"cell": "gru", "hidden_size": 12, "num_layers": 1}


class Unaware(Sampler):
    """A sampler that was written before packed trials."""

    def __init__(self, problem: Any, settings: Any) -> None:
        pass

    def replay(self, state: Any) -> None:
        pass

    def propose(self, number: int) -> dict[str, ParameterValue]:
        return {}


def test_a_sampler_that_cannot_pack_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = make_config(resources={"trials_per_worker": 2})
    first = make_config(first_trials=[{"cell": "gru"}])
    for config in (CONFIG, packed, first):
        check_sampler(config)
    samplers: Mapping[str, type[Sampler]] = {"tpe": Unaware}
    monkeypatch.setattr(type(SAMPLERS), "load", lambda self, name: samplers[name])
    check_sampler(CONFIG)
    message = (
        "sampler.name is 'tpe', a sampler that cannot propose trials of a given shape, which "
        "packed trials need. Set resources.trials_per_worker to 1, or use the sampler tpe."
    )
    with pytest.raises(ConfigError) as raised:
        check_sampler(packed)
    assert str(raised.value) == message
    message = (
        "sampler.name is 'tpe', a sampler that cannot propose trials with given values, which "
        "first_trials need. Remove first_trials, or use the sampler tpe."
    )
    with pytest.raises(ConfigError) as raised:
        check_sampler(first)
    assert str(raised.value) == message
    with pytest.raises(NotImplementedError, match="Unaware cannot propose trials with given"):
        Unaware(None, None).propose_given(0, {})


def test_the_last_retry_of_a_trial_shares_its_worker_with_no_other(tmp_path: Path) -> None:
    with start_ledger(tmp_path / "ledger.jsonl") as ledger:
        controller = make_packed(ledger)
        first = controller.next()
        assert first is not None
        shape = shape_of(first.params)
        controller.retry_or_fail([0], "raised", "it broke")
        assert controller.trials_to_start == TRIALS
        again = controller.next(shape)
        assert again is not None
        assert (again.number, again.alone) == (0, False)
        controller.retry_or_fail([0], "raised", "it broke")
        other = controller.next(shape)
        assert other is not None
        assert (other.number, other.alone) == (1, False)
        last = controller.next()
        assert last is not None
        assert (last.number, last.alone) == (0, True)


def make_planner(
    shapes: Sequence[tuple[str, float | None]], **changes: Any
) -> tuple[ShapePlanner, ExperimentState]:
    """Return a planner after trials with these cells and accuracies."""
    config = make_config(**changes)
    state = ExperimentState()
    for number, (cell, accuracy) in enumerate(shapes):
        params: dict[str, ParameterValue] = {"cell": cell, "hidden_size": 12, "num_layers": 1}
        state.apply(TrialCreated(at=0.0, number=number, params=params, max_epochs=4))
        if accuracy is not None:
            metrics = {"valid_accuracy": accuracy}
            state.apply(
                EpochReported(at=0.0, number=number, epoch=1, metrics=metrics, checkpoint=None)
            )
    return ShapePlanner(config, state, GROUP), state


GROUP = ShapePlanner.GROUP
GRU, LSTM, RNN, MGU = (
    shape_of({"cell": cell, "hidden_size": 12}) for cell in ("gru", "lstm", "rnn", "mgu")
)


def test_trials_of_a_shape_start_in_groups() -> None:
    trials: list[tuple[str, float | None]] = [("gru", 0.6)]
    for _ in range(GROUP - 1):
        planner, _ = make_planner(trials)
        assert planner.continues(GRU)
        trials.append(("gru", 0.5))
    planner, state = make_planner(trials)
    assert not planner.continues(GRU), "too few shapes are known to prefer one"
    created = TrialCreated(at=0.0, number=GROUP, params=state.trials[0].params, max_epochs=4)
    state.apply(created)
    assert planner.continues(GRU), "a later trial of this shape starts another group"


@pytest.mark.parametrize(
    ("trials", "per_worker", "size"),
    [(1000, 4, 16), (1000, 32, 32), (64, 4, 8), (20, 4, 4), (2, 1, 1)],
)
def test_groups_fill_a_worker_and_are_small_in_small_searches(
    trials: int, per_worker: int, size: int
) -> None:
    assert group_size(make_config(budget={"trials": trials}), per_worker) == size


@pytest.mark.parametrize(
    ("gpus", "expected"),
    [
        (1, "start in groups of 4, so the search tries about 3 of 6 shapes (docs/packs.md)."),
        (0, "(docs/packs.md). On a CPU, packs are not faster than one trial per worker."),
    ],
)
def test_the_plan_of_a_packed_search_tells_how_many_shapes_it_tries(
    gpus: int, expected: str
) -> None:
    config = make_config(
        budget={"trials": 12},
        space={"cell": ["gru", "lstm", "mgu"], "hidden_size": [8, 16]},
        resources={"gpus_per_trial": gpus, "trials_per_worker": 4},
    )
    assert describe_packs(config).endswith(expected)


def test_a_group_with_the_best_trial_is_followed_by_another() -> None:
    others: list[tuple[str, float | None]] = [("lstm", 0.6), ("rnn", 0.6), ("mgu", None)]
    first: list[tuple[str, float | None]] = [*others, ("gru", 0.7), *[("gru", 0.5)] * (GROUP - 1)]
    planner, _ = make_planner(first)
    assert planner.continues(GRU)
    planner, _ = make_planner([*first, *[("lstm", 0.65)] * (GROUP - 1)])
    assert not planner.continues(LSTM), "it has the second-best trial"
    planner, _ = make_planner([*first, *[("gru", 0.6)] * GROUP])
    assert not planner.continues(GRU), "the second group has not improved on the first"
    planner, _ = make_planner([*first, *[("gru", 0.8)] * GROUP])
    assert planner.continues(GRU)


def test_the_only_shape_of_a_space_always_goes_on() -> None:
    space = {"cell": "gru", "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}}
    trials: list[tuple[str, float | None]] = [("gru", None)] * GROUP
    planner, _ = make_planner(trials, space=space)
    assert planner.continues(planner.shape(0))
    assert planner.given(None) == {}


@pytest.mark.parametrize(
    ("cells", "hidden", "known"), [(4, {"low": 4, "high": 64, "log": True}, 4), (2, 12, 2)]
)
def test_the_first_shapes_are_drawn_at_random(cells: int, hidden: Any, known: int) -> None:
    names = ["gru", "lstm", "rnn", "mgu"][:cells]
    space = {"cell": names, "hidden_size": hidden, "learning_rate": {"low": 0.1, "high": 0.2}}
    for count in range(known):
        planner, _ = make_planner([(name, 0.5) for name in names[:count]], space=space)
        given = planner.given(None)
        assert given
        assert set(given) <= {"cell", "hidden_size"}
        assert given["cell"] in names
        assert given == planner.given(None)
    planner, _ = make_planner([(name, 0.5) for name in names], space=space)
    assert planner.given(None) == {}
    assert planner.given(GRU)["cell"] == "gru"


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_random_shapes_are_within_the_space(seed: int) -> None:
    sizes = {"low": 16, "high": 31, "log": True}
    space = {"cell": ["gru", "rnn"], "hidden_size": sizes, "embedding_size": {"low": 4, "high": 16}}
    space["batch_size"] = {"low": 8, "high": 24, "step": 8}
    planner, _ = make_planner([], space=space, seed=seed)
    values = planner.given(None)
    assert values["cell"] in ("gru", "rnn")
    assert values["hidden_size"] in range(16, 32)
    assert values["embedding_size"] in range(4, 17)
    assert values["batch_size"] in (8, 16, 24)


def test_shapes_of_a_warm_start_are_known() -> None:
    config, state = make_config(), ExperimentState()
    prior = [
        PriorTrial(
            number=n,
            params={**dict(given_values(config.space, shape))},
            status="pruned",
            values={1: 0.5},
        )
        for n, shape in enumerate((GRU, LSTM, RNN, MGU))
    ]
    state.apply(WarmStarted(at=0.0, origin="o", trials=prior, outside=0, parameters_left_out=[]))
    assert ShapePlanner(config, state).given(None) == {}
