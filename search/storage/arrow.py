"""Object stores that pyarrow's file systems support: S3, Google Cloud Storage, Azure, HDFS.

::

    s3://bucket/path                                          Amazon S3
    s3://bucket/path?endpoint_override=host:9000&scheme=http  another server with the S3 protocol

Credentials are read on every node from the store's usual places ($AWS_ACCESS_KEY_ID, a profile, the
machine's role). pyarrow is imported on first access.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from celltune.search.errors import ExperimentError
from celltune.search.storage.object_path import ObjectPath
from celltune.search.storage.object_store import ObjectStorage
from celltune.search.uris import secret_in, without_secrets

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

CONNECT_SECONDS, RESPONSE_SECONDS, ATTEMPTS = 5, 10, 4
"""Limits of each S3 request: connecting, the response, and how often a request is tried."""
GCS_RETRIES = "retry_limit_seconds=3"
"""How long a request to Google Cloud Storage is repeated; its last attempt may take longer."""


class ArrowStorage(ObjectStorage):
    """A storage in an object store that pyarrow supports."""

    @classmethod
    def open(cls, address: str) -> ArrowStorage:
        """Return the storage at a URI. Its parameters are checked; nothing is written.

        Raises:
            ExperimentError: pyarrow rejects the URI, or it contains a password.
        """
        return cls(ArrowPath.parse(address))


@dataclass(frozen=True)
class ArrowPath(ObjectPath):
    """A key, or a prefix of keys, that is reached through pyarrow."""

    address: str
    """The URI without its query, such as `s3://bucket/path`."""
    query: str = ""
    """The options of the connection, as in a URI."""

    @classmethod
    def parse(cls, uri: str) -> ArrowPath:
        """Return the path of a URI after a check that pyarrow accepts it.

        Raises:
            ExperimentError: pyarrow rejects the URI, or it contains a password.
        """
        if secret := secret_in(uri):
            raise ExperimentError(
                f"The storage {without_secrets(uri)} contains {secret}, which would appear in "
                "logs. Set $AWS_ACCESS_KEY_ID and $AWS_SECRET_ACCESS_KEY instead."
            )
        address, _, query = uri.partition("?")
        path = cls(address.rstrip("/"), query)
        try:
            with _os_errors(path):
                _connect(path.address, path.query)
        except OSError as error:
            raise ExperimentError(
                f"The storage {uri} cannot be opened: {error.strerror}. Use a folder, or a URI "
                "like s3://bucket/path or "
                "s3://bucket/path?endpoint_override=host:9000&scheme=http."
            ) from error
        return path

    def __str__(self) -> str:
        return f"{self.address}?{self.query}" if self.query else self.address

    def __truediv__(self, name: str) -> ArrowPath:
        return ArrowPath(f"{self.address}/{name}", self.query)

    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.address.rpartition("/")[2]

    def read_bytes(self) -> bytes:
        """Return the content of the object."""
        with self._store() as (store, key), store.open_input_stream(key) as stream:
            content: bytes = stream.readall()
            return content

    def write_bytes(self, content: bytes) -> None:
        """Create or replace the object."""
        with self._store() as (store, key):
            stream = store.open_output_stream(key)
            stream.write(content)
            stream.close()

    def names(self) -> list[str]:
        """Return the names directly under this prefix, sorted."""
        from pyarrow.fs import FileSelector

        with self._store() as (store, key):
            infos = store.get_file_info(FileSelector(key, allow_not_found=True))
        return sorted(info.base_name for info in infos)

    def files(self) -> Iterator[tuple[tuple[str, ...], int]]:
        """Yield the names that lead to each object under this prefix, and its size in bytes."""
        from pyarrow.fs import FileSelector

        with self._store() as (store, key):
            selector = FileSelector(key, allow_not_found=True, recursive=True)
            infos = [info for info in store.get_file_info(selector) if info.is_file]
        for info in sorted(infos, key=lambda info: str(info.path)):
            inner = str(info.path).removeprefix(key).strip("/")
            yield tuple(inner.split("/")), int(info.size)

    def is_file(self) -> bool:
        """Return whether the object exists."""
        with self._store() as (store, key):
            return bool(store.get_file_info(key).is_file)

    def unlink(self) -> None:
        """Remove the object."""
        with self._store() as (store, key):
            store.delete_file(key)

    def remove_all(self) -> None:
        """Remove all objects under this prefix."""
        with self._store() as (store, key):
            store.delete_dir(key)

    @contextmanager
    def _store(self) -> Iterator[tuple[FileSystem, str]]:
        with _os_errors(self):
            scheme, _, path = self.address.partition("://")
            # One connection per bucket, not per key.
            store, root = _connect(f"{scheme}://{path.partition('/')[0]}", self.query)
            yield store, f"{root}/{path.partition('/')[2]}".strip("/")


@lru_cache(maxsize=32)
def _connect(address: str, query: str) -> tuple[FileSystem, str]:
    from pyarrow import fs

    if address.startswith(("gs://", "gcs://")) and "retry_limit_seconds" not in query:
        # By default, pyarrow retries for 15 minutes, also if there is no network.
        query = f"{query}&{GCS_RETRIES}".lstrip("&")
    filesystem, path = fs.FileSystem.from_uri(f"{address}?{query}" if query else address)
    if isinstance(filesystem, fs.S3FileSystem):
        # Without limits, a server that accepts connections but never responds blocks for minutes.
        options: dict[str, Any] = dict(parse_qsl(query))
        flags = {key: value == "true" for key, value in options.items() if value in _BOOLEAN}
        filesystem = fs.S3FileSystem(
            **{
                **options,
                **flags,
                "region": filesystem.region,
                "allow_delayed_open": True,  # Writes a small object with a single request.
                "connect_timeout": CONNECT_SECONDS,
                "request_timeout": RESPONSE_SECONDS,
                "retry_strategy": fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
            }
        )
    return filesystem, path


_BOOLEAN = ("true", "false")


@contextmanager
def _os_errors(path: ArrowPath) -> Iterator[None]:
    """Convert pyarrow's exceptions to an `OSError` with `errno` and a short `strerror`."""
    from pyarrow import ArrowException

    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, "No such object", str(path)) from error
    except (OSError, ArrowException) as error:
        raise OSError(errno.EREMOTEIO, _first_sentence(error), str(path)) from error


def _first_sentence(error: Exception) -> str:
    first_line = str(error).partition("\n")[0].partition(". ")[0]
    return re.sub(r" \(Request ID: [^)]*\)", "", first_line).rstrip(". ")
