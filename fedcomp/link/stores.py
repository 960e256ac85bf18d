"""Where a client's state lives between messages."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from threading import RLock
from typing import TYPE_CHECKING, Protocol

from fedcomp.link.file_store import FileStateStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from fedcomp.link.state import ClientState
    from fedcomp.tensors import Tensors


class StateStore(Protocol):
    """Keeps one state a site; `save` is atomic."""

    def locked(self, site: str) -> AbstractContextManager[None]:
        """Keep all others from a site's state: after a timeout two workers may act for it."""

    def seen(self, site: str) -> tuple[bytes, bool] | None:
        """Return the exchange of the last state saved, and whether it was answered."""

    def load(self, site: str) -> ClientState | None:
        """Return the last state saved, or None."""

    def save(self, site: str, state: ClientState) -> None:
        """Replace the state of a site."""

    def snapshot(self, folder: Path) -> None:
        """Write all states, as they are between two messages, to a folder of their own."""

    def restore(self, folder: Path) -> None:
        """Put the states that `snapshot` wrote in the place of all that are here."""


class MemoryStateStore:
    """States in this process; sites at the same version share one copy of it."""

    def __init__(self) -> None:
        self._states: dict[str, ClientState] = {}
        self._models: dict[bytes, Tensors] = {}
        self._users: Counter[bytes] = Counter()
        self._lock = RLock()
        self._written: FileStateStore | None = None
        self._changed: set[str] = set()

    @contextmanager
    def locked(self, site: str) -> Iterator[None]:  # noqa: ARG002  one lock for all
        """Keep all other threads from the states."""
        with self._lock:
            yield

    def seen(self, site: str) -> tuple[bytes, bool] | None:
        """Return the exchange of the last state saved, and whether it was answered."""
        state = self._states.get(site)
        return (state.exchange, state.pending is not None) if state is not None else None

    def load(self, site: str) -> ClientState | None:
        """Return the last state saved, or None."""
        return self._states.get(site)

    def save(self, site: str, state: ClientState) -> None:
        """Replace the state of a site."""
        self._changed.add(site)
        old = self._states.get(site)
        model = self._models.setdefault(state.version, state.model)
        self._users[state.version] += 1
        self._states[site] = replace(state, model=model)
        if old is not None:
            self._users[old.version] -= 1
            if not self._users[old.version]:
                del self._models[old.version], self._users[old.version]

    def snapshot(self, folder: Path) -> None:
        """Write the states that have changed since the last time, and link to the others."""
        store = FileStateStore(folder)
        for site, state in self._states.items():
            if self._written is None or site in self._changed:
                store.save(site, state)
            else:
                store.adopt(self._written, site)
        self._written = store
        self._changed.clear()

    def restore(self, folder: Path) -> None:
        """Read all states at once: the folder may not stay."""
        self._states.clear()
        self._models.clear()
        self._users.clear()
        store = FileStateStore(folder)
        for site in store.sites():
            state = store.whole(site)
            self.save(site, state)
        self._written = store
        self._changed.clear()
