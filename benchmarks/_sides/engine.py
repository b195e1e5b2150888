"""The sides of `benchmarks/engine.py`: each runs in a process and a Ray of its own.

Usage: python benchmarks/_sides/engine.py stock|reuse|ours|rate|memory [--trials N] [--seconds S]
Prints as its last line one JSON object. The file stands in a folder of its own because Ray's
workers look for modules beside the driver's script, where `search.py` would hide the package.

A trial of no work gives an epoch's metrics at once, by a formula. All sides search the same five
parameters with two trials side by side, ASHA from 1 to 4 epochs with factor 2.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

SIDE_BY_SIDE = 2
EPOCHS = 4
RATE_EPOCHS = 500


def formula(learning_rate: float, hidden_size: int, epoch: int) -> float:
    fit = 1 - abs(math.log10(learning_rate) + 2.5) / 4 + math.log2(hidden_size) / 60
    return 0.5 + 0.45 * fit * (1 - 0.5**epoch)


def stock(trials: int, *, reuse: bool) -> dict[str, Any]:
    """What Ray Tune's tutorials show: a function, Tuner.fit, OptunaSearch, ASHAScheduler."""
    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    def objective(config: dict[str, Any]) -> None:
        for epoch in range(1, EPOCHS + 1):
            value = formula(config["learning_rate"], config["hidden_size"], epoch)
            tune.report({"valid_accuracy": value})

    ray.init("local", num_cpus=SIDE_BY_SIDE, include_dashboard=False, log_to_driver=False)
    with tempfile.TemporaryDirectory() as storage:
        begun = time.perf_counter()
        results = tune.Tuner(
            objective,
            param_space={
                "cell": tune.choice(["gru", "lstm", "mgu"]),
                "hidden_size": tune.lograndint(16, 129),
                "num_layers": tune.choice([1, 2]),
                "dropout": tune.uniform(0.0, 0.6),
                "learning_rate": tune.loguniform(3e-4, 1e-2),
            },
            tune_config=tune.TuneConfig(
                metric="valid_accuracy",
                mode="max",
                num_samples=trials,
                max_concurrent_trials=SIDE_BY_SIDE,
                search_alg=OptunaSearch(seed=1),
                scheduler=ASHAScheduler(max_t=EPOCHS, grace_period=1, reduction_factor=2),
                reuse_actors=reuse,
            ),
            run_config=tune.RunConfig(storage_path=storage),
        ).fit()
        seconds = time.perf_counter() - begun
    epochs = int(results.get_dataframe()["training_iteration"].sum())
    return {"seconds": seconds, "trials": len(results), "epochs": epochs}


def no_work(task: Any, data: Any) -> Iterator[Any]:  # noqa: ARG001 (a worker's work gets data)
    """Give the metrics that a real epoch gives, at once and without a checkpoint's files."""
    from celltune.search.types import EpochReport

    epoch = len(task.checkpoints)
    while True:
        epoch += 1
        value = formula(task.params["learning_rate"], task.params["hidden_size"], epoch)
        metrics = dict.fromkeys(
            ("train_loss", "train_accuracy", "seconds", "tokens_per_second", "parameters"), 0.5
        )
        metrics.update(valid_accuracy=value, valid_loss=1 - value)
        yield EpochReport(epoch, metrics, f"epoch-{epoch}")


def config_of(trials: int, epochs: int, *, stop_early: bool = True) -> Any:
    from celltune.search.config.loading import parse_config

    return parse_config(
        {
            "name": "engine",
            "data": {"source": "synthetic", "reviews": 40},
            "space": {
                "cell": ["gru", "lstm", "mgu"],
                "hidden_size": {"low": 16, "high": 128, "log": True},
                "num_layers": [1, 2],
                "dropout": {"low": 0.0, "high": 0.6},
                "learning_rate": {"low": 3e-4, "high": 1e-2, "log": True},
            },
            "budget": {"trials": trials, "max_epochs": epochs},
            "early_stopping": {"reduction_factor": 2} if stop_early else None,
            "resources": {"concurrent_trials": SIDE_BY_SIDE},
        }
    )


def search(
    config: Any, observer: Callable[..., None], should_stop: Callable[[], bool] = lambda: False
) -> tuple[float, Any]:
    """Run our engine as `search.experiment` does; gives the seconds that it took and the state."""
    import ray

    from celltune.search.cluster.tune_engine import TuneEngine
    from celltune.search.ledger.events import ExperimentCreated
    from celltune.search.storage.locate import open_storage
    from celltune.search.storage.retention import CheckpointRetention
    from celltune.search.tuning.controller import SearchController

    ray.init("local", num_cpus=SIDE_BY_SIDE, include_dashboard=False, log_to_driver=False)
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent) as storage:
        place = open_storage(storage).experiment(config.name)
        place.create(config, ExperimentCreated(at=time.time(), fingerprint="none"))
        begun = time.perf_counter()
        with place.open_ledger() as ledger:
            conductor = SearchController(config, ledger, clock=time.time)
            conductor.observe(CheckpointRetention(place, config.metric))
            conductor.observe(observer)
            engine = TuneEngine(config, place, None, SIDE_BY_SIDE, lambda: None, no_work)
            engine.run(conductor, should_stop)
        seconds = time.perf_counter() - begun
        state = place.state()
        if state.trials != conductor.state.trials:
            raise RuntimeError("the ledger on the disk isn't what was acknowledged")
    return seconds, state


def epochs_of(state: Any) -> int:
    return sum(trial.epochs_done for trial in state.trials)


def ours(trials: int) -> dict[str, Any]:
    seconds, state = search(config_of(trials, EPOCHS), lambda *_: None)
    return {"seconds": seconds, "trials": len(state.trials), "epochs": epochs_of(state)}


def rate(seconds: float) -> dict[str, Any]:
    """Acknowledged results a second, from the first one on.

    The trials are long, so that results are counted and not the beginning of trials.
    """
    times: list[float] = []

    def count(event: Any, state: Any) -> None:  # noqa: ARG001 (an observer's form)
        if event.event == "epoch_reported":
            times.append(time.perf_counter())

    def enough() -> bool:
        return bool(times) and time.perf_counter() - times[0] >= seconds

    begun = time.process_time()
    _, state = search(config_of(1_000_000, RATE_EPOCHS, stop_early=False), count, enough)
    thirds = [sum(at - times[0] < seconds * part / 3 for at in times) for part in (1, 2, 3)]
    return {
        "results_per_s": len(times) / (times[-1] - times[0]),
        "by_thirds_per_s": [
            3 * (last - first) / seconds for first, last in zip([0, *thirds], thirds, strict=False)
        ],
        "seconds": times[-1] - times[0],
        "driver_cpu_seconds": time.process_time() - begun,
        "results": epochs_of(state),
        "trials": len(state.trials),
    }


def memory(trials: int) -> dict[str, Any]:
    """What a trial leaves in the driver's memory, from the first quarter of the trials on."""
    process = psutil.Process()
    seen: dict[int, tuple[float, int]] = {}
    begun = time.perf_counter()

    def look(event: Any, state: Any) -> None:  # noqa: ARG001 (an observer's form)
        if event.event == "trial_created" and event.number % (trials // 8) == 0:
            seen[event.number] = (time.perf_counter() - begun, process.memory_info().rss)

    _, state = search(config_of(trials, EPOCHS), look)
    first, last = sorted(seen)[2], max(seen)
    grown = seen[last][1] - seen[first][1]
    return {
        "kb_per_trial": grown / 1000 / (last - first),
        "rss_mb": {number: rss / 1e6 for number, (_, rss) in seen.items()},
        "at_seconds": {number: at for number, (at, _) in seen.items()},
        "epochs": epochs_of(state),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("side", choices=["stock", "reuse", "ours", "rate", "memory"])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=30)
    options = parser.parse_args()
    result = {
        "stock": lambda: stock(options.trials, reuse=False),
        "reuse": lambda: stock(options.trials, reuse=True),
        "ours": lambda: ours(options.trials),
        "rate": lambda: rate(options.seconds),
        "memory": lambda: memory(options.trials),
    }[options.side]()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
