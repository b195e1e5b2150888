"""One deterministic, stratified split into a training and a validation part.

All reviews are put in one order whose every beginning holds the classes in their true shares, up
to less than one review a class. The training part is a beginning of that order and the validation
part an end of it, so both are stratified, a smaller training part lies inside a larger one, and
the validation part doesn't depend on how many reviews are trained on.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data_prep.errors import DataError

Indices = NDArray[np.int64]


def split(
    labels: NDArray[np.int64], train_size: int | None, valid_size: float, seed: int
) -> tuple[Indices, Indices]:
    """Chooses what to train on and what to validate on.

    Args:
        labels: ``(n,)``, the class of each review.
        train_size: how many reviews to train on; None for all that validation leaves.
        valid_size: a count if it is an int, else a share of all n reviews, rounded, at least 1.
        seed: the same labels, sizes and seed give the same split everywhere.

    Returns:
        The indices of both parts, ``(train,)`` and ``(valid,)``, each in rising order; they
        share nothing. Each class has its share of each part up to less than one review.

    Raises:
        DataError: reviews of one class only, or fewer reviews than the sizes ask for.
    """
    total = len(labels)
    valid = valid_size if isinstance(valid_size, int) else max(1, round(valid_size * total))
    train = total - valid if train_size is None else train_size
    classes, counts = np.unique(labels, return_counts=True)
    if len(classes) < 2:
        raise DataError(_one_class(classes, total))
    if train < 1 or train + valid > total:
        raise DataError(_too_few(total, train_size, valid))
    order = _mixed_order(labels, classes, counts, np.random.default_rng(seed))
    chosen = order[:train]
    missing = np.setdiff1d(classes, labels[chosen])
    if len(missing):
        raise DataError(
            f"a training part of {train} reviews would hold none of class {missing[0]}, which has "
            f"{counts[classes == missing[0]][0]} of {total} reviews; raise data.train_size"
        )
    return np.sort(chosen), np.sort(order[total - valid :])


def _mixed_order(
    labels: NDArray[np.int64], classes: Indices, counts: Indices, rng: np.random.Generator
) -> Indices:
    turns = _class_turns(counts.tolist())
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


def _too_few(total: int, train_size: int | None, valid: int) -> str:
    if train_size is None:
        wanted = f"data.valid_size takes {valid} and leaves none to train on"
    else:
        wanted = f"data.train_size {train_size} and data.valid_size {valid} ask for"
        wanted += f" {train_size + valid}"
    return f"there are {total} reviews, but {wanted}; lower data.train_size or data.valid_size"
