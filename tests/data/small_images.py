"""Tiny copies of CIFAR, MNIST and PneumoniaMNIST in their published layouts."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np

from fedcomp.data.cifar import Cifar10, Cifar100

RNG = np.random.default_rng(5)
CIFAR10, CIFAR100 = Cifar10(verify=False), Cifar100(verify=False)
BATCH = "cifar-10-batches-py/data_batch_3"
IDX = {"train": 6, "t10k": 4}


def images(count: int, *shape: int) -> np.ndarray:
    return RNG.integers(0, 256, (count, *shape), dtype=np.uint8)


def python2_batch(batch: dict[str, object]) -> bytes:
    """Pickle an array and lists of small numbers with the opcodes that Python 2 wrote."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    out = b"\x80\x02}("
    for key, value in batch.items():
        out += text(key.encode())
        if isinstance(value, np.ndarray):
            out += b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85"
            out += text(b"b") + b"\x87R(K\x01" + number(len(value)) + number(3072) + b"\x86"
            out += b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R(K\x03" + text(b"|")
            out += b"NNN" + number(-1) * 2 + b"K\x00tb\x89"
            out += b"T" + struct.pack("<i", value.nbytes) + value.tobytes() + b"tb"
        else:
            out += b"](" + b"".join(map(number, value)) + b"e"  # type: ignore[call-overload]
    return out + b"u."


def write_cifar10(folder: Path, count: int = 4) -> np.ndarray:
    """Write six batches in the protocols that are around; return the images of the first five."""
    (folder / "cifar-10-batches-py").mkdir(parents=True)
    written = []
    for place, name in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
        data = images(count, 3072)
        batch = {"data": data, "labels": [(place + k) % 10 for k in range(count)]}
        content = python2_batch(batch) if place < 2 else pickle.dumps(batch, protocol=place)
        (folder / "cifar-10-batches-py" / name).write_bytes(content)
        written.append(data)
    return np.concatenate(written[:5]).reshape(-1, 3, 32, 32)


def write_cifar100(folder: Path) -> None:
    (folder / "cifar-100-python").mkdir(parents=True)
    for name, count in (("train", 7), ("test", 3)):
        fine = [99 - k for k in range(count)]
        batch = {"data": images(count, 3072), "fine_labels": fine}
        batch["coarse_labels"] = [label % 20 for label in fine]
        (folder / "cifar-100-python" / name).write_bytes(pickle.dumps(batch))


def rewrite(path: Path, **changes: object) -> None:
    batch = pickle.loads(path.read_bytes())
    path.write_bytes(pickle.dumps({**batch, **changes}))


def pack(folder: Path, source: Path, archive: str) -> None:
    with tarfile.open(folder / archive, "w:gz") as tar:
        tar.add(source, source.name)


def idx(values: np.ndarray, kind: int = 8) -> bytes:
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, kind, values.ndim, *values.shape) + bytes(
        values.tobytes()
    )


def write_idx(folder: Path, origin: str, *, packed: bool = True) -> dict[str, np.ndarray]:
    raw = folder / origin / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for part, count in IDX.items():
        arrays[f"{part}-images-idx3-ubyte"] = images(count, 28, 28)
        arrays[f"{part}-labels-idx1-ubyte"] = np.arange(count, dtype=np.uint8)
    for name, values in arrays.items():
        content = idx(values)
        path = raw / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(content) if packed else content)
    return arrays


def write_npz(path: Path, **changes: np.ndarray) -> dict[str, np.ndarray]:
    arrays = {}
    for name, count in (("train", 5), ("val", 2), ("test", 3)):
        arrays[f"{name}_images"] = images(count, 28, 28)
        arrays[f"{name}_labels"] = (np.arange(count, dtype=np.uint8) % 2)[:, None]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **{**arrays, **changes})
    return arrays


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()
