"""Files of word vectors that someone made to break a reader give vectors or a `DataError`."""

from __future__ import annotations

import gzip
import os
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celltune.data_prep.errors import DataError
from celltune.data_prep.vectors.files import read_vectors

DIGITS = b"1" * 5000
TEXT = b"good 1 2 3\nfilm 4 5.5 -6\nelse 0 0 1\n"
BINARY = b"2 2\ngood " + struct.pack("<2f", 1, 2) + b"\nfilm " + struct.pack("<2f", 3, 4)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("v.txt", DIGITS + b" 2\n", "line 1 states the number '1{77}…', which is larger than any"),
        ("v.txt", b"2 " + DIGITS + b"\n", "line 1 states the number '1{77}…'"),
        ("v.txt", b"a" + b" 1" * 70_000, "line 1 has vectors of 70,000 numbers, but at most"),
        ("v.txt", b"a -1\na 1 2\n", "line 2 has 2 numbers, but the lines before it have 1"),
        ("v.txt", b"a 1 1e39\n", "line 1: the vector contains a value that is not finite"),
        ("v.txt", b"a 1 -inf\n", "line 1: the vector contains a value that is not finite"),
        ("v.txt", b"a 1 1_0\n", "line 1: '1_0' is not a number"),
        ("v.txt", b"a 1 \x1b[31m\n", r"line 1: '\\x1b\[31m' is not a number"),
        ("v.bin", b"9" * 40 + b" 2\n", "line 1 states the number '9{40}'"),
        ("v.bin", b"-2 2\n", "is not a word2vec binary file"),
        ("v.bin", b"1 0\n", "is not a word2vec binary file"),
        ("v.bin", b"1 2\n" + b"a" * 70_000, "vector 1 of 1: the word is longer than 65,536 bytes"),
        ("v.bin", b"999999999999 2\na 12345678", "vector 2 of 999999999999: the file is truncated"),
        ("v.bin", b"1 2\na " + struct.pack("<2f", 1, float("nan")), "vector 1 of 1: .* not finite"),
        ("v.gz", gzip.compress(TEXT, mtime=0)[:-4] + b"1234", "v.gz is damaged or truncated"),
        ("v.gz", gzip.compress(TEXT, mtime=0) + b"rest", "v.gz is damaged or truncated"),
        ("v.zip", b"PK\x03\x04" + TEXT, "v.zip is damaged or truncated"),
    ],
)
def test_invalid_file_is_rejected(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        read_vectors(write(tmp_path / name, content), ["a"])
    assert len(str(error.value)) < 500 + len(str(tmp_path))


def test_members_of_a_gzip_file_are_read_one_after_the_other(tmp_path: Path) -> None:
    content = b"".join(gzip.compress(line) for line in TEXT.splitlines(keepends=True))
    assert set(read_vectors(write(tmp_path / "v.gz", content), ["else"])[0]) == {"else"}


@pytest.mark.parametrize("name", ["v.txt", "v.bin", "v.bin.gz", "v.zip"])
def test_pipe_is_rejected(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match="is not a regular file, but"):
        read_vectors(tmp_path / name, ["a"])


@pytest.mark.parametrize("name", ["v.txt", "v.txt.gz", "v.bin", "v.zip"])
def test_size_after_decompression_is_limited(tmp_path: Path, name: str) -> None:
    content = BINARY if ".bin" in name else TEXT
    path = write(tmp_path / name, gzip.compress(content) if name.endswith(".gz") else content)
    if name == "v.zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("v.txt", content)
    limit = 16 * len(content)
    assert read_vectors(path, ["good"], max_bytes=limit)[1]
    with pytest.raises(DataError, match=r"v\..* more than .* set data\.max_bytes"):
        read_vectors(path, ["good"], max_bytes=len(content) - 1)


def test_number_of_vectors_is_limited(tmp_path: Path) -> None:
    path = write(tmp_path / "v.txt", b"a 1 2\n" * 100)
    assert read_vectors(path, ["a"], max_bytes=6400)[1] == 2
    with pytest.raises(DataError, match=r"more than 99 vectors\. .* one vector per 64 bytes"):
        read_vectors(path, ["a"], max_bytes=6399)


@pytest.mark.parametrize("stated", [1, 1 << 62])
def test_wrong_size_in_the_directory_of_a_zip_archive(tmp_path: Path, stated: int) -> None:
    path = tmp_path / "v.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("v.txt", TEXT)
        archive.getinfo("v.txt").file_size = stated
    message = "is damaged or truncated .*CRC" if stated == 1 else "contains more than .* bytes"
    with pytest.raises(DataError, match=message):
        read_vectors(path, ["good"])


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Valid files, by name."""
    path = tmp_path_factory.mktemp("zip") / "v.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("v.txt", TEXT)
    return {
        "v.txt": TEXT,
        "header.txt": b"3 3\n" + TEXT,
        "v.gz": gzip.compress(TEXT),
        "v.bin": BINARY,
        "v.zip": path.read_bytes(),
    }


edits = st.lists(
    st.tuples(
        st.integers(0, 500),
        st.integers(0, 4),
        st.binary(max_size=4) | st.sampled_from([b" ", b"\n", b"-", b"9" * 30, b"\0" * 8, b"nan"]),
    ),
    min_size=1,
    max_size=4,
)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True, deadline=None
)
@given(
    name=st.sampled_from(["v.txt", "header.txt", "v.gz", "v.bin", "v.zip"]),
    edits=edits,
)
def test_changed_file_gives_vectors_or_a_data_error(
    tmp_path: Path,
    packed: dict[str, bytes],
    name: str,
    edits: list[tuple[int, int, bytes]],
) -> None:
    content = packed[name]
    for position, removed, inserted in edits:
        at = position % (len(content) + 1)
        content = content[:at] + inserted + content[at + removed :]
    try:
        vectors, width, _ = read_vectors(write(tmp_path / name, content), ["good", "film"])
    except DataError:
        return
    assert all(vector.shape == (width,) for vector in vectors.values())
    if name in ("v.gz", "v.zip") and vectors:
        # Checksums protect the compressed content.
        assert {word: vector.tolist() for word, vector in vectors.items()} == {
            "good": [1, 2, 3],
            "film": [4, 5.5, -6],
        }
