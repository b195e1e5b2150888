"""Compiled libraries: what is loaded from the cache, and how a compiler is found."""

from __future__ import annotations

import ctypes
import logging
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from celltune.data_prep.io import native_build
from celltune.data_prep.io.native_build import NativeCode, libraries_dir

pytestmark = pytest.mark.skipif(
    not any(map(shutil.which, native_build.COMPILERS)), reason="no C++ compiler"
)

SOURCE = """
#include <stdio.h>
#include <stdlib.h>
static int loaded = [] {
  const char* path = getenv("MARKER");
  return path && fclose(fopen(path, "w"));
}();
extern "C" int answer() { return ANSWER + loaded; }
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CELLTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.delenv("CELLTUNE_NATIVE", raising=False)
    return tmp_path / "cache"


def code(folder: Path, answer: int = 42) -> NativeCode:
    source = folder / "answer.cpp"
    source.write_text(SOURCE)
    return NativeCode(
        "answer", "nothing is answered", (source,), flags=("-O0", f"-DANSWER={answer}")
    )


def answer_of(library: ctypes.CDLL | None) -> int:
    assert library is not None
    return int(library.answer())


def stored() -> Path:
    (path,) = libraries_dir().iterdir()
    return path


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the libraries that are compiled."""
    names: list[str] = []
    compile_ = NativeCode._compile

    def counted(self: NativeCode, compiler: list[str]) -> bytes:
        names.append(self.name)
        return compile_(self, compiler)

    monkeypatch.setattr(NativeCode, "_compile", counted)
    return names


def test_a_library_is_compiled_once(tmp_path: Path, compilations: list[str]) -> None:
    for _ in range(2):
        assert answer_of(code(tmp_path).load()) == 42
    assert compilations == ["answer"]
    assert libraries_dir().stat().st_mode & 0o777 == 0o700


def test_processes_that_start_together_compile_once(
    tmp_path: Path, compilations: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    native = code(tmp_path)
    together = threading.Barrier(2, timeout=30)
    stored_ = NativeCode._stored
    missing: list[int] = []

    def stored(self: NativeCode, *arguments: Any) -> bytes | None:
        found = stored_(self, *arguments)
        if found is None and threading.get_ident() not in missing:
            missing.append(threading.get_ident())
            together.wait()
        return found

    monkeypatch.setattr(NativeCode, "_stored", stored)
    with ThreadPoolExecutor(2) as pool:
        libraries = list(pool.map(lambda _: native.load(), range(2)))
    assert [answer_of(library) for library in libraries] == [42, 42]
    assert compilations == ["answer"]


def test_whether_a_library_will_be_compiled_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    native = code(tmp_path)
    assert native.will_compile()
    assert native.load()
    assert not native.will_compile()
    stored().write_bytes(b"damaged")
    assert native.will_compile()
    libraries_dir().chmod(0o770)
    assert not native.will_compile()
    libraries_dir().chmod(0o700)
    for name, value in (("CXX", "/no/compiler"), ("CELLTUNE_NATIVE", "0")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert not native.will_compile()
    monkeypatch.setattr(native_build, "COMPILERS", ())
    assert not native.will_compile()


def test_libraries_in_one_process_are_not_confused(tmp_path: Path) -> None:
    libraries = [code(tmp_path, answer).load() for answer in (1, 2, 3)]
    assert [answer_of(library) for library in libraries] == [1, 2, 3]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: content[: len(content) // 2],
        lambda content: content[:64] + b"\0" + content[65:],
        lambda content: content + b"\0",
    ],
)
def test_a_damaged_library_is_compiled_again(
    tmp_path: Path, compilations: list[str], damage: object
) -> None:
    assert callable(damage)
    assert answer_of(code(tmp_path).load()) == 42
    content = stored().read_bytes()
    changed = damage(content)
    # A null byte at offset 64 can equal the old one.
    stored().write_bytes(changed if changed != content else content[:64] + b"\1" + content[65:])
    assert answer_of(code(tmp_path).load()) == 42
    assert compilations == ["answer"] * 2
    assert stored().read_bytes() == content


def test_a_library_of_another_name_is_not_accepted(tmp_path: Path, compilations: list[str]) -> None:
    code(tmp_path, 1).load()
    other = stored()
    code(tmp_path, 2).load()
    (wanted,) = set(libraries_dir().iterdir()) - {other}
    shutil.copyfile(other, wanted)
    assert answer_of(code(tmp_path, 2).load()) == 2
    assert len(compilations) == 3


@pytest.mark.parametrize("special", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_a_special_file_is_replaced(tmp_path: Path, special: object) -> None:
    assert callable(special)
    code(tmp_path).load()
    path = stored()
    path.unlink()
    special(path)
    assert answer_of(code(tmp_path).load()) == 42
    assert path.is_file()
    assert not path.is_symlink()


@pytest.mark.parametrize("mode", [0o777, 0o770])
def test_nothing_in_a_folder_that_others_can_write_is_executed(
    tmp_path: Path, mode: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    code(tmp_path).load()  # a library with a valid digest, as an attacker can make one
    libraries_dir().chmod(mode)
    monkeypatch.setenv("MARKER", str(tmp_path / "executed"))
    assert code(tmp_path).load() is None
    assert not (tmp_path / "executed").exists()
    assert f"has mode {mode:04o}" in caplog.text
    assert "nothing is answered" in caplog.text


def test_nothing_in_a_folder_of_another_user_is_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    code(tmp_path).load()
    mine, other = libraries_dir(), os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    mine.rename(libraries_dir())
    monkeypatch.setenv("MARKER", str(tmp_path / "executed"))
    assert code(tmp_path).load() is None
    assert not (tmp_path / "executed").exists()
    assert "belongs to the user with id" in caplog.text


def test_users_of_a_shared_cache_have_folders_of_their_own(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.mkdir()
    cache.chmod(0o777)
    assert answer_of(code(tmp_path).load()) == 42
    mine = libraries_dir()
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert libraries_dir().parent == mine.parent
    assert libraries_dir() != mine


def test_a_library_is_loaded_without_anonymous_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    assert answer_of(code(tmp_path).load()) == 42


def test_the_compiler_can_be_a_command_with_arguments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compilations: list[str]
) -> None:
    wrapper = tmp_path / "my ccache"
    wrapper.write_text(f'#!/bin/sh\necho used > "{tmp_path}/used"\nexec "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("CXX", f"'{wrapper}' c++")
    assert answer_of(code(tmp_path).load()) == 42
    assert (tmp_path / "used").exists()
    monkeypatch.setenv("CXX", f"'{wrapper}' c++ -g0")
    assert answer_of(code(tmp_path).load()) == 42
    assert compilations == ["answer"] * 2


def test_a_compilers_path_may_contain_a_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapper = tmp_path / "my compiler"
    wrapper.write_text('#!/bin/sh\nexec c++ "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("CXX", str(wrapper))
    assert answer_of(code(tmp_path).load()) == 42


@pytest.mark.parametrize("value", ["no-such-compiler -O2", "'g++", "\x1b[31m", "''"])
def test_a_wrong_compiler_is_named(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CXX", value)
    assert code(tmp_path).load() is None
    assert "The environment variable CXX is '" in caplog.text
    assert "which is not a command on this machine. Set it to a C++ compiler" in caplog.text
    assert "\x1b" not in caplog.text
    assert not libraries_dir().exists()


@pytest.mark.parametrize("value", ["", "  "])
def test_an_empty_variable_selects_the_default(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", value)
    assert answer_of(code(tmp_path).load()) == 42


def test_a_library_that_cannot_be_loaded_is_not_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wrapper = tmp_path / "broken"
    wrapper.write_text('#!/bin/sh\nfor last; do :; done; echo nothing > "$last"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("CXX", str(wrapper))
    with caplog.at_level(logging.WARNING):
        assert code(tmp_path).load() is None
    assert "is unavailable" in caplog.text
    assert list(libraries_dir().iterdir()) == []
