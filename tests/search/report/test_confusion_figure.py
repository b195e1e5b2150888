from __future__ import annotations

import numpy as np

from celltune.search.report.confusion_figure import MOST_LABELLED, confusion_heatmap


def test_cells_have_counts_and_shares_and_their_text_precision_and_recall() -> None:
    figure = confusion_heatmap(np.array([[30, 10], [0, 0]]), ["bad", "good"])
    (trace,) = figure.data
    assert [list(row) for row in trace.z] == [[0.75, 0.25], [0.0, 0.0]]
    assert [list(row) for row in trace.text] == [["30\n75 %", "10\n25 %"], ["0\n0 %", "0\n0 %"]]
    assert trace.customdata[0][1] == (
        "true bad, predicted good: 10\nrecall of bad 75.0 %\nprecision of good 0.0 %"
    )
    assert list(figure.layout.xaxis.ticktext) == ["bad", "good"]
    assert figure.layout.yaxis.autorange == "reversed"


def test_many_classes_have_no_text_in_their_cells_and_equal_names_stay_apart() -> None:
    count = MOST_LABELLED + 1
    figure = confusion_heatmap(np.eye(count, dtype=int), ["a very long name " * 9] * count)
    (trace,) = figure.data
    assert trace.text is None
    assert list(trace.x) == list(range(count))
    assert {len(name) for name in figure.layout.xaxis.ticktext} == {30}
    assert figure.layout.height == 900
