"""Where a client's state lives between messages."""

from __future__ import annotations

import logging
import os
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from fedcomp.tensors import contiguous, version_of

if TYPE_CHECKING:
    from pathlib import Path

    from fedcomp.tensors import Tensors


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClientState:
    """What a client must not forget: the version it holds."""

    version: bytes
    model: Tensors = field(repr=False)


class StateStore(Protocol):
    """Keeps one state a site; `save` is atomic."""

    def load(self, site: str) -> ClientState | None:
        """Return the last state saved, or None."""

    def save(self, site: str, state: ClientState) -> None:
        """Replace the state of a site."""


class MemoryStateStore:
    """States in this process; sites at the same version share one copy of it."""

    def __init__(self) -> None:
        self._versions: dict[str, bytes] = {}
        self._models: dict[bytes, Tensors] = {}
        self._users: Counter[bytes] = Counter()

    def load(self, site: str) -> ClientState | None:
        """Return the last state saved, or None."""
        version = self._versions.get(site)
        return None if version is None else ClientState(version, self._models[version])

    def save(self, site: str, state: ClientState) -> None:
        """Replace the state of a site."""
        old = self._versions.get(site)
        if old == state.version:
            return
        self._models.setdefault(state.version, state.model)
        self._users[state.version] += 1
        self._versions[site] = state.version
        if old is not None:
            self._users[old] -= 1
            if not self._users[old]:
                del self._models[old], self._users[old]


class FileStateStore:
    """States in a folder, safe against a process that dies at any moment.

        models/<version>.safetensors            one copy of each version
        sites/<site>~<version>.safetensors      a hard link to it: the site holds that version

    A version without links is removed by the site that let go of it last.
    """

    def __init__(self, folder: Path) -> None:
        self._models = folder / "models"
        self._sites = folder / "sites"
        self._models.mkdir(parents=True, exist_ok=True)
        self._sites.mkdir(parents=True, exist_ok=True)

    def load(self, site: str) -> ClientState | None:
        """Return the last state saved, or None."""
        links = self._links(site)
        if not links:
            return None
        newest = max(links, key=lambda path: path.stat().st_mtime_ns)
        version = bytes.fromhex(_version_in(newest))
        try:
            model = load_file(newest)
        except (OSError, SafetensorError) as error:
            self._remove(newest, str(error))
            return None
        if version_of(model) != version:
            self._remove(newest, "its contents are not those of its version")
            return None
        return ClientState(version, model)

    def save(self, site: str, state: ClientState) -> None:
        """Replace the state of a site."""
        name = state.version.hex()
        link = self._sites / f"{site}~{name}.safetensors"
        old = [path for path in self._links(site) if path != link]
        if not link.exists():
            self._link(self._models / f"{name}.safetensors", link, state.model)
        for path in old:
            path.unlink(missing_ok=True)
            shared = self._models / f"{_version_in(path)}.safetensors"
            try:
                if shared.stat().st_nlink == 1:
                    shared.unlink()
            except FileNotFoundError:
                continue  # another client let go of it at the same moment

    def _link(self, shared: Path, link: Path, model: Tensors) -> None:
        """Link to the shared copy, written first where nobody has it yet."""
        try:
            os.link(shared, link)
        except FileNotFoundError:
            temporary = self._models / f"{uuid.uuid4().hex}.tmp"
            save_file({name: contiguous(value) for name, value in model.items()}, temporary)
            os.link(temporary, link)
            temporary.replace(shared)

    def _remove(self, damaged: Path, reason: str) -> None:
        """Forget a damaged version: the client will ask for a keyframe."""
        log.warning("%s cannot be used and is removed: %s", damaged, reason)
        damaged.unlink(missing_ok=True)
        (self._models / f"{_version_in(damaged)}.safetensors").unlink(missing_ok=True)

    def _links(self, site: str) -> list[Path]:
        return list(self._sites.glob(f"{site}~*.safetensors"))


def _version_in(link: Path) -> str:
    return link.stem.rpartition("~")[2]
