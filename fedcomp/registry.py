"""Names to classes: a plain dict, plus entry points so that others can add without a fork."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import Generic, TypeVar, cast

from fedcomp.errors import UnknownNameError

T = TypeVar("T")


class Registry(Generic[T]):
    """The components of one kind by name, imported when they are asked for.

    Parameters
    ----------
    kind
        What the entries are, for error messages.
    builtin
        Name to "module:attribute"; strings, so that a heavy module loads only when used.

    Attributes
    ----------
    builtin
        The names that come with the project.

    Examples
    --------
    >>> numbers = Registry("number", {"pi": "math:pi"})
    >>> round(numbers.get("pi"), 2)
    3.14
    """

    def __init__(self, kind: str, builtin: dict[str, str]) -> None:
        self.kind = kind
        self.builtin = tuple(sorted(builtin))
        self._entries: dict[str, str | T] = dict(builtin)
        self._entry_points_read = False

    def names(self) -> list[str]:
        """Return all known names, in alphabetical order."""
        self._read_entry_points()
        return sorted(self._entries)

    def get(self, name: str) -> T:
        """Return the entry of that name."""
        if name not in self._entries:
            self._read_entry_points()
        if name not in self._entries:
            raise UnknownNameError(self.kind, name, self._entries)
        entry = self._entries[name]
        if isinstance(entry, str):
            module, _, attribute = entry.partition(":")
            entry = cast("T", getattr(import_module(module), attribute))
            self._entries[name] = entry
        return entry

    def _read_entry_points(self) -> None:
        if self._entry_points_read:
            return
        self._entry_points_read = True
        group = "fedcomp." + self.kind.replace(" ", "_") + "s"
        for point in entry_points(group=group):
            self._entries.setdefault(point.name, point.value)
