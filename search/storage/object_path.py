"""The interface of a key in an object store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator


class ObjectPath(ABC):
    """A key, or a prefix of keys, in an object store.

    Instances are small and picklable, because they are sent to the workers. They contain no
    connection.

    The leases, ledgers and checkpoints of `ObjectStorage` rely on three properties of the store:

    - An object is written completely or not at all. A `write_bytes` that returns is durable; one
      that raises may have taken effect or not.
    - Every later read and listing, on any node, sees a write or removal that returned.
    - Paths are used by several threads at the same time.
    """

    @abstractmethod
    def __str__(self) -> str:
        """Return the address."""

    @abstractmethod
    def __truediv__(self, name: str) -> ObjectPath:
        """Return the key `name` under this prefix."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The last part of the key."""

    @abstractmethod
    def read_bytes(self) -> bytes:
        """Return the content of the object.

        Raises:
            FileNotFoundError: the object is missing.
            OSError: the store cannot be reached, or refuses access.
        """

    @abstractmethod
    def write_bytes(self, content: bytes) -> None:
        """Create or replace the object. It is durable on return.

        Raises:
            OSError: the store refused the write, or its reply was lost.
        """

    @abstractmethod
    def names(self) -> list[str]:
        """Return the names directly under this prefix, sorted; an empty list if there are none.

        Raises:
            OSError: the store cannot be reached, or refuses access.
        """

    @abstractmethod
    def is_file(self) -> bool:
        """Return whether the object exists.

        Raises:
            OSError: the store cannot be reached, or refuses access.
        """

    @abstractmethod
    def unlink(self) -> None:
        """Remove the object.

        Raises:
            FileNotFoundError: the object is missing.
            OSError: the store cannot be reached, or refuses access.
        """

    @abstractmethod
    def remove_all(self) -> None:
        """Remove all objects under this prefix.

        Raises:
            FileNotFoundError: there are none.
            OSError: the store cannot be reached, or refuses access.
        """

    def files(self) -> Iterator[tuple[tuple[str, ...], int]]:
        """Yield the names that lead to each object under this prefix, and its size in bytes.

        A backend that can list sizes should override this method, which reads every object.

        Raises:
            OSError: the store cannot be reached, or refuses access.
        """
        for name in self.names():
            inner = self / name
            if inner.is_file():
                yield (name,), len(inner.read_bytes())
            else:
                yield from (((name, *parts), size) for parts, size in inner.files())

    def read_text(self, encoding: str = "utf-8") -> str:
        """Return the content of the object as text (see `read_bytes`)."""
        return self.read_bytes().decode(encoding)
