from __future__ import annotations

import numpy as np

from celltune.search.evaluation.class_table import class_table


def test_scores_of_classes_and_their_usual_mistakes() -> None:
    record = {
        "classes": ["a", "b", "c"],
        "seeds": [1, 2],
        "test_confusion": [[8, 2, 0], [0, 6, 0], [1, 3, 0]],
    }
    assert class_table(record).rows == [
        ["a", "5", "88.9 %", "80.0 %", "84.2 %", "b (20.0 %)"],
        ["b", "3", "54.5 %", "100.0 %", "70.6 %", "-"],
        ["c", "2", "0.0 %", "0.0 %", "0.0 %", "b (75.0 %)"],
    ]


def test_of_many_classes_the_worst_are_shown() -> None:
    matrix = np.diag(np.arange(40))
    matrix[:, 0] += 5
    record = {
        "classes": [f"class {index}" for index in range(40)],
        "seeds": [],
        "test_confusion": matrix.tolist(),
    }
    rows = class_table(record).rows
    assert len(rows) == 30
    assert [row[0] for row in rows[:3]] == ["class 0", "class 1", "class 2"]
