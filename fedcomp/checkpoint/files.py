"""The folder `checkpoint` of a run.

    round-<number>/clients/             the clients' states, where they lie beside the server's
    round-<number>/arrays.safetensors
    round-<number>/state.json           written last: without it the folder is no checkpoint

The two newest rounds are kept.  One that is damaged gives way to the one before it.
"""

from __future__ import annotations

import json
import logging
import shutil
import zlib
from typing import TYPE_CHECKING, Any, Protocol

from safetensors import SafetensorError
from safetensors.numpy import load_file

from fedcomp.errors import DataError
from fedcomp.storage import save_json, save_tensors
from fedcomp.tensors import below, contiguous

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from fedcomp.link.stores import StateStore
    from fedcomp.tensors import Array, Tensors

log = logging.getLogger(__name__)

KEPT = 2
"""So many checkpoints of a run there are at most."""

_CHUNK_BYTES = 1 << 20
_TORN = FileNotFoundError, IsADirectoryError, NotADirectoryError


class Part(Protocol):
    """Something of a run that must not forget."""

    def save(self) -> tuple[Tensors, dict[str, Any]]:
        """Return the state between two rounds as arrays and as values for JSON."""

    def load(self, arrays: Tensors, values: dict[str, Any]) -> None:
        """Take up a saved state."""


class Checkpoints:
    """Writes and reads the checkpoints of a run.

    Parameters
    ----------
    folder
        Of the run.
    run_id
        Checkpoints of other runs are not read.
    parts
        What is saved, by name.
    clients
        The clients' states, if this process can reach them.
    """

    def __init__(
        self,
        folder: Path,
        run_id: str,
        parts: Mapping[str, Part],
        clients: StateStore | None = None,
    ) -> None:
        self._folder = folder / "checkpoint"
        self._run_id = run_id
        self._parts = parts
        self._clients = clients
        self._good: Path | None = None

    def save(self, number: int, values: dict[str, Any]) -> None:
        """Write the checkpoint of a round; `values` go with the parts."""
        for old in self._newest_first():
            if old != self._good:
                shutil.rmtree(old, ignore_errors=True)
        place = self._folder / f"round-{number:06d}"
        place.mkdir()  # not the folder itself: somebody may have removed the run
        try:
            self._write(place, values)
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)  # a full disk needs the room
            raise
        self._good = place

    def _write(self, place: Path, values: dict[str, Any]) -> None:
        if self._clients is not None:
            self._clients.snapshot(place / "clients")
        arrays: Tensors = {}
        state: dict[str, Any] = {}
        for name, part in self._parts.items():
            found, state[name] = part.save()
            arrays |= {f"{name}/{key}": value for key, value in found.items()}
        stored, same = _distinct(arrays)
        file = place / "arrays.safetensors"
        save_tensors({name: contiguous(value) for name, value in stored.items()}, file)
        index = {
            "run_id": self._run_id,
            "values": values,
            "parts": state,
            "same": same,
            "crc32": _checksum(file),
            "clients": _sizes(place / "clients"),
        }
        save_json(index, place / "state.json")

    def load(self) -> dict[str, Any] | None:
        """Take up the newest good checkpoint; return its values, None if there is none.

        `DataError` says why this run cannot go on from any of those that there are.  Where clients
        keep their states on machines of their own, they have gone on from the newest whole one.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        problem: DataError | None = None
        for place in self._newest_first():
            found = self._read(place)
            if found is None:
                continue
            try:
                self._take(place, *found)
            except DataError as error:
                if self._clients is None:
                    raise
                log.warning("%s is not used: %s", place, error)
                problem = problem or error
                continue
            self._good = place
            return dict(found[1]["values"])
        if problem:
            raise problem
        return None

    def _take(self, place: Path, arrays: Tensors, index: dict[str, Any]) -> None:
        clients = place / "clients"
        if clients.is_dir() != (self._clients is not None):
            msg = (
                f"{place} was written where clients keep their states"
                f" {'beside the server' if clients.is_dir() else 'on machines of their own'}:"
                " a run cannot move between a deployment and a simulation, its clients would"
                " forget what they hold; resume it with an engine of the same kind"
            )
            raise DataError(msg)
        for name, part in self._parts.items():
            try:
                part.load(below(f"{name}/", arrays), index["parts"][name])
            except DataError:
                raise
            except (LookupError, TypeError, ValueError, AttributeError) as error:
                kind = type(error).__name__
                msg = f"{place}: what it holds of the {name} is not what the run needs now ({kind}:"
                msg += f" {error}); resume it with the settings that it began with"
                raise DataError(msg) from error
        if self._clients is not None:
            self._clients.restore(clients)

    def _newest_first(self) -> Iterator[Path]:
        yield from sorted(self._folder.glob("round-*"), reverse=True)

    def _read(self, place: Path) -> tuple[Tensors, dict[str, Any]] | None:
        """Return arrays and the rest of a checkpoint, None if it is damaged or of another run."""
        file = place / "arrays.safetensors"
        try:
            index = json.loads((place / "state.json").read_text(encoding="utf-8"))
            if index["run_id"] != self._run_id:
                msg = f"{place} is of another run, {index['run_id']}: name another folder"
                raise DataError(msg)
            if _checksum(file) != index["crc32"]:
                log.warning("%s is damaged and is not used", file)
                return None
            if _sizes(place / "clients") != index["clients"]:
                log.warning("%s is damaged and is not used", place / "clients")
                return None
            arrays = load_file(file)
            return {**arrays, **{k: arrays[v] for k, v in index["same"].items()}}, index
        except DataError:
            raise
        except (*_TORN, SafetensorError, LookupError, TypeError, ValueError) as error:
            log.warning("%s cannot be used: %s", place, error)
            return None
        except OSError as error:
            msg = f"{place} cannot be read: {error}; mend that, and resume the run again"
            raise DataError(msg) from error


def _distinct(arrays: Tensors) -> tuple[Tensors, dict[str, str]]:
    """Return arrays without those that lie in the memory of another one, and whose those are."""
    first: dict[object, str] = {}
    same = {}
    for name, value in arrays.items():
        owner = first.setdefault(_memory(value) if value.size else name, name)
        if owner != name:
            same[name] = owner
    return {name: value for name, value in arrays.items() if name not in same}, same


def _memory(value: Array) -> tuple[object, ...]:
    return value.ctypes.data, value.shape, value.strides, value.dtype


def _sizes(folder: Path) -> dict[str, int]:
    """Return the sizes of all files below a folder; what is in them, they know themselves."""
    found = ((path, path.stat()) for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): status.st_size for path, status in found}


def _checksum(path: Path) -> int:
    found = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            found = zlib.crc32(chunk, found)
    return found
