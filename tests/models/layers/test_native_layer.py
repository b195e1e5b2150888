from __future__ import annotations

import ctypes
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from celltune.data_prep.io import native_build as compiling
from celltune.models.layers.cells import CELLS
from celltune.models.layers.native_layer import NATIVE, _Job, _Sums
from celltune.models.layers.stack import RecurrentStack
from celltune.models.native import library as native
from celltune.models.training.lazy_rows import _Rows

COMPILER = any(shutil.which(name) for name in compiling.COMPILERS)


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A machine that has compiled nothing yet; gives its cache folder."""
    monkeypatch.setenv("CELLTUNE_CACHE", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    native._library.cache_clear()
    yield tmp_path / "native"
    native._library.cache_clear()


def fake_compiler(folder: Path, script: str) -> str:
    path = folder / "fake-c++"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_every_recurrence_is_known_by_its_place_in_the_source() -> None:
    source = native.SOURCES[0].read_text()
    names = source.split("enum {")[1].split("}")[0].lower().replace(" ", "").split(",")
    assert [{"rnn": "rnn_tanh"}.get(name, name) for name in NATIVE] == names
    assert [cell.code for cell in NATIVE.values()] == list(range(len(NATIVE)))
    assert {cell.native for cell in CELLS.values()} <= set(NATIVE)


@pytest.mark.parametrize(
    ("source", "name", "structure"), [(0, "Job", _Job), (1, "Rows", _Rows), (2, "Sums", _Sums)]
)
def test_a_job_has_the_fields_of_the_source_in_their_order(
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


@pytest.mark.skipif(not COMPILER, reason="no C++ compiler here")
def test_the_library_is_compiled_once_and_kept(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert native.available()
    (library,) = fresh.iterdir()
    native._library.cache_clear()
    monkeypatch.setattr(compiling.NativeCode, "_compile", None)
    assert native.available()
    assert list(fresh.iterdir()) == [library]


def test_without_a_compiler_torchs_operations_run(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "COMPILERS", ("no-such-compiler",))
    assert not native.available()
    stack = RecurrentStack("gru", 3, 2, generator=torch.Generator())
    assert stack(torch.zeros(4, 3, 5), None).shape == (4, 2, 5)
    assert not fresh.exists()


def test_it_can_be_switched_off(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLTUNE_NATIVE", "0")
    assert not native.available()
    assert not fresh.exists()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo no such flag >&2; exit 1", "cannot compile it: no such flag"),
        ('for last; do :; done; echo not a library > "$last"', "is unavailable"),
    ],
)
def test_a_compiler_that_fails_is_told_and_done_without(
    fresh: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    script: str,
    message: str,
) -> None:
    monkeypatch.setenv("CXX", fake_compiler(fresh.parent, script))
    with caplog.at_level(logging.WARNING):
        assert not native.available()
    assert message in caplog.text


def test_a_function_without_a_library_is_an_error(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELLTUNE_NATIVE", "0")
    with pytest.raises(RuntimeError, match=r"'forward' was asked for without a library"):
        native.function("forward", torch.float32)


def test_disabled_ends_with_its_block() -> None:
    before = native.available()
    with native.disabled():
        assert not native.available()
    assert native.available() == before


@pytest.mark.skipif(not native.available(), reason="no C++ compiler here")
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("hidden", [1, 16, 37])
def test_native_and_fallback_agree(cell: str, hidden: int) -> None:
    """Odd sizes of everything, several panels and threads."""
    stack = RecurrentStack(
        cell, 5, hidden, generator=torch.Generator().manual_seed(1), bidirectional=True
    )
    lengths = torch.arange(90) % 7 + 1
    real = (torch.arange(7)[:, None] < lengths)[:, None]
    inputs = torch.randn(7, 5, 90, generator=torch.Generator().manual_seed(2), requires_grad=True)
    sources = [inputs, *stack.parameters()]

    def gradients() -> tuple[torch.Tensor, ...]:
        states = stack(inputs, real).masked_fill(~real, 0)
        return states, *torch.autograd.grad(states.pow(2).mean(), sources)

    with native.disabled():
        expected = gradients()
    torch.set_num_threads(3)
    for got, wanted in zip(gradients(), expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=2e-6)


@pytest.mark.skipif(not native.available(), reason="no C++ compiler here")
@pytest.mark.parametrize("cell", CELLS)
def test_a_number_that_is_none_comes_through(cell: str) -> None:
    stack = RecurrentStack(cell, 2, 3, generator=torch.Generator().manual_seed(1))
    inputs = torch.zeros(3, 2, 2)
    inputs[1, 0, 1] = torch.nan
    states = stack(inputs, None)
    assert states[:, :, 0].isfinite().all()
    assert states[1:, :, 1].isnan().all()


@pytest.mark.skipif(not native.available(), reason="no C++ compiler here")
def test_the_curves_are_torchs_over_the_whole_range() -> None:
    """A tanh layer with weights of 1 and 0 is tanh itself; an lstm's gates show the sigmoid."""
    stack = RecurrentStack("rnn", 1, 1, generator=torch.Generator())
    with torch.no_grad():
        for name, values in stack.named_parameters():
            values.fill_(1.0 if name == "weight_ih_l0" else 0.0)
    small = torch.logspace(-8, 2, 2000)
    values = torch.cat([-small, small, torch.tensor([0.0, 1e4, -1e4])])
    got = stack(values[None, None], None)[0, 0]
    torch.testing.assert_close(got, torch.tanh(values), rtol=1e-6, atol=0)
