"""The table of scores that do not depend on how frequent the classes are."""

from __future__ import annotations

import pytest

from celltune.search.evaluation.other_scores import other_scores_table, scores_note

SCORE = {"mean": 0.5, "low": 0.4, "high": 0.6}


@pytest.mark.parametrize("auroc", [SCORE, None])
def test_the_note_explains_the_columns_that_are_shown(auroc: dict[str, float] | None) -> None:
    record = {
        "name": "trial 0",
        "on": "train",
        "test_macro_f1": SCORE,
        "test_balanced_accuracy": SCORE,
        "test_auroc": auroc,
        "test_ece": None,
        "test_uncalibrated_ece": None,
    }
    titles = [column.title for column in other_scores_table([record]).columns]
    note = scores_note([record])
    assert ("AUROC" in titles) is ("AUROC" in note) is (auroc is not None)
    assert note.startswith("Macro-F1 is the mean F1 of the classes")
    assert note.endswith(".")
