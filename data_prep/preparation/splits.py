"""A deterministic, stratified split into training, validation and, optionally, test documents.

All documents are put in one order in which every prefix contains the classes in their true
proportions, up to less than one document per class. The training split is a prefix of this order
and the validation split is taken from its end. Therefore both are stratified, a smaller training
split is a subset of a larger one, and the validation split does not depend on the size of the
training split. If every class shall have a least number of documents in each split, documents of
other classes then exchange their places with those of the class.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.errors import DataError
from celltune.printable import quoted

Indices = NDArray[np.int64]

_NO_INDICES = np.empty(0, dtype=np.int64)
_FRACTION = 64
"""Bits after the point of a deadline: those of different ones differ with up to 2**32 documents."""


class SplitIndices(NamedTuple):
    """Indices of the documents of each split, in ascending order; the splits are disjoint."""

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
    min_per_class: int = 0,
    names: Sequence[str] | None = None,
) -> SplitIndices:
    """Split documents into training, validation and test split.

    Args:
        labels: `(n,)` class of each document.
        train_size: number of training documents; None for all that the other splits leave.
        valid_size: a number of documents if it is an int, else a share of all n documents, which
            is rounded and gives at least 1; 0 for no validation split.
        seed: equal labels, groups, sizes and seed give the same split on every machine.
        test_size: as `valid_size`; 0 for no test split.
        groups: `(n,)` group of each document; no group is in two splits. A document without a
            group is a group of its own. The sizes of the splits are exact: surplus documents of a
            group are left out.
        min_per_class: least number of documents of each class in the validation and the test
            split, as far as the class and the split have enough; one remains for training.
        names: name of each class, for messages; None for its number.

    Returns:
        Splits in which each class has its proportion, up to less than one document in the training
        split and less than two in the others, or its least number of documents.

    Raises:
        DataError: there is only one class, there are fewer documents than requested, or the groups
            are too large.
    """
    total = len(labels)
    valid, test = _count(valid_size, total), _count(test_size, total)
    train = total - valid - test if train_size is None else train_size
    classes, counts = np.unique(labels, return_counts=True)
    if len(classes) < 2:
        raise DataError(_too_few_classes(classes, total))
    if train < 1 or train + valid + test > total:
        raise DataError(_too_few_documents(total, train_size, valid, test))
    rng = np.random.default_rng(seed)
    turns = _class_turns(counts.tolist())
    if min_per_class:
        _exchange(turns, counts, (train, valid, test), min_per_class)
    if groups is None:
        order = _stratified_order(labels, classes, turns, rng)
        splits = order[:train], order[total - test - valid : total - test], order[total - test :]
    else:
        ends = (turns[total - test - valid : total - test], turns[total - test :])
        quotas = [np.bincount(end, minlength=len(classes)) for end in ends]
        splits = _split_groups(labels, classes, groups, quotas, train_size, rng)
    missing = np.setdiff1d(classes, labels[splits[0]])
    if len(missing):
        fix = (
            f"Reduce {_size_keys(None, valid, test)}"
            if train_size is None
            else "Increase data.train_size"
        )
        raise DataError(
            f"A training split of {train} documents would contain none of class "
            f"{missing[0] if names is None else quoted(names[missing[0]])}, "
            f"which has {counts[classes == missing[0]][0]} of {total} documents. {fix}, "
            f"or provide more documents."
        )
    return SplitIndices(*map(np.sort, splits))


def _count(size: float, total: int) -> int:
    return size if isinstance(size, int) else max(1, round(size * total))


def _exchange(
    turns: NDArray[np.int64], counts: Indices, sizes: tuple[int, int, int], least: int
) -> None:
    """Exchange turns, in place, until each class has its least number in each split if possible.

    Classes with many documents come first, so that a split that is too small for all classes
    contains the more frequent ones.

    Args:
        turns: `(n,)` sequence of classes, from which the splits are taken.
        counts: `(c,)` number of documents of each class.
        sizes: of the training, the validation and the test split.
        least: number of documents of each class in the validation and the test split.
    """
    train, valid, test = sizes
    total = len(turns)
    # Between training and validation are the documents that no split takes.
    bounds = [0, train, total - test - valid, total - test, total]
    parts = list(pairwise(bounds))
    tallies = np.array([np.bincount(turns[a:b], minlength=len(counts)) for a, b in parts])
    needs = np.zeros_like(tallies)
    available = counts.copy()
    for part, number in ((0, 1), (2, least), (3, least)):
        needs[part] = np.minimum(number, available) if parts[part][1] > parts[part][0] else 0
        available -= needs[part]
    for label in np.argsort(-counts, kind="stable"):
        for part in (0, 2, 3):
            while tallies[part, label] < needs[part, label]:
                surplus = tallies - needs
                giver, taken = int(surplus[:, label].argmax()), int(surplus[part].argmax())
                if surplus[giver, label] < 1 or surplus[part, taken] < 1:
                    break
                _swap(turns, (parts[giver], label), (parts[part], taken))
                tallies[giver, label] -= 1
                tallies[giver, taken] += 1
                tallies[part, taken] -= 1
                tallies[part, label] += 1


def _swap(turns: NDArray[np.int64], *places: tuple[tuple[int, int], int]) -> None:
    """Exchange the last turns of two classes, each in a part of the sequence."""
    one, other = (
        begin + int(np.flatnonzero(turns[begin:end] == label)[-1]) for (begin, end), label in places
    )
    turns[[one, other]] = turns[[other, one]]


def _split_groups(
    labels: NDArray[np.int64],
    classes: Indices,
    groups: Sequence[str | None],
    quotas: list[Indices],
    train_size: int | None,
    rng: np.random.Generator,
) -> tuple[Indices, Indices, Indices]:
    """Assign groups to validation and test until both have their quota; train on the rest.

    Args:
        labels: `(n,)` class of each document.
        classes: `(c,)` distinct labels.
        groups: `(n,)` group of each document.
        quotas: `(c,)` number of documents of each class, for validation and for test.
        train_size: number of training documents, or None for all that are left.
        rng: decides the order of the groups.
    """
    members = _members(groups)
    class_indices = np.searchsorted(classes, labels)
    group_counts = np.array(
        [np.bincount(class_indices[member], minlength=len(classes)) for member in members]
    )
    free = rng.permutation(len(members)).tolist()
    valid_groups, test_groups = (
        _take_groups(free, group_counts, quota, size_keys)
        for quota, size_keys in zip(
            quotas, (("data.valid_size",), ("data.valid_size", "data.test_size")), strict=True
        )
    )
    valid, test = (
        _trim(
            np.concatenate([members[group] for group in taken]) if taken else _NO_INDICES,
            class_indices,
            quota,
            rng,
        )
        for taken, quota in zip((valid_groups, test_groups), quotas, strict=True)
    )
    rest = np.sort(np.concatenate([members[group] for group in free])) if free else _NO_INDICES
    if len(rest) < (train_size or 1):
        raise DataError(
            f"If no group is in two splits, {len(rest)} documents are left to train on, but "
            f"{train_size or 1} are needed. Reduce "
            f"{_size_keys(train_size, *(int(quota.sum()) for quota in quotas))}."
        )
    if train_size is not None and len(np.unique(class_indices[rest])) > 1:
        present, counts = np.unique(class_indices[rest], return_counts=True)
        turns = _class_turns(counts.tolist())
        order = _stratified_order(class_indices[rest], present, turns, rng)
        rest = rest[order[:train_size]]
    return rest[:train_size], valid, test


def _members(groups: Sequence[str | None]) -> list[Indices]:
    """Return the documents of each group, in the order of their first occurrence."""
    members: dict[object, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault((index,) if group is None else group, []).append(index)
    return [np.array(indices, dtype=np.int64) for indices in members.values()]


def _take_groups(
    free: list[int], group_counts: Indices, quota: Indices, size_keys: Sequence[str]
) -> list[int]:
    """Remove groups from `free` until they fill the quota, and return them.

    Groups that fit are taken first, then those that exceed the quota the least.

    Args:
        free: groups that are in no split yet.
        group_counts: `(groups, c)` number of documents of each class.
        quota: `(c,)` number of documents of each class that the split needs.
        size_keys: the config keys that determine what is left, for the message; the last one is
            the key of this split.

    Raises:
        DataError: the free groups cannot fill the quota.
    """
    taken: list[int] = []
    filled = np.zeros_like(quota)
    for group in free:
        if (filled < quota).any() and (filled + group_counts[group] <= quota).all():
            taken.append(group)
            filled = filled + group_counts[group]
    left = set(free) - set(taken)
    while (filled < quota).any():
        short = filled < quota
        useful = [group for group in free if group in left and group_counts[group][short].any()]
        if not useful:
            raise DataError(
                f"The groups are too large: too few are left for {size_keys[-1]}. Reduce "
                f"{' or '.join(size_keys)}, or split without groups."
            )
        best = min(
            useful,
            key=lambda group: int(np.maximum(filled + group_counts[group] - quota, 0).sum()),
        )
        taken.append(best)
        left.remove(best)
        filled = filled + group_counts[best]
    free[:] = [group for group in free if group in left]
    return taken


def _trim(
    indices: Indices, class_indices: NDArray[np.int64], quota: Indices, rng: np.random.Generator
) -> Indices:
    """Keep a random selection of each class that has the size of its quota."""
    shuffled = rng.permutation(np.sort(indices))
    by_class = [
        shuffled[class_indices[shuffled] == index][:size] for index, size in enumerate(quota)
    ]
    return np.concatenate(by_class)


def _stratified_order(
    labels: NDArray[np.int64], classes: Indices, turns: Indices, rng: np.random.Generator
) -> Indices:
    """Shuffle each class, and arrange the documents so that the classes follow `turns`."""
    order = np.empty(len(labels), dtype=np.int64)
    for index, label in enumerate(classes):
        order[turns == index] = rng.permutation(np.flatnonzero(labels == label))
    return order


def _class_turns(counts: list[int]) -> NDArray[np.int64]:
    """Return a sequence of classes whose prefixes deviate from the proportions by less than one.

    Source: R. Tijdeman, "The chairman assignment problem", Discrete Mathematics 32 (1980). All
    quantities are scaled by the total, so that they are integers.

    Args:
        counts: number of documents of each class.
    """
    total, slack = sum(counts), 2 * len(counts) - 2
    turns = np.empty(total, dtype=np.int64)
    # A turn of a class can be taken from its release on. Of those that can, the one with the
    # earliest deadline is taken. Both are scaled by `slack * count / total`, up to the same shift.
    waiting = [(_release(0, count, total, slack), index, 0) for index, count in enumerate(counts)]
    heapq.heapify(waiting)
    ready: list[tuple[int, int, int]] = []
    for turn in range(1, total + 1):
        while waiting and waiting[0][0] <= turn:
            _, index, done = heapq.heappop(waiting)
            deadline = ((slack - 1 + slack * done) << _FRACTION) // counts[index]
            heapq.heappush(ready, (deadline, index, done))
        _, index, done = heapq.heappop(ready)
        turns[turn - 1] = index
        if done + 1 < counts[index]:
            release = _release(done + 1, counts[index], total, slack)
            heapq.heappush(waiting, (release, index, done + 1))
    return turns


def _release(done: int, count: int, total: int, slack: int) -> int:
    """Return the first turn that a class may take after it took `done` turns."""
    return -(-total * (1 + slack * done) // (slack * count))


def _too_few_classes(classes: Indices, total: int) -> str:
    reason = (
        f"All {total} documents are of class {classes[0]}" if total else "There are no documents"
    )
    return f"{reason}. A classifier needs documents of at least two classes."


def _too_few_documents(total: int, train_size: int | None, valid: int, test: int) -> str:
    sizes = {"data.valid_size": valid, "data.test_size": test}
    held_out = [f"{key} takes {size}" for key, size in sizes.items() if size]
    if train_size is None:
        reason = f"{' and '.join(held_out)}, which leaves none to train on"
    else:
        given = [f"{key} {size}" for key, size in sizes.items() if size]
        reason = (
            f"{' and '.join([f'data.train_size {train_size}', *given])} need "
            f"{train_size + valid + test}"
        )
    return (
        f"There are {total} documents, but {reason}. Reduce {_size_keys(train_size, valid, test)}."
    )


def _size_keys(train_size: int | None, valid: int, test: int) -> str:
    """Return the keys whose sizes can be reduced; those of sizes that are 0 or None cannot."""
    sizes = {"data.train_size": train_size, "data.valid_size": valid, "data.test_size": test}
    keys = [key for key, size in sizes.items() if size]
    return " or ".join(filter(None, [", ".join(keys[:-1]), keys[-1]]))
