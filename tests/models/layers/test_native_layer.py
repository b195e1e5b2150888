"""The native loops: loading, agreement with PyTorch, and special values."""

from __future__ import annotations

import ctypes
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from celltune.data_prep.io import native_build
from celltune.models.extensions import CELLS
from celltune.models.layers.base import Recurrence
from celltune.models.layers.cells import GruCell, RnnCell
from celltune.models.layers.native_layer import _Job, _Sums
from celltune.models.layers.stack import RecurrentStack
from celltune.models.native import library as native
from celltune.models.training.lazy_rows import _Rows

COMPILER = any(shutil.which(name) for name in native_build.COMPILERS)


@pytest.fixture
def empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """An empty cache, in which nothing has been compiled; returns its folder."""
    monkeypatch.setenv("CELLTUNE_CACHE", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    native._library.cache_clear()
    yield native_build.libraries_dir()
    native._library.cache_clear()


def fake_compiler(folder: Path, script: str) -> str:
    path = folder / "fake-c++"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_recurrences_have_the_order_of_the_enum_in_the_header() -> None:
    source = native.HEADERS[0].read_text()
    names = source.split("enum {")[1].split("}")[0].replace(" ", "").split(",")
    assert [recurrence.name for recurrence in Recurrence] == names
    assert list(Recurrence) == list(range(len(names)))


def test_every_built_in_cell_has_a_native_implementation() -> None:
    cells = [*(CELLS.load(name)() for name in CELLS.names()), RnnCell("relu")]
    assert {cell.native.recurrence for cell in cells} == set(Recurrence)


@pytest.mark.parametrize(
    ("source", "name", "structure"), [(0, "Job", _Job), (1, "Rows", _Rows), (2, "Sums", _Sums)]
)
def test_structure_has_the_fields_of_the_source_in_their_order(
    source: int, name: str, structure: type[ctypes.Structure]
) -> None:
    body = native.SOURCES[source].read_text().split(f"struct {name} {{")[1].split("};")[0]
    lines = [line.split("//")[0].strip() for line in body.splitlines()]
    names = [
        field.strip(" *")
        for line in lines
        if line
        for field in line.rstrip(";").replace("const ", "").split(" ", 1)[1].split(",")
    ]
    assert names == [name for name, *_ in structure._fields_]


@pytest.mark.skipif(not COMPILER, reason="no C++ compiler")
def test_library_is_compiled_once_and_cached(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert native.available()
    (library,) = empty_cache.iterdir()
    native._library.cache_clear()
    monkeypatch.setattr(native_build.NativeCode, "_compile", None)
    assert native.available()
    assert list(empty_cache.iterdir()) == [library]


def test_layers_run_on_pytorch_without_a_compiler(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native_build, "COMPILERS", ("no-such-compiler",))
    assert not native.available()
    stack = RecurrentStack(GruCell(), 3, 2, generator=torch.Generator())
    assert stack(torch.zeros(4, 3, 5), None).shape == (4, 2, 5)
    assert not empty_cache.exists()


def test_environment_variable_disables_native_loops(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELLTUNE_NATIVE", "0")
    assert not native.available()
    assert not empty_cache.exists()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo no such flag >&2; exit 1", "cannot compile it: no such flag"),
        ('for last; do :; done; echo not a library > "$last"', "is unavailable"),
    ],
)
def test_failing_compiler_is_logged(
    empty_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    script: str,
    message: str,
) -> None:
    monkeypatch.setenv("CXX", fake_compiler(empty_cache.parent, script))
    with caplog.at_level(logging.WARNING):
        assert not native.available()
    assert message in caplog.text


def test_function_needs_a_library(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLTUNE_NATIVE", "0")
    with pytest.raises(RuntimeError, match="The native function 'forward' is not available"):
        native.function("forward", torch.float32)


def test_disabled_applies_only_inside_its_context() -> None:
    before = native.available()
    with native.disabled():
        assert not native.available()
    assert native.available() == before


@pytest.mark.skipif(not native.available(), reason="no C++ compiler")
@pytest.mark.parametrize("cell", CELLS.names())
@pytest.mark.parametrize(("hidden", "documents"), [(1, 90), (16, 90), (37, 90), (37, 1)])
def test_native_and_fallback_agree(cell: str, hidden: int, documents: int) -> None:
    """Sizes that are no multiple of a vector, several panels, several threads, one document."""
    stack = RecurrentStack(
        CELLS.load(cell)(),
        5,
        hidden,
        generator=torch.Generator().manual_seed(1),
        bidirectional=True,
    )
    lengths = (torch.arange(documents) + 3) % 7 + 1
    mask = (torch.arange(7)[:, None] < lengths)[:, None]
    drawn = torch.randn(7, 5, documents, generator=torch.Generator().manual_seed(2))
    inputs = drawn.requires_grad_()
    sources = [inputs, *stack.parameters()]

    def gradients() -> tuple[torch.Tensor, ...]:
        states = stack(inputs, mask).masked_fill(~mask, 0)
        return states, *torch.autograd.grad(states.pow(2).mean(), sources)

    with native.disabled():
        expected = gradients()
    torch.set_num_threads(3)
    for actual, wanted in zip(gradients(), expected, strict=True):
        torch.testing.assert_close(actual, wanted, rtol=1e-5, atol=2e-6)


def test_cell_without_native_code_runs_on_its_loop() -> None:
    class LoopOnlyCell(GruCell):
        native = None

    inputs = torch.randn(7, 5, 3, generator=torch.Generator().manual_seed(2))
    states = [
        RecurrentStack(cell, 5, 4, generator=torch.Generator().manual_seed(1))(inputs, None)
        for cell in (GruCell(), LoopOnlyCell())
    ]
    torch.testing.assert_close(states[1], states[0])


@pytest.mark.skipif(not native.available(), reason="no C++ compiler")
@pytest.mark.parametrize("cell", CELLS.names())
def test_nan_is_propagated(cell: str) -> None:
    stack = RecurrentStack(CELLS.load(cell)(), 2, 3, generator=torch.Generator().manual_seed(1))
    inputs = torch.zeros(3, 2, 2)
    inputs[1, 0, 1] = torch.nan
    states = stack(inputs, None)
    assert states[:, :, 0].isfinite().all()
    assert states[1:, :, 1].isnan().all()


@pytest.mark.skipif(not native.available(), reason="no C++ compiler")
def test_tanh_equals_that_of_pytorch_over_the_whole_range() -> None:
    """An RNN with input weight 1 and all other weights 0 computes tanh."""
    stack = RecurrentStack(RnnCell(), 1, 1, generator=torch.Generator())
    with torch.no_grad():
        for name, values in stack.named_parameters():
            values.fill_(1.0 if name == "weight_ih_l0" else 0.0)
    small = torch.logspace(-8, 2, 2000)
    values = torch.cat([-small, small, torch.tensor([0.0, 1e4, -1e4])])
    states = stack(values[None, None], None)[0, 0]
    torch.testing.assert_close(states, torch.tanh(values), rtol=1e-6, atol=0)
