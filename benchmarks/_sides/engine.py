"""The sides of `benchmarks/engine.py`; each runs in its own process with its own Ray cluster.

Usage: python benchmarks/_sides/engine.py stock|reuse|ours|rate|memory [--trials N] [--seconds S]
The last line of the output is a JSON object. The file has its own folder because Ray's workers look
for modules next to the driver's script, where `search.py` would shadow other modules.

Trials do no work: a formula gives the metrics of each epoch. All sides search the same five
hyperparameters with two concurrent trials and ASHA from 1 to 4 epochs with reduction factor 2.
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

CONCURRENT_TRIALS = 2
EPOCHS = 4
RATE_EPOCHS = 500


def formula(learning_rate: float, hidden_size: int, epoch: int) -> float:
    fit = 1 - abs(math.log10(learning_rate) + 2.5) / 4 + math.log2(hidden_size) / 60
    return 0.5 + 0.45 * fit * (1 - 0.5**epoch)


def stock(trials: int, *, reuse: bool) -> dict[str, Any]:
    """Search as in Ray Tune's tutorials: a function, Tuner.fit, OptunaSearch, ASHAScheduler."""
    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    def objective(config: dict[str, Any]) -> None:
        for epoch in range(1, EPOCHS + 1):
            value = formula(config["learning_rate"], config["hidden_size"], epoch)
            tune.report({"valid_accuracy": value})

    ray.init("local", num_cpus=CONCURRENT_TRIALS, include_dashboard=False, log_to_driver=False)
    with tempfile.TemporaryDirectory() as storage:
        started = time.perf_counter()
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
                max_concurrent_trials=CONCURRENT_TRIALS,
                search_alg=OptunaSearch(seed=1),
                scheduler=ASHAScheduler(max_t=EPOCHS, grace_period=1, reduction_factor=2),
                reuse_actors=reuse,
            ),
            run_config=tune.RunConfig(storage_path=storage),
        ).fit()
        seconds = time.perf_counter() - started
    epochs = int(results.get_dataframe()["training_iteration"].sum())
    return {"seconds": seconds, "trials": len(results), "epochs": epochs}


def no_work(task: Any) -> Any:  # noqa: ARG001 (required signature)
    from celltune.search.tuning.trial_group import SeparateTrials

    return SeparateTrials(no_training)


def no_training(task: Any) -> Iterator[Any]:
    """Yield the metrics of a real epoch without training and without checkpoint files."""
    from celltune.search.types import EpochReport

    epoch = len(task.restore_from)
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
            "resources": {"concurrent_trials": CONCURRENT_TRIALS},
        }
    )


def search(
    config: Any, observer: Callable[..., None], should_stop: Callable[[], bool] = lambda: False
) -> tuple[float, Any]:
    """Run celltune's engine as a search does; return its duration in seconds and the state."""
    import ray

    from celltune.search.cluster.tune_engine import TuneEngine
    from celltune.search.ledger.events import ExperimentCreated
    from celltune.search.storage.locate import open_storage
    from celltune.search.storage.retention import CheckpointRetention
    from celltune.search.tuning.controller import SearchController

    ray.init("local", num_cpus=CONCURRENT_TRIALS, include_dashboard=False, log_to_driver=False)
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent) as storage:
        experiment = open_storage(storage).experiment(config.name)
        experiment.create(config, ExperimentCreated(at=time.time(), fingerprint="none"))
        started = time.perf_counter()
        with experiment.open_ledger() as ledger:
            controller = SearchController(config, ledger, clock=time.time)
            controller.observe(CheckpointRetention(experiment, config.metric))
            controller.observe(observer)
            engine = TuneEngine(
                config, experiment, None, CONCURRENT_TRIALS, lambda: None, work=no_work
            )
            engine.run(controller, should_stop)
        seconds = time.perf_counter() - started
        state = experiment.state()
        if state.trials != controller.state.trials:
            raise RuntimeError("The ledger on disk differs from the acknowledged results.")
    return seconds, state


def epochs_of(state: Any) -> int:
    return sum(trial.epochs_done for trial in state.trials)


def ours(trials: int) -> dict[str, Any]:
    seconds, state = search(config_of(trials, EPOCHS), lambda *_: None)
    return {"seconds": seconds, "trials": len(state.trials), "epochs": epochs_of(state)}


def rate(seconds: float) -> dict[str, Any]:
    """Return the acknowledged results per second since the first one.

    The trials are long, so the start of trials hardly contributes.
    """
    times: list[float] = []

    def count(event: Any, state: Any) -> None:  # noqa: ARG001 (required signature)
        if event.event == "epoch_reported":
            times.append(time.perf_counter())

    def should_stop() -> bool:
        return bool(times) and time.perf_counter() - times[0] >= seconds

    started = time.process_time()
    _, state = search(config_of(1_000_000, RATE_EPOCHS, stop_early=False), count, should_stop)
    thirds = [sum(at - times[0] < seconds * third / 3 for at in times) for third in (1, 2, 3)]
    return {
        "results_per_s": len(times) / (times[-1] - times[0]),
        "by_thirds_per_s": [
            3 * (last - first) / seconds for first, last in zip([0, *thirds], thirds, strict=False)
        ],
        "seconds": times[-1] - times[0],
        "driver_cpu_seconds": time.process_time() - started,
        "results": epochs_of(state),
        "trials": len(state.trials),
    }


def memory(trials: int) -> dict[str, Any]:
    """Return the growth of the driver's memory per trial after the first quarter of the trials."""
    process = psutil.Process()
    samples: dict[int, tuple[float, int]] = {}
    started = time.perf_counter()

    def sample(event: Any, state: Any) -> None:  # noqa: ARG001 (required signature)
        if event.event == "trial_created" and event.number % (trials // 8) == 0:
            samples[event.number] = (time.perf_counter() - started, process.memory_info().rss)

    _, state = search(config_of(trials, EPOCHS), sample)
    first, last = sorted(samples)[2], max(samples)
    growth = samples[last][1] - samples[first][1]
    return {
        "kb_per_trial": growth / 1000 / (last - first),
        "rss_mb": {number: rss / 1e6 for number, (_, rss) in samples.items()},
        "at_seconds": {number: at for number, (at, _) in samples.items()},
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
