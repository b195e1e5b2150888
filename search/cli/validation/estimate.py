"""The expected cost of a search, as text for people and as an object for programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from celltune.search.cli.output import say
from celltune.search.cli.validation.survey import titled
from celltune.search.wording import approximate_duration, counted

if TYPE_CHECKING:
    from celltune.search.runs.estimate import Estimate


def show_estimate(found: Estimate) -> None:
    """Print the expected duration and memory of a search, and what they are based on."""
    for title, text in _facts(found):
        say(*titled(title, text))
    say("")


def _facts(found: Estimate) -> Iterator[tuple[str, str]]:
    low, mean, high = map(approximate_duration, found.seconds)
    if found.limited:
        yield "duration", f"{mean}, the limit budget.time, which ends the search early"
    else:
        between = f" ({low} to {high})" if low != high else ""
        yield (
            "duration",
            f"about {mean}{between} on this machine: {counted(found.trials, 'trial')} of "
            f"{found.epochs:.1f} epochs on average, {found.workers} at the same time",
        )
    total = found.workers * found.worker_bytes + found.data_bytes
    if found.worker_bytes:
        yield (
            "memory",
            f"about {_size(total)}: {_size(found.worker_bytes)} for each of "
            f"{counted(found.workers, 'worker')}, and the data, {_size(found.data_bytes)}; "
            "Ray itself takes more",
        )
    at_least = "at least " if found.documents < found.train_documents else ""
    fastest, average, slowest = map(approximate_duration, found.epoch_seconds)
    yield (
        "basis",
        f"{counted(found.measured, 'trial')} trained on {at_least}{found.documents:,} of "
        f"{counted(found.train_documents, 'training document')}; an epoch of all takes {average} "
        f"on average ({fastest} to {slowest})",
    )


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 995e6 else f"{count / 1e6:.0f} MB"


def estimate_as_json(found: Estimate) -> dict[str, Any]:
    """Return an estimate as an object of JSON."""
    return {
        "seconds": found.seconds._asdict(),
        "trials": found.trials,
        "workers": found.workers,
        "epochs_per_trial": found.epochs,
        "epoch_seconds": found.epoch_seconds._asdict(),
        "worker_bytes": found.worker_bytes or None,
        "data_bytes": found.data_bytes,
        "measured_trials": found.measured,
        "measured_documents": found.documents,
        "ends_at_time_limit": found.limited,
    }
