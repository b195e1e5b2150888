"""A place in an object store, named by a URI that pyarrow's filesystems know (s3, gs, ...).

::

    s3://bucket/path                                          Amazon S3
    s3://bucket/path?endpoint_override=host:9000&scheme=http  another server that speaks S3

Objects are whole or not there: a `write_bytes` that returned is durable and seen by every later
read and listing, one that failed may have happened or not. Keys come from where the store's own
tools look for them ($AWS_ACCESS_KEY_ID, a profile, the machine's role), on every node.
pyarrow is imported at the first access.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from celltune.search.errors import ExperimentError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

CONNECT_SECONDS, ANSWER_SECONDS, ATTEMPTS = 5, 10, 4

_URI = re.compile(r"[a-z][a-z0-9+.-]*://")


def is_uri(text: str) -> bool:
    """Whether a storage is named by a URI rather than by a path."""
    return _URI.match(text) is not None


@dataclass(frozen=True)
class ObjectPath:
    """A key, or a prefix of keys, of an object store. Small, picklable, without a connection."""

    address: str
    """The URI without its query, as `s3://bucket/path`."""
    query: str = ""

    @classmethod
    def parse(cls, uri: str) -> ObjectPath:
        """Read a URI and check that its store can be reached with it; nothing is written.

        Raises:
            ExperimentError: pyarrow can't use it, or it holds a password.
        """
        parts = urlsplit(uri)
        if parts.password is not None:
            raise ExperimentError(
                f"The storage {parts.scheme}://...@{parts.hostname} has a password in it, which "
                "would stand in logs. Set $AWS_ACCESS_KEY_ID and $AWS_SECRET_ACCESS_KEY instead."
            )
        path = cls(uri.partition("?")[0].rstrip("/"), parts.query)
        try:
            path._open()
        except OSError as error:
            raise ExperimentError(
                f"The storage {uri} can't be used: {error.strerror}. It must be a folder, or a URI "
                "like s3://bucket/path or s3://bucket/path?endpoint_override=host:9000&scheme=http."
            ) from error
        return path

    def __str__(self) -> str:
        return f"{self.address}?{self.query}" if self.query else self.address

    def __truediv__(self, name: str) -> ObjectPath:
        return ObjectPath(f"{self.address}/{name}", self.query)

    @property
    def name(self) -> str:
        """The last part."""
        return self.address.rpartition("/")[2]

    def read_bytes(self) -> bytes:
        """Read the object.

        Raises:
            FileNotFoundError: there is none.
            OSError: the store doesn't give it.
        """
        with self._store() as (store, key), store.open_input_stream(key) as stream:
            content: bytes = stream.readall()
            return content

    def read_text(self, encoding: str = "utf-8") -> str:
        """Read the object as text (see `read_bytes`)."""
        return self.read_bytes().decode(encoding)

    def write_bytes(self, content: bytes) -> None:
        """Write the object whole, in place of what was there; durable on return.

        Raises:
            OSError: the store doesn't take it, or didn't say that it did.
        """
        with self._store() as (store, key):
            stream = store.open_output_stream(key)
            stream.write(content)
            stream.close()

    def names(self) -> list[str]:
        """Give the names right under this prefix, in order; none where there is nothing."""
        from pyarrow.fs import FileSelector

        with self._store() as (store, key):
            found = store.get_file_info(FileSelector(key, allow_not_found=True))
        return sorted(info.base_name for info in found)

    def is_file(self) -> bool:
        """Whether an object is there."""
        with self._store() as (store, key):
            return bool(store.get_file_info(key).is_file)

    def unlink(self) -> None:
        """Remove the object.

        Raises:
            FileNotFoundError: there is none.
            OSError: the store doesn't remove it.
        """
        with self._store() as (store, key):
            store.delete_file(key)

    def remove_all(self) -> None:
        """Remove everything under this prefix (see `unlink`)."""
        with self._store() as (store, key):
            store.delete_dir(key)

    def _open(self) -> tuple[FileSystem, str]:
        with _as_os_errors(self):
            return _connect(self.address, self.query)

    @contextmanager
    def _store(self) -> Iterator[tuple[FileSystem, str]]:
        with _as_os_errors(self):
            scheme, _, path = self.address.partition("://")
            store, root = _connect(f"{scheme}://{path.partition('/')[0]}", self.query)
            yield store, f"{root}/{path.partition('/')[2]}".strip("/")


@lru_cache(maxsize=32)
def _connect(address: str, query: str) -> tuple[FileSystem, str]:
    from pyarrow import fs

    filesystem, path = fs.FileSystem.from_uri(f"{address}?{query}" if query else address)
    if isinstance(filesystem, fs.S3FileSystem):
        # Without limits a server that takes connections and is silent holds a call for minutes.
        options: dict[str, Any] = dict(parse_qsl(query))
        flags = {key: value == "true" for key, value in options.items() if value in _BOOLEAN}
        filesystem = fs.S3FileSystem(
            **{
                **options,
                **flags,
                "region": filesystem.region,
                "allow_delayed_open": True,  # a small object is one request
                "connect_timeout": CONNECT_SECONDS,
                "request_timeout": ANSWER_SECONDS,
                "retry_strategy": fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
            }
        )
    return filesystem, path


_BOOLEAN = ("true", "false")


@contextmanager
def _as_os_errors(path: ObjectPath) -> Iterator[None]:
    """Turn what pyarrow raises into OSErrors with a number and a sentence, as files have them."""
    from pyarrow import ArrowException

    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, "No such object", str(path)) from error
    except (OSError, ArrowException) as error:
        raise OSError(errno.EREMOTEIO, _sentence(error), str(path)) from error


def _sentence(error: Exception) -> str:
    text = str(error).partition("\n")[0]
    return re.sub(r" \(Request ID: [^)]*\)", "", text).rstrip(". ")
