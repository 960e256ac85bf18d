"""The files of a client's state: tensors as safetensors, packets under their own hash."""

from __future__ import annotations

import hashlib
import uuid
from typing import TYPE_CHECKING

from safetensors import safe_open
from safetensors.numpy import save_file

from fedcomp.link.state import Part
from fedcomp.storage import removed_unless_whole, replacing
from fedcomp.tensors import contiguous

if TYPE_CHECKING:
    from pathlib import Path

    from fedcomp.tensors import Tensors


def write_part(folder: Path, kind: str, part: Part) -> str | None:
    """Return the file of a part, written unless it is there."""
    if part.path is None or part.path.parent != folder:
        if not part.tensors:
            return None
        path = folder / f"{kind}-{uuid.uuid4().hex}.safetensors"
        save_whole(part.tensors, path)
        part.path = path
    return part.path.name


def write_bytes(folder: Path, data: bytes) -> str | None:
    """Return the file of some bytes, named by their hash and written unless it is there."""
    if not data:
        return None
    path = folder / _name(data)
    if not path.exists():
        with replacing(path, folder / f"{uuid.uuid4().hex}.tmp") as temporary:
            temporary.write_bytes(data)
    return path.name


def save_whole(tensors: Tensors, path: Path) -> None:
    """Write a file of tensors."""
    with removed_unless_whole(path):
        save_file({name: contiguous(value) for name, value in tensors.items()}, path)


def read_part(folder: Path, name: str | None) -> Part:
    """Return a part whose tensors are read when they are needed; damage shows now."""
    if name is None:
        return Part()
    path = folder / name
    try:
        with safe_open(path, "numpy"):
            return Part(path=path)
    except FileNotFoundError as error:
        check_missing(path, error)
        raise


def read_bytes(folder: Path, name: str | None) -> bytes:
    """Return the bytes of a file that `write_bytes` named."""
    if name is None:
        return b""
    data = (folder / name).read_bytes()
    if _name(data) != name:
        msg = f"{folder / name} is damaged"
        raise ValueError(msg)
    return data


def _name(data: bytes) -> str:
    return f"{hashlib.sha256(data).hexdigest()[:32]}.bin"


def check_missing(path: Path, error: FileNotFoundError) -> None:
    """Raise unless a file is missing: safetensors says so whatever keeps it from opening one."""
    if path.exists():
        msg = f"{path} cannot be opened; are too many files open?"
        raise OSError(msg) from error
