"""Fits the wide part to the documents of a data set, and adds its outputs to the splits."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from celltune.data_prep.config import DataConfig
from celltune.data_prep.dataset.tensorized import PreparedData, PreparedTest
from celltune.data_prep.preparation.duplicates import SplitDocuments
from celltune.data_prep.sources.base import Document
from celltune.data_prep.types import JSON, Progress
from celltune.data_prep.wide.fit import LabelledTexts, WideFitter
from celltune.data_prep.wide_config import WideConfig


class WidePart:
    """The wide part of a data set.

    Args:
        config: the data set; `wide` is set.
        settings: `config.wide`.
        classes: number of classes.
        progress: see `celltune.data_prep.preparation.pipeline.prepare`.
    """

    def __init__(
        self, config: DataConfig, settings: WideConfig, classes: int, progress: Progress | None
    ) -> None:
        self._has_groups = config.groups is not None or config.group_column is not None
        self._fitter = WideFitter(settings, classes, config.seed)
        self._progress = progress

    def add(self, data: PreparedData, documents: SplitDocuments) -> PreparedData:
        """Fit the wide part, and return the data with it and its outputs.

        Raises:
            DataError: the wide part cannot be fitted to the documents.
        """
        started = time.perf_counter()
        fitted = self._fitter.fit(
            self._texts(documents.train), self._texts(documents.valid), self._report
        )
        seconds = round(time.perf_counter() - started, 3)
        return replace(
            data,
            train=replace(data.train, wide=fitted.train),
            valid=replace(data.valid, wide=fitted.valid),
            wide=fitted.model,
            info={**data.info, "wide": {**fitted.info, "seconds": seconds}},
        )

    def add_test(
        self, test: PreparedTest, data: PreparedData, documents: SplitDocuments
    ) -> PreparedTest:
        """Return the test split with the outputs of the wide part of `data`.

        A second wide part with the same penalty is fitted to the training and the validation split.
        `info` contains the time for a document and that of the second fit.

        Raises:
            DataError: the wide part cannot be fitted to the documents.
        """
        if data.wide is None:
            raise ValueError(f"The data {data.fingerprint} have no wide part.")
        texts = [document.text for document in documents.test]
        both = self._texts([*documents.train, *documents.valid])
        data.wide.logits(texts[:1])  # The first call also builds tables.
        started = time.perf_counter()
        outputs = data.wide.logits(texts)
        predicted = time.perf_counter()
        refitted = self._fitter.refit(both, _penalty(data))
        costs: dict[str, JSON] = {
            "milliseconds": round(1e3 * (predicted - started) / len(texts), 6),
            "train_valid_seconds": round(time.perf_counter() - predicted, 3),
        }
        return replace(
            test,
            split=replace(test.split, wide=outputs),
            wide_train_valid=refitted.logits(texts),
            info={**test.info, "wide": costs},
        )

    def _texts(self, documents: Sequence[Document]) -> LabelledTexts:
        return LabelledTexts(
            [document.text for document in documents],
            np.array([document.label for document in documents], np.int64),
            [document.group if self._has_groups else None for document in documents],
        )

    def _report(self, done: int, total: int) -> None:
        if self._progress:
            self._progress("wide", done, total)


def _penalty(data: PreparedData) -> float:
    return cast("dict[str, float]", data.info["wide"])["penalty"]
