"""Commands that keep a storage tidy: `celltune delete`, `prune`, `copy`, `du` and `logs`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from celltune.data_prep.cache.inventory import CachedDataset, cached_datasets, clear
from celltune.data_prep.io.files import default_cache_dir
from celltune.search.cli.commands import add_command
from celltune.search.cli.completion import complete_experiments
from celltune.search.cli.options import Name, Storage, arguments_for
from celltune.search.cli.output import confirmed, make_console, say, say_block, wrapped
from celltune.search.errors import OptionError
from celltune.search.results.tables import Column, TextTable
from celltune.search.runs import housekeeping
from celltune.search.runs.failures import failures
from celltune.search.runs.housekeeping import Deletion, Usage
from celltune.search.storage.locate import find_experiment, new_experiment, open_storage
from celltune.search.wording import counted

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Names = Annotated[
    list[str],
    typer.Argument(
        metavar="NAME",
        help="Names of experiments; see celltune list.",
        autocompletion=complete_experiments,
    ),
]


def delete(
    names: Names,
    yes: Yes = False,
    data: Annotated[
        bool,
        typer.Option(
            "--data",
            help="Also remove their prepared data from the cache of this machine, unless another "
            "experiment of the storage uses it.",
        ),
    ] = False,
    storage: Storage = None,
) -> None:
    """Delete experiments with their trials and checkpoints.

    A running experiment is not deleted. What exported models, reports, MLflow and TensorBoard
    folders elsewhere contain is kept.
    """
    root = open_storage(storage)
    found = [find_experiment(name, root) for name in dict.fromkeys(names)]
    deletions = housekeeping.plan_deletion(found)
    for deletion in deletions:
        wrapped(make_console(), _describe(deletion), *deletion.left_behind)
    unused = _unused_data(deletions)
    for dataset in unused:
        fate = "is removed from the cache, too" if data else "stays in the cache"
        say(f"Its prepared data {dataset.fingerprint[:12]} ({_size(dataset.nbytes)}) {fate}.")
    if not yes and not confirmed(
        f"Delete {' and '.join(each.name for each in found)}? This cannot be undone."
    ):
        say("Nothing was deleted.")
        raise typer.Exit(1)
    for deletion in deletions:
        notes = housekeeping.delete(deletion)
        say(f"Deleted {deletion.experiment.name} ({_size(deletion.nbytes)}).", *notes)
    root.finish_deletions()
    if data and unused:
        clear(default_cache_dir(), [dataset.fingerprint for dataset in unused])
        say(f"Removed prepared data: {_size(sum(dataset.nbytes for dataset in unused))}.")


def _describe(deletion: Deletion) -> str:
    name, size = deletion.experiment.name, _size(deletion.nbytes)
    trials = "damaged"
    if deletion.snapshot is not None:
        trials = counted(len(deletion.snapshot.state.trials), "trial")
    return f"{name}: {trials}, {size}, in {deletion.experiment.location}"


def _unused_data(deletions: list[Deletion]) -> list[CachedDataset]:
    """Return the prepared data on this machine that only the deleted experiments use."""
    wanted = {deletion.fingerprint for deletion in deletions}
    names = [deletion.experiment.name for deletion in deletions]
    storage = deletions[0].experiment.storage
    return [
        dataset
        for dataset in cached_datasets(default_cache_dir())
        if dataset.fingerprint in wanted
        and not housekeeping.others_with_data(storage, dataset.fingerprint, names)
    ]


def prune(
    name: Name,
    keep: Annotated[
        int,
        typer.Option(min=1, help="Number of trials that keep their checkpoints, the best ones."),
    ] = 3,
    yes: Yes = False,
    storage: Storage = None,
) -> None:
    """Remove the checkpoints of all but the best trials; all results stay.

    Unfinished trials and the members of ensembles keep their checkpoints.
    """
    experiment = find_experiment(name, storage)
    plan = housekeeping.plan_pruning(experiment, keep)
    if not plan.removed:
        say(f"Nothing to remove: only {_trials(plan.kept)} of {experiment.name} have checkpoints.")
        return
    wrapped(
        make_console(),
        f"{experiment.name}: {counted(len(plan.removed), 'checkpoint')} of {_trials(plan.trials)}, "
        f"{_size(plan.nbytes)}, can be removed. Checkpoints of {_trials(plan.kept)} stay.",
        "Without its checkpoints, a trial cannot be exported, predict or join an ensemble, and if "
        "celltune resume --max-epochs extends it, it starts from its first epoch. Its results and "
        "curves stay, and celltune evaluate can retrain it.",
    )
    if not yes and not confirmed(f"Remove {counted(len(plan.removed), 'checkpoint')}?"):
        say("Nothing was removed.")
        raise typer.Exit(1)
    pruned = housekeeping.prune(experiment, keep)
    say(f"Removed {counted(len(pruned.removed), 'checkpoint')}, {_size(pruned.nbytes)}.")


def _trials(numbers: list[int] | tuple[int, ...]) -> str:
    shown = ", ".join(map(str, numbers[:_LISTED]))
    rest = f" and {len(numbers) - _LISTED} more" if len(numbers) > _LISTED else ""
    return f"{'trial' if len(numbers) == 1 else 'trials'} {shown or '-'}{rest}"


_LISTED = 10
"""Number of trials that a sentence lists."""


def copy(
    source_name: Name,
    name: Annotated[str, typer.Argument(metavar="NEW", help="Name of the copy.")],
    to: Annotated[
        str | None,
        typer.Option(metavar="STORAGE", help="Storage of the copy. Default: that of NAME."),
    ] = None,
    storage: Storage = None,
) -> None:
    """Copy an experiment with its checkpoints, for example to another storage.

    The copy is an experiment of its own, which can be resumed and changed without the original.
    """
    source = find_experiment(source_name, storage)
    if to is not None and not to.strip():
        raise OptionError("`to` is empty. Give a folder or a URI, or omit it.")
    target = new_experiment(name, to if to is not None else source.storage)
    copied = housekeeping.copy(source, target)
    say(
        f"Copied {source.name} to {target.location}: {counted(copied.events, 'event')}, "
        f"{counted(copied.checkpoints, 'checkpoint')}.",
        *(f"Left out, because it is damaged: {address}" for address in copied.left_out),
        f"Continue it with: celltune resume {arguments_for(target)}",
    )


def du(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME",
            help="Names of experiments. Default: all of the storage.",
            autocompletion=complete_experiments,
        ),
    ] = None,
    storage: Storage = None,
) -> None:
    """Show how much storage experiments and the cache of this machine use."""
    root = open_storage(storage)
    chosen = [find_experiment(name, root).name for name in dict.fromkeys(names or ())]
    used = {name: housekeeping.usage_of(root.experiment(name)) for name in chosen or root.names()}
    if used:
        make_console().print(_usage_table(used))
    else:
        say(f"{root} contains no experiments.")
    folder = default_cache_dir()
    datasets = cached_datasets(folder)
    say(
        f"Cache {folder}: {counted(len(datasets), 'prepared data set')}, "
        f"{_size(sum(dataset.nbytes for dataset in datasets))}; see celltune cache list."
    )


def _usage_table(used: dict[str, Usage]) -> TextTable:
    ordered = sorted(used.items(), key=lambda item: (-item[1].nbytes, item[0]))
    rows = [
        (name, _size(u.nbytes), f"{len(u.checkpoints):,}", _size(u.checkpoint_bytes))
        for name, u in ordered
    ]
    total = sum(usage.nbytes for usage in used.values())
    checkpoints = sum(len(usage.checkpoints) for usage in used.values())
    checkpoint_bytes = sum(usage.checkpoint_bytes for usage in used.values())
    if len(rows) > 1:
        rows.append(("total", _size(total), f"{checkpoints:,}", _size(checkpoint_bytes)))
    columns = [Column("experiment"), *(Column(title, right=True) for title in _COLUMNS)]
    return TextTable(columns, rows)


_COLUMNS = ("size", "checkpoints", "their size")


def _size(nbytes: int) -> str:
    return f"{nbytes / 1e6:,.1f} MB" if nbytes >= 1e5 else f"{nbytes / 1e3:,.1f} kB"


def logs(
    name: Name,
    trial: Annotated[
        int | None, typer.Option(min=0, help="Number of a trial. Default: all that failed.")
    ] = None,
    storage: Storage = None,
) -> None:
    """Print the failures of trials, lost workers and retries, with their tracebacks."""
    experiment = find_experiment(name, storage)
    snapshot = experiment.snapshot()
    trials = snapshot.state.trials
    if trial is not None and trial >= len(trials):
        last = f"The last one is {len(trials) - 1}." if trials else "It has none yet."
        raise OptionError(f"`trial` is {trial}, but '{experiment.name}' has no such trial. {last}")
    found = failures(snapshot.events, trial)
    if not found:
        subject = f"Trial {trial}" if trial is not None else "No trial"
        verb = (
            "did not fail or lose its worker" if trial is not None else "failed or lost its worker"
        )
        say(f"{subject} of {experiment.name} {verb}.")
        return
    for failure in found:
        at = f"{datetime.fromtimestamp(failure.at).astimezone():%Y-%m-%d %H:%M:%S}"
        say(f"{at} trial {failure.number} {failure.summary}")
        if failure.details:
            say_block(failure.details)
    for number in sorted({failure.number for failure in found}):
        record = trials[number]
        epochs = f"{record.epochs_done} of {counted(record.max_epochs, 'epoch')}"
        say(f"Trial {number} is {record.status} after {epochs}.")


def register(app: typer.Typer) -> None:
    """Add the commands to the command table."""
    for command in (delete, prune, copy, du, logs):
        add_command(app, command)
