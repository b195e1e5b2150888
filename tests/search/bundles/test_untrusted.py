"""Bundles from someone else: every change is used as it is, or is an error of one sentence.

All checksums are valid: an attacker computes them, too.
"""

from __future__ import annotations

import json
import os
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celltune.errors import InputError
from celltune.models.config import ModelConfig
from celltune.models.network.classifier import TextClassifier
from celltune.search.bundles import bundle
from celltune.search.bundles.bundle_reading import load_bundle, load_classifier_of
from celltune.search.bundles.diagram import diagram
from celltune.search.bundles.ensemble_export import export_ensemble
from celltune.search.bundles.export import export, load_model
from celltune.search.bundles.linear import export_linear
from celltune.search.errors import ModelError
from tests.search.bundles.forgery import (
    CLASSES,
    KINDS,
    arrays_in,
    change_config,
    change_manifest,
    replace_arrays,
    replace_file,
    write_one,
)
from tests.search.bundles.test_wide import WORDS

TEXTS = ["good film .", "bad"]
quickly = settings(max_examples=25, derandomize=True, deadline=None)


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    return {kind: write_one(folder / kind, kind) for kind in KINDS}


@pytest.fixture
def copy(originals: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    def copied(kind: str) -> Path:
        target = tmp_path / kind
        shutil.rmtree(target, ignore_errors=True)
        return shutil.copytree(originals[kind], target)

    return copied


def assert_usable_or_rejected(folder: Path) -> None:
    """Load, predict and explain: finite probabilities of all classes, or one sentence."""
    tracemalloc.start()
    try:
        model = load_bundle(folder)
        for prediction in model.predict(TEXTS):
            values = list(prediction.probabilities.values())
            if prediction.note:
                assert (prediction.label, values) == (None, [])
                continue
            assert len(values) == len(model.classes)
            assert np.isclose(sum(values), 1, atol=1e-3)
            assert min(values) >= 0
        model.explain(TEXTS[0])
    except InputError as error:
        message = str(error)
        assert len(message) < 1_500
        assert message.replace(str(folder), "").isprintable()
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 64 << 20


@pytest.mark.parametrize("kind", KINDS)
def test_unchanged_bundles_are_usable(originals: dict[str, Path], kind: str) -> None:
    model = load_bundle(originals[kind])
    assert [prediction.label in CLASSES for prediction in model.predict(TEXTS)] == [True, True]


NUMBERS = [-1, 0, 1, 2, 10**9, 10**30, -0.5, 0.5, 1e300]
STRINGS = ["", "x", "gru", "only", "add", "\x1b[31m\n", "\ud800", "x" * 100_000]
OTHERS = [None, True, [], ["a"], ["a", "a"], ["", "b"], {}, {"a": 1}]
HOSTILE = st.sampled_from([*NUMBERS, *STRINGS, *OTHERS])


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all values in nested JSON."""
    items: Any = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, list) else items
    inner = [place for key, child in items for place in places(child, (*path, key))]
    return [*([path] if path else []), *inner]


def changed_json(content: bytes, data: st.DataObject) -> bytes:
    """Replace, remove or repeat one value of a JSON document."""
    document = json.loads(content)
    *parents, last = data.draw(st.sampled_from(places(document)))
    inner = document
    for key in parents:
        inner = inner[key]
    action = data.draw(st.sampled_from(["replace", "replace", "remove", "repeat"]))
    if action == "remove":
        del inner[last]
    elif action == "repeat" and isinstance(inner, list):
        inner.append(inner[last])
    else:
        inner[last] = data.draw(HOSTILE)
    return json.dumps(document).encode()


@pytest.mark.parametrize("kind", ["recurrent", "ensemble", "linear"])
def test_changed_json(kind: str, copy: Callable[[str], Path]) -> None:
    @quickly
    @given(data=st.data())
    def check(data: st.DataObject) -> None:
        folder = copy(kind)
        name = data.draw(st.sampled_from(["config.json", "vocabulary.json", "manifest.json"]))
        changed = changed_json((folder / name).read_bytes(), data)
        if name == "manifest.json":
            (folder / name).write_bytes(changed)
        else:
            replace_file(folder, name, changed)
        assert_usable_or_rejected(folder)

    check()


FLOATS = [np.nan, np.inf, -np.inf, 3e38, -1e18, 1e15, 0.0]


@pytest.mark.parametrize("kind", KINDS)
def test_changed_arrays(kind: str, copy: Callable[[str], Path]) -> None:
    names = [
        name for name in ("model.safetensors", "wide.safetensors") if (copy(kind) / name).exists()
    ]

    @quickly
    @given(data=st.data())
    def check(data: st.DataObject) -> None:
        folder = copy(kind)
        name = data.draw(st.sampled_from(names))
        arrays: dict[str, Any] = arrays_in(folder, name)
        key = data.draw(st.sampled_from(sorted(arrays)))
        change = data.draw(st.sampled_from(["value", "all", "type", "shape", "name", "remove"]))
        array = arrays[key]
        if change in ("value", "all"):
            value = data.draw(st.sampled_from(FLOATS if array.dtype.kind == "f" else [0, 1, 127]))
            at = data.draw(st.integers(0, max(array.size - 1, 0))) if change == "value" else ...
            if array.size:
                array.reshape(-1)[at] = value
        elif change == "type":
            types = [np.float64, np.float16, np.int64, np.uint8]
            with np.errstate(all="ignore"):
                arrays[key] = array.astype(data.draw(st.sampled_from(types)))
        elif change == "shape":
            arrays[key] = data.draw(st.sampled_from([array[:-1], array[None], array.ravel()[:0]]))
        else:
            moved = arrays.pop(key)
            if change == "name":
                others = ["x", f"0.{key}", "words_99", "00.embedding"]
                arrays[data.draw(st.sampled_from(others))] = moved
        replace_arrays(folder, name, arrays)
        assert_usable_or_rejected(folder)

    check()


def huge_layer(folder: Path) -> None:
    change_config(folder, model__hidden_size=10**9, model__num_layers=10**9)


def nan_weight(folder: Path) -> None:
    arrays = arrays_in(folder, "model.safetensors")
    arrays["embedding"][0, 0] = np.nan
    replace_arrays(folder, "model.safetensors", arrays)


def header_only(folder: Path) -> None:
    header = json.dumps(
        {"embedding": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}
    ).encode()
    content = len(header).to_bytes(8, "little") + header
    replace_file(folder, "model.safetensors", content)


def words(*values: Any) -> Callable[[Path], None]:
    content = json.dumps(values).encode()
    return lambda folder: replace_file(folder, "vocabulary.json", content)


def config_text(old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        text = (folder / "config.json").read_text()
        assert old in text
        replace_file(folder, "config.json", text.replace(old, new).encode())

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (huge_layer, r"model.safetensors does not match the model: .*num_layers is '1000000000'"),
        (
            lambda folder: change_config(folder, model__hidden_size=10**9),
            r"model: the weights belong to another model \(output_weight is float32 \(1, 3\) inst",
        ),
        (
            lambda folder: change_config(folder, model__embedding_size=10**9),
            r"\(embedding is float32 \(6, 2\) instead of float32 \(6, 1000000000\)\)",
        ),
        (nan_weight, r"does not match the model: a value of 'embedding' is NaN or above 1e\+18"),
        (header_only, "contains no arrays: its tensors have 4,398,046,511,104 bytes, but 0 bytes"),
        (words("<unk>", "<pad>"), "vocabulary.json contains no known word"),
        (words(), "vocabulary.json does not start with '<unk>' and '<pad>'"),
        (words(*WORDS, WORDS[2]), "vocabulary.json contains the word 'good' twice"),
        (words(*WORDS[:-1], ""), "vocabulary.json contains an empty word"),
        (words(*WORDS, 1), "vocabulary.json is not a list of words"),
        (lambda folder: change_config(folder, classes=["a", "a"]), "contains the class 'a' twice"),
        (lambda folder: change_config(folder, classes=[]), "has 0 names, but a classifier needs"),
        (lambda folder: change_config(folder, classes=["a"]), "has 1 names, but a classifier"),
        (lambda folder: change_config(folder, text__max_tokens=10**30), "text.max_tokens: Input"),
        (config_text('"origin":', '"classes": [], "origin":'), "the key 'classes' is there twice"),
        (config_text('"epoch": 1', '"epoch": NaN'), "config.json cannot be used: it contains NaN"),
        (
            config_text('"epoch": 1', f'"epoch": {"[" * 50_000}{"]" * 50_000}'),
            "config.json cannot be used: it is nested too deeply",
        ),
        (
            lambda folder: change_config(folder, origin__name="x" * 9_000_000),
            r"config.json has 9,\d+,\d+ bytes, more than 8,388,608",
        ),
        (
            lambda folder: change_manifest(folder, "/etc/passwd", {}),
            "lists '/etc/passwd', which is not a valid file name",
        ),
        (
            lambda folder: change_manifest(folder, "..", {}),
            "lists '..', which is not a valid file name",
        ),
        (
            lambda folder: change_manifest(folder, "README.md", {"bytes": -1, "sha256": "0" * 64}),
            "has no valid size of README.md: '-1'",
        ),
        (
            lambda folder: change_manifest(folder, "README.md", {"bytes": 8, "sha256": 1}),
            "has no valid sha256 of README.md: '1'",
        ),
        (
            lambda folder: (folder / "manifest.json").write_bytes(b" " * 70_000),
            "manifest.json cannot be read .Larger than 65,536 bytes",
        ),
    ],
)
def test_the_problem_is_named(
    copy: Callable[[str], Path], change: Callable[[Path], Any], message: str
) -> None:
    folder = copy("recurrent")
    change(folder)
    for load in (load_bundle, load_model, load_classifier_of):
        with pytest.raises(ModelError, match=message) as caught:
            load(folder)
        assert str(caught.value).count("\n") == 0


def test_weights_that_give_no_number_are_reported(copy: Callable[[str], Path]) -> None:
    folder = copy("recurrent")
    change_config(folder, model__cell="rnn", model__nonlinearity="relu")
    config = ModelConfig(cell="rnn", hidden_size=3, embedding_size=2, nonlinearity="relu")
    state = TextClassifier(config, len(WORDS), len(CLASSES)).state_dict()
    arrays = {name: np.full(tensor.shape, 1e18, np.float32) for name, tensor in state.items()}
    arrays["output_weight"][:, 0] *= -1
    replace_arrays(folder, "model.safetensors", arrays)
    with pytest.raises(ModelError, match="computes no probability for a text: its weights are so"):
        load_bundle(folder).predict(TEXTS)


def test_the_model_of_an_ensemble_that_does_not_match_is_named(
    copy: Callable[[str], Path],
) -> None:
    folder = copy("ensemble")
    change_config(folder, members__1__model__hidden_size=10**9)
    with pytest.raises(ModelError, match=r"does not match model 1 of the ensemble: the weights"):
        load_bundle(folder)


def test_too_many_members_are_rejected(copy: Callable[[str], Path]) -> None:
    folder = copy("linear")
    member = {"model": {"wide": "only"}, "weight": 1e-4}
    change_config(folder, model=None, members=[member] * 10_001)
    with pytest.raises(ModelError, match="members: Tuple should have at most 10000 items"):
        load_bundle(folder)


@pytest.mark.parametrize("name", ["manifest.json", "config.json", "model.safetensors", "README.md"])
@pytest.mark.parametrize("kind", ["fifo", "folder", "device", "link", "own link"])
def test_only_regular_files_of_the_folder_are_opened(
    copy: Callable[[str], Path], name: str, kind: str
) -> None:
    folder = copy("recurrent")
    path = folder / name
    content = path.read_bytes()
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        target = (folder if kind == "own link" else folder.parent) / "other"
        target.write_bytes(content)
        path.symlink_to(target)
    with pytest.raises(ModelError, match=rf"{name} cannot be read \(Not a regular file\)"):
        load_bundle(folder)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x" * 5_000 + "/", "`source` is 'xxx.*. It must be the path of a file or folder"),
        ("x" * 300 + "/", "There is no bundle xxx"),
        ("a\0b/", r"`source` is 'a.x00b/'. It must be the path of a file or folder"),
        ("~nosuchuser/x", "`source` is '~nosuchuser/x', but there is no such user"),
        ("s3://bucket/x", r"`source` is a URI .s3://...\)"),
        ("/dev/zero", r"/dev/zero is invalid: manifest.json cannot be read .Not a dir"),
        ("/dev/zero/x", "There is no bundle /dev/zero/x"),
    ],
)
def test_a_path_that_no_bundle_can_have_is_reported(source: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load_model(source)


def test_an_output_folder_of_an_unknown_user_is_reported() -> None:
    for write in (export, export_ensemble, export_linear):
        with pytest.raises(ModelError, match="`output` is '~nosuchuser/x', but there is no such"):
            write("small", "~nosuchuser/x")
    with pytest.raises(ModelError, match="`source` is '~nosuchuser/x', but there is no such us"):
        diagram("~nosuchuser/x")


def test_models_that_could_not_be_loaded_are_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(bundle._LARGEST_SIZES, "vocabulary.json", 10)
    with pytest.raises(ModelError, match=r"vocabulary.json would have \d+ bytes, more than 10"):
        write_one(tmp_path / "linear", "linear")
    assert list(tmp_path.iterdir()) == []


def test_a_model_larger_than_memory_is_reported(
    copy: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("celltune.search.bundles.bundle_reading.read_header", exhausted)
    with pytest.raises(ModelError, match=r"does not fit into memory\. Use a machine with more"):
        load_bundle(copy("recurrent"))
