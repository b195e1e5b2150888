"""Which layers run on the persistent kernels, and what happens if the kernels cannot run."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import torch

from celltune.models.layers.persistent import fitting, selection
from celltune.models.layers.persistent.selection import persistent_loop
from tests.models.layers.test_persistent import BUILTIN_CELLS, DEVICE, launch, make_cell, make_loop

pytestmark = pytest.mark.filterwarnings(
    # The interpreter converts arrays of one element to bounds of loops.
    "ignore:Conversion of an array with ndim > 0 to a scalar:DeprecationWarning"
)


def make_variant(height: int, *, spans: bool = False) -> selection._Variant:
    return selection._Variant("mgu", height, "tf32", spans)


@pytest.mark.parametrize("spans", [False, True])
@pytest.mark.parametrize("cell", BUILTIN_CELLS)
def test_kernels_are_tried_with_the_arguments_of_a_layer(
    cell: str, spans: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[object] = []
    loop = make_loop(make_cell(cell))
    monkeypatch.setattr(loop, "_job", _recorded(loop._job, given))
    selection._try(loop, make_variant(16, spans=spans), DEVICE)
    assert [own is not None for own in given] == [spans, spans]


def _recorded(make_job: Callable[..., object], given: list[object]) -> Callable[..., object]:
    def job(size: int, dtype: torch.dtype, spans: object) -> object:
        assert size == 16
        given.append(spans)
        return make_job(size, dtype, spans)

    return job


def test_kernels_with_and_without_spans_are_tried_separately(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[bool] = []
    monkeypatch.setattr(selection, "_tried", {})
    monkeypatch.setattr(selection, "_try", lambda _, variant, __: tried.append(variant.spans))
    loop = make_loop(make_cell("mgu"))
    for spans in (True, False, True):
        assert selection._runs(make_variant(64, spans=spans), 0, loop)
    assert tried == [True, False]


@pytest.mark.parametrize("name", BUILTIN_CELLS)
def test_weights_fit_without_triton_where_they_fit_with_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell, kernels = make_cell(name), launch.KERNELS[make_cell(name).persistent]
    expected = [
        fitting.product_mode(kernels, size, torch.float32, memory) is not None
        for size in (16, 64, 200)
        for memory in (0, 20_000, 101_376, 232_448)
    ]
    monkeypatch.setattr(selection, "triton_works", lambda: False)
    assert [
        selection.fits_on_chip(cell, size, memory)
        for size in (16, 64, 200)
        for memory in (0, 20_000, 101_376, 232_448)
    ] == expected
    assert set(expected) == {True, False}


def test_no_persistent_loop_on_the_cpu_or_in_float64() -> None:
    cell = make_cell("mgu")
    assert persistent_loop(cell, 16, torch.float32, torch.device("cpu")) is None
    assert persistent_loop(cell, 16, torch.float64, torch.device("cuda", 0)) is None


def fail_to_try(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(selection, "_tried", {})
    monkeypatch.setattr(selection, "_try", fail)


def test_kernels_that_cannot_run_are_reported_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_to_try(monkeypatch, RuntimeError("out of resource: shared memory\ndetails"))
    loop = make_loop(make_cell("mgu"))
    with caplog.at_level(logging.INFO):
        for size in (64, 64, 32):
            assert not selection._runs(make_variant(size), 0, loop)
    texts = {record.levelname: record.getMessage() for record in caplog.records}
    assert len(caplog.records) == 2
    assert texts == {
        level: (
            f"The GPU kernels of the cell 'mgu' with {size} hidden units cannot run here, so its "
            "layers are slower: out of resource: shared memory"
        )
        for level, size in (("WARNING", 64), ("INFO", 32))
    }


def test_kernels_are_tried_again_after_memory_was_exhausted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fail_to_try(monkeypatch, torch.OutOfMemoryError("CUDA out of memory"))
    loop = make_loop(make_cell("mgu"))
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        selection._runs(make_variant(64), 0, loop)
    monkeypatch.setattr(selection, "_try", lambda *_: None)
    assert selection._runs(make_variant(64), 0, loop)


def test_broken_triton_is_reported_and_not_used(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str) -> None:
        raise ImportError("libtriton.so: cannot open shared object file\nmore")

    works = selection.triton_works.__wrapped__
    assert works()
    monkeypatch.setattr(selection.importlib, "import_module", fail)
    with caplog.at_level(logging.WARNING):
        assert not works()
    (record,) = caplog.records
    assert record.getMessage() == (
        "Triton is installed but cannot be imported, so training on a GPU is slower: libtriton.so: "
        "cannot open shared object file"
    )
    monkeypatch.setattr(selection.importlib.util, "find_spec", lambda name: None)
    assert not works()
    assert len(caplog.records) == 1
