"""Extension points: implementations that a config selects by name.

A registry maps names to implementations of one kind (cells, data sources, samplers, ...). Built-in
implementations are listed as references, `"module:attribute"`, in `extensions.py` of each
package. Other packages add implementations as entry points (Python packaging user guide, "Entry
points specification") with references of the same form::

    [project.entry-points."celltune.cells"]
    my_cell = "my_package.cells:MyCell"

Workers on other nodes find an extension because its package is installed there. A module is
imported only when one of its implementations is used, so a registry itself imports nothing. A
config cannot name a module, so only installed code is executed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any, Generic, TypeVar

from pydantic import AfterValidator

from celltune.errors import InputError
from celltune.printable import printable, quoted
from celltune.spelling import closest_match

T = TypeVar("T")


class ExtensionError(InputError):
    """Raised if an implementation is unknown, ambiguous or cannot be imported."""


class Registry(Generic[T]):
    """The implementations of one extension point.

    Invariant: a built-in name cannot be replaced by another package.
    """

    def __init__(self, kind: str, group: str, builtin: Mapping[str, str]) -> None:
        """Create a registry.

        Args:
            kind: what an implementation is called in messages, such as "cell".
            group: the entry point group, such as "celltune.cells".
            builtin: `"module:attribute"` of each built-in implementation, by name.
        """
        self.kind = kind
        self.group = group
        self._builtin = dict(builtin)

    def builtin_names(self) -> tuple[str, ...]:
        """Return the names of the built-in implementations, without reading installed packages."""
        return tuple(self._builtin)

    def names(self) -> tuple[str, ...]:
        """Return all names: the built-in ones in their order, then the installed ones, sorted."""
        installed = {point.name for point in _installed(self.group)}
        return (*self._builtin, *sorted(installed - set(self._builtin)))

    def __contains__(self, name: object) -> bool:
        if name in self._builtin:
            return True
        return any(point.name == name for point in _installed(self.group))

    def check(self, name: str) -> str:
        """Return the name if it has an implementation.

        Raises:
            ExtensionError: the name is unknown; the message lists the available names.
        """
        if name not in self:
            article = "an" if self.kind[0] in "aeiou" else "a"
            hint = closest_match(name, self.names())
            if not hint.startswith("Did you mean"):
                hint = f"{hint} If another package provides it, install that package."
            raise ExtensionError(f"{quoted(name)} is not {article} {self.kind}. {hint}")
        return name

    def load(self, name: str) -> T:
        """Import and return an implementation.

        Raises:
            ExtensionError: the name is unknown, two packages define it, or its import fails.
        """
        self.check(name)
        if name in self._builtin:
            module, _, attribute = self._builtin[name].partition(":")
            builtin: T = getattr(import_module(module), attribute)
            return builtin
        return self._load_installed(name)

    def _load_installed(self, name: str) -> T:
        points = [point for point in _installed(self.group) if point.name == name]
        if len(points) > 1:
            packages = " and ".join(sorted(_package(point) for point in points))
            raise ExtensionError(
                f"The {self.kind} '{name}' is defined by {packages}. Uninstall all but one of them."
            )
        try:
            loaded: T = points[0].load()
        except Exception as error:
            raise ExtensionError(
                f"The {self.kind} '{name}' ({points[0].value}) of {_package(points[0])} cannot be "
                f"imported: {type(error).__name__}: {printable(error, 200)}. Fix or uninstall that "
                "package."
            ) from error
        return loaded


def name_in(registry: Registry[Any]) -> Any:
    """Return the pydantic type of a field that holds a name of the registry."""

    def check(name: str) -> str:
        try:
            return registry.check(name)
        except ExtensionError as error:
            raise ValueError(str(error)) from error

    return Annotated[str, AfterValidator(check), _NamesInSchema(registry)]


@dataclass(frozen=True)
class _NamesInSchema:
    """Lists the names of a registry in the JSON schema of a field."""

    registry: Registry[Any]

    def __get_pydantic_json_schema__(
        self, core_schema: Any, handler: Callable[[Any], dict[str, Any]]
    ) -> dict[str, Any]:
        return {**handler(core_schema), "enum": list(self.registry.names())}


@cache
def _installed(group: str) -> tuple[EntryPoint, ...]:
    """Return a group's entry points; cached, because it reads every installed package."""
    return tuple(entry_points(group=group))


def _package(point: EntryPoint) -> str:
    return f"the package '{point.dist.name}'" if point.dist is not None else "an unnamed package"
