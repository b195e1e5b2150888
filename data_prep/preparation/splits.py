"""One deterministic, stratified split into training, validation and, if asked for, test part.

All reviews are put in one order whose every beginning holds the classes in their true shares, up
to less than one review a class. The training part is a beginning of that order and the validation
part an end of it, so both are stratified, a smaller training part lies inside a larger one, and
the validation part doesn't depend on how many reviews are trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.errors import DataError

Indices = NDArray[np.int64]


class SplitIndices(NamedTuple):
    """The indices of each part, in rising order; they share nothing."""

    train: Indices
    valid: Indices
    test: Indices


def stratified_split(
    labels: NDArray[np.int64],
    train_size: int | None,
    valid_size: float,
    seed: int,
    *,
    test_size: float = 0,
    groups: Sequence[str | None] | None = None,
) -> SplitIndices:
    """Chooses what to train on, what to validate on, and what to hold out for the final test.

    Args:
        labels: ``(n,)``, the class of each review.
        train_size: how many reviews to train on; None for all that the others leave.
        valid_size: a count if it is an int, else a share of all n reviews, rounded, at least 1.
        seed: the same labels, groups, sizes and seed give the same split everywhere.
        test_size: as valid_size; 0 holds nothing out.
        groups: of each review; no group stands in two parts. A review without one stands for
            itself. Sizes are kept: what a group has too much for its part is left out.

    Returns:
        The parts. Each class has its share of the training part up to less than one review, and
        of the others up to less than two.

    Raises:
        DataError: reviews of one class only, fewer reviews than the sizes ask for, or groups too
            large to be parted.
    """
    total = len(labels)
    valid, test = _count(valid_size, total), _count(test_size, total) if test_size else 0
    train = total - valid - test if train_size is None else train_size
    classes, counts = np.unique(labels, return_counts=True)
    if len(classes) < 2:
        raise DataError(_one_class(classes, total))
    if train < 1 or train + valid + test > total:
        raise DataError(_too_few(total, train_size, valid, test))
    rng = np.random.default_rng(seed)
    turns = _class_turns(counts.tolist())
    if groups is None:
        order = _mixed_order(labels, classes, turns, rng)
        parts = order[:train], order[total - test - valid : total - test], order[total - test :]
    else:
        ends = (turns[total - test - valid : total - test], turns[total - test :])
        quotas = [np.bincount(end, minlength=len(classes)) for end in ends]
        parts = _grouped(labels, classes, groups, quotas, train_size, rng)
    missing = np.setdiff1d(classes, labels[parts[0]])
    if len(missing):
        raise DataError(
            f"a training part of {train} reviews would hold none of class {missing[0]}, which has "
            f"{counts[classes == missing[0]][0]} of {total} reviews; raise data.train_size, or "
            f"give more reviews"
        )
    return SplitIndices(*map(np.sort, parts))


def _count(size: float, total: int) -> int:
    return size if isinstance(size, int) else max(1, round(size * total))


def _grouped(
    labels: NDArray[np.int64],
    classes: Indices,
    groups: Sequence[str | None],
    quotas: list[Indices],
    train_size: int | None,
    rng: np.random.Generator,
) -> tuple[Indices, Indices, Indices]:
    """Gives groups to validation and test until both have their quota, (classes,) each."""
    members = _members(groups)
    coded = np.searchsorted(classes, labels)
    held = np.array([np.bincount(coded[each], minlength=len(classes)) for each in members])
    free = rng.permutation(len(members)).tolist()
    valid, test = (_take_groups(free, held, quota) for quota in quotas)
    parts = [
        _trimmed(np.concatenate([members[g] for g in taken]) if taken else _NONE, coded, quota, rng)
        for taken, quota in zip((valid, test), quotas, strict=True)
    ]
    rest = np.sort(np.concatenate([members[g] for g in free])) if free else _NONE
    if len(rest) < (train_size or 1):
        raise DataError(
            f"with groups kept together {len(rest)} reviews are left to train on, of "
            f"{train_size or 1} wanted; lower data.train_size, data.valid_size or data.test_size"
        )
    if train_size is not None and len(np.unique(coded[rest])) > 1:
        present, counts = np.unique(coded[rest], return_counts=True)
        turns = _class_turns(counts.tolist())
        rest = rest[_mixed_order(coded[rest], present, turns, rng)[:train_size]]
    return rest[:train_size], parts[0], parts[1]


_NONE = np.empty(0, dtype=np.int64)


def _members(groups: Sequence[str | None]) -> list[Indices]:
    found: dict[object, list[int]] = {}
    for index, group in enumerate(groups):
        found.setdefault((index,) if group is None else group, []).append(index)
    return [np.array(each, dtype=np.int64) for each in found.values()]


def _take_groups(free: list[int], held: Indices, quota: Indices) -> list[int]:
    """Takes groups out of ``free``, first those that fit, then those that overshoot the least."""
    taken: list[int] = []
    have = np.zeros_like(quota)
    for group in list(free):
        if (have < quota).any() and (have + held[group] <= quota).all():
            taken.append(group)
            have = have + held[group]
    left = set(free) - set(taken)
    while (have < quota).any():
        short = have < quota
        useful = [group for group in free if group in left and held[group][short].any()]
        if not useful:
            raise DataError(
                "groups are too large to be parted: none is left for validation or test; lower "
                "data.valid_size or data.test_size, or split without groups"
            )
        best = min(useful, key=lambda g: int(np.maximum(have + held[g] - quota, 0).sum()))
        taken.append(best)
        left.remove(best)
        have = have + held[best]
    free[:] = [group for group in free if group in left]
    return taken


def _trimmed(
    chosen: Indices, coded: NDArray[np.int64], quota: Indices, rng: np.random.Generator
) -> Indices:
    """Leaves of each class as many as its quota."""
    mixed = rng.permutation(np.sort(chosen))
    kept = [mixed[coded[mixed] == index][:most] for index, most in enumerate(quota)]
    return np.concatenate(kept)


def _mixed_order(
    labels: NDArray[np.int64], classes: Indices, turns: Indices, rng: np.random.Generator
) -> Indices:
    order = np.empty(len(labels), dtype=np.int64)
    for index, label in enumerate(classes):
        order[turns == index] = rng.permutation(np.flatnonzero(labels == label))
    return order


def _class_turns(counts: list[int]) -> NDArray[np.int64]:
    """Which class comes next, so that no class is ever a whole review ahead or behind.

    Source: R. Tijdeman, "The chairman assignment problem", Discrete Mathematics 32 (1980). Whole
    numbers throughout: shares and debts are scaled by the total.
    """
    total, slack = sum(counts), 2 * len(counts) - 2
    given = [0] * len(counts)
    turns = np.empty(total, dtype=np.int64)
    for turn in range(1, total + 1):
        due = [turn * count - total * had for count, had in zip(counts, given, strict=True)]
        ready = [index for index, debt in enumerate(due) if slack * debt >= total]
        # Among those who are owed enough, the one whose turn can wait the least.
        chosen = min(ready, key=lambda i: ((slack - 1) * total - slack * due[i]) / counts[i])
        given[chosen] += 1
        turns[turn - 1] = chosen
    return turns


def _one_class(classes: Indices, total: int) -> str:
    held = f"all {total} reviews have class {classes[0]}" if total else "there are no reviews"
    return f"{held}; a classifier needs reviews of at least two classes"


def _too_few(total: int, train_size: int | None, valid: int, test: int) -> str:
    held_out = f" and data.test_size {test}" if test else ""
    if train_size is None:
        wanted = f"data.valid_size takes {valid}{held_out} and leaves none to train on"
    else:
        wanted = f"data.train_size {train_size} and data.valid_size {valid}{held_out} ask for"
        wanted += f" {train_size + valid + test}"
    return f"there are {total} reviews, but {wanted}; lower data.train_size or data.valid_size"
