"""Clients' states as files."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
import uuid
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from filelock import FileLock
from safetensors import SafetensorError
from safetensors.numpy import load_file

from fedcomp.errors import DataError
from fedcomp.link.part_files import (
    check_missing,
    read_bytes,
    read_part,
    save_whole,
    write_bytes,
    write_part,
)
from fedcomp.link.state import ClientState, Pending, Previous
from fedcomp.storage import replacing
from fedcomp.tensors import version_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fedcomp.tensors import Tensors


log = logging.getLogger(__name__)

_STALE_SECONDS = 3600.0
"""A file that was never renamed and is older than this belongs to a process that was killed."""


class FileStateStore:
    """States in a folder, safe against a process that dies at any moment.

        models/<version>.safetensors            one copy of each version
        sites/<site>/<version>.safetensors      a hard link to it: the site holds that version
        sites/<site>/<part>-<…>.safetensors     residual, pending update
        sites/<site>/<hash>.bin                 packets
        sites/<site>/state.json                 names the files that count; replaced last
        sites/<site>.lock                       held while somebody reads or changes the state

    A version without links is removed by the site that let go of it last.  A machine that loses
    its power may lose states: nothing is forced to the disk.
    """

    def __init__(self, folder: Path) -> None:
        self._models = folder / "models"
        self._sites = folder / "sites"
        self._models.mkdir(parents=True, exist_ok=True)
        self._sites.mkdir(parents=True, exist_ok=True)
        for path in self._models.glob("*.safetensors"):
            self._let_go(path.stem)  # left by a process that was killed
        for path in self._models.glob("*.tmp"):
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                    path.unlink()

    @contextmanager
    def locked(self, site: str) -> Iterator[None]:
        """Keep all other threads and processes from the state of a site."""
        with FileLock(f"{self._folder(site)}.lock"):
            yield

    def seen(self, site: str) -> tuple[bytes, bool] | None:
        """Return the exchange of the last state saved, and whether it was answered."""
        try:
            index = json.loads((self._folder(site) / "state.json").read_text(encoding="utf-8"))
            return bytes.fromhex(index["exchange"]), index["pending"] is not None
        except (FileNotFoundError, LookupError, TypeError, ValueError):
            return None

    def load(self, site: str) -> ClientState | None:
        """Return the last state saved, or None."""
        folder = self._folder(site)
        try:
            return self._read(folder)
        except (FileNotFoundError, SafetensorError, LookupError, TypeError, ValueError) as error:
            if folder.is_dir():
                log.warning("the state in %s cannot be used and is removed: %s", folder, error)
            shutil.rmtree(folder, ignore_errors=True)
            return None

    def whole(self, site: str) -> ClientState:
        """Return the last state saved with all of it in memory; `DataError` if it is damaged."""
        folder = self._folder(site)
        try:
            state = self._read(folder)
            for part in (state.residual, *([state.pending.decoded] if state.pending else ())):
                _ = part.tensors
        except (OSError, SafetensorError, LookupError, TypeError, ValueError) as error:
            msg = f"the state in {folder} is damaged: {error}"
            raise DataError(msg) from error
        return state

    def save(self, site: str, state: ClientState) -> None:
        """Replace the state of a site."""
        folder = self._folder(site)
        folder.mkdir(exist_ok=True)
        version = state.version.hex()
        if version:
            self._link(folder, version, state.model)
        pending = state.pending
        index = {
            "version": version,
            "exchange": state.exchange.hex(),
            "residual": write_part(folder, "residual", state.residual),
            "pending": pending
            and {
                "exchange": pending.exchange.hex(),
                "previous": pending.previous.hex(),
                "note": pending.note,
                "decoded": write_part(folder, "pending", pending.decoded),
                "blob": write_bytes(folder, pending.blob),
                "symbols": write_bytes(folder, pending.symbols),
            },
            "previous": {
                "exchange": state.previous.exchange.hex(),
                "symbols": write_bytes(folder, state.previous.payload),
            },
        }
        with replacing(folder / "state.json", folder / f"{uuid.uuid4().hex}.tmp") as temporary:
            temporary.write_text(json.dumps(index), encoding="utf-8")
        self._sweep(folder, index)

    def snapshot(self, folder: Path) -> None:
        """Copy all states as they are now, by links."""
        copy = FileStateStore(folder)
        for site in self.sites():
            with self.locked(site):
                copy.adopt(self, site)

    def restore(self, folder: Path) -> None:
        """Put the states of a copy in the place of all that are here."""
        for place in (self._sites, self._models):
            shutil.rmtree(place)
            place.mkdir()
        copy = FileStateStore(folder)
        for site in copy.sites():
            self.adopt(copy, site)

    def sites(self) -> list[str]:
        """Return the sites that have a state."""
        return sorted(unquote(path.parent.name) for path in self._sites.glob("*/state.json"))

    def adopt(self, other: FileStateStore, site: str) -> None:
        """Take over a site's state from another store; no file is changed once it is written."""
        mine = self._folder(site)
        mine.mkdir()
        for path in other._folder(site).iterdir():
            if path.suffix != ".tmp":
                _same_file(path, mine / path.name)
            shared = self._models / path.name
            if (other._models / path.name).exists() and not shared.exists():
                _same_file(path, shared)

    def _folder(self, site: str) -> Path:
        return self._sites / quote(site, safe="")

    def _read(self, folder: Path) -> ClientState:
        index = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        version = bytes.fromhex(index["version"])
        model = self._model(folder, index["version"])
        if not model:
            version = b""
        pending, previous = index["pending"], index["previous"]
        residual = read_part(folder, index["residual"])
        return ClientState(
            version=version,
            model=model,
            exchange=bytes.fromhex(index["exchange"]),
            residual=residual,
            pending=None
            if pending is None
            else Pending(
                exchange=bytes.fromhex(pending["exchange"]),
                blob=read_bytes(folder, pending["blob"]),
                previous=bytes.fromhex(pending["previous"]),
                note=pending["note"],
                symbols=read_bytes(folder, pending["symbols"]),
                decoded=read_part(folder, pending["decoded"]),
            ),
            previous=Previous(
                bytes.fromhex(previous["exchange"]), read_bytes(folder, previous["symbols"])
            ),
        )

    def _model(self, folder: Path, version: str) -> Tensors:
        """Return the model of a version, or nothing if its file is damaged."""
        path = folder / f"{version}.safetensors"
        try:
            model = load_file(path)
            if version_of(model).hex() == version:
                return model
            reason = "its contents are not those of its version"
        except FileNotFoundError as error:
            check_missing(path, error)
            reason = str(error)
        except SafetensorError as error:
            reason = str(error)
        log.warning("%s cannot be used and is removed: %s", path, reason)
        path.unlink(missing_ok=True)
        (self._models / path.name).unlink(missing_ok=True)
        return {}

    def _link(self, folder: Path, version: str, model: Tensors) -> None:
        """Link to the shared copy, written first where nobody has it yet."""
        link, shared = (place / f"{version}.safetensors" for place in (folder, self._models))
        if link.exists():
            return
        try:
            os.link(shared, link)
        except FileNotFoundError:
            temporary = self._models / f"{uuid.uuid4().hex}.tmp"
            save_whole(model, temporary)
            os.link(temporary, link)
            temporary.replace(shared)

    def _sweep(self, folder: Path, index: dict[str, Any]) -> None:
        """Remove what the state does not name any more."""
        pending = index["pending"] or {}
        names = {index["residual"], index["previous"]["symbols"], *pending.values()}
        kept = {"state.json", f"{index['version']}.safetensors", *names}
        for path in folder.iterdir():
            if path.name not in kept:
                path.unlink(missing_ok=True)
                self._let_go(path.stem)

    def _let_go(self, version: str) -> None:
        """Remove the shared copy of a version if no site holds it."""
        shared = self._models / f"{version}.safetensors"
        try:
            if shared.stat().st_nlink == 1:
                shared.unlink()
        except FileNotFoundError:
            return  # no version, or another client let go of it at the same moment


def _same_file(path: Path, other: Path) -> None:
    """Make another name for a file, or a copy where the disk knows no links."""
    try:
        os.link(path, other)
    except OSError:
        shutil.copyfile(path, other)
