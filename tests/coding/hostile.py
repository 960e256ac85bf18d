"""Seeded damage to bytes, and what everybody who reads them must do about it."""

from __future__ import annotations

import random
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from fedcomp.errors import BitstreamError

Damage = Callable[[random.Random, bytes, bytes], bytes]

MOST_SECONDS = 1.0
TABLES = 1 << 17
"""Bytes that a reader may take whatever it reads: tables, zlib's window, messages of errors."""

LIES = (2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**63 - 1, 2**64 - 1, 1, 1000, 10**6)


@dataclass(frozen=True)
class Reader:
    """Somebody who reads bytes.

    Attributes
    ----------
    read
        Raises BitstreamError, or returns after it has asserted what a right result must be.
    room
        Bytes that may be allocated, because the reader's manifest is of that size.
    """

    read: Callable[[bytes], object]
    room: int


@dataclass(frozen=True)
class Sample:
    """Bytes that somebody wrote, and who can read them."""

    data: bytes
    reader: Reader


def mutate(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Return damaged bytes: cut, grown, flipped, overwritten, spliced, with another length."""
    raw = bytearray(data)
    at, size = rng.randrange(len(raw) + 1), rng.randint(1, 16)
    if rng.random() < 0.3:
        at = min(at, rng.randrange(24))  # where the heads are
    kind = rng.randrange(11)
    if kind == 0:
        del raw[at:]
    elif kind == 1:
        raw += rng.choice([bytes(size), rng.randbytes(size), other])
    elif kind == 2 and raw:
        more = rng.choice([0, 0, 1, 8, 300])
        for place in (at % len(raw), *rng.choices(range(len(raw)), k=more)):
            raw[place] ^= 1 << rng.randrange(8)
    elif kind == 3:
        raw[at : at + size] = rng.randbytes(size)
    elif kind == 4:
        raw[at:] = other[rng.randrange(len(other) + 1) :]
    elif kind == 5:
        width = rng.choice([1, 2, 4, 8])
        lie = rng.choice(LIES) & ((1 << 8 * width) - 1)
        raw[at : at + width] = lie.to_bytes(width, rng.choice(["little", "big"]))
    elif kind == 6:
        raw[at:at] = raw[at : at + 3 * size] * rng.choice([1, 1, 1, 50])
    elif kind == 7:
        del raw[at : at + size]
    elif kind == 8:
        raw[at:] = bytes([rng.choice([0, 0, 0xFF, 0x80])]) * rng.choice([len(raw) - at, 4096])
    elif kind == 9:
        to = rng.randrange(len(raw) + 1)
        raw[at : at + size], raw[to : to + size] = raw[to : to + size], raw[at : at + size]
    else:
        raw = bytearray(rng.randbytes(rng.randrange(300)))
    return bytes(raw)


def attack(
    name: str,
    samples: Sequence[Sample],
    count: int,
    strangers: Sequence[Reader] = (),
    damage: Damage = mutate,
) -> Counter[str]:
    """Give damaged bytes to their readers, to one another's and to strangers; return the outcomes.

    Number n of a name is the same at every run: `random.Random(f"{name} {n}")`.
    """
    readers = [sample.reader for sample in samples] + [*strangers]
    for sample in samples:  # compiles and imports outside the measurement
        sample.reader.read(sample.data)
    outcomes: Counter[str] = Counter()
    tracemalloc.start()
    try:
        for number in range(count):
            rng = random.Random(f"{name} {number}")
            sample, other = rng.choice(samples), rng.choice(samples)
            data = damage(rng, sample.data, other.data)
            if rng.random() < 0.2:
                data = damage(rng, data, other.data)
            reader = rng.choice(readers) if rng.random() < 0.25 else sample.reader
            try:
                outcomes[_outcome(reader, data)] += 1
            except Exception as error:
                head = data[:200].hex()
                pytest.fail(f"mutation {name!r} {number}, {len(data)} bytes {head}: {error!r}")
    finally:
        tracemalloc.stop()
    return outcomes


def _outcome(reader: Reader, data: bytes) -> str:
    """Let a reader read; raise if it does anything but refuse or return in time and room.

    Memory is what Python, numpy and zlib took at once, as `tracemalloc` sees it: room for the
    manifest, an object for each of many short units, and tables.
    """
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    start = time.process_time()
    try:
        reader.read(data)
        problem = None
    except BitstreamError as error:
        problem = str(error)
    seconds = time.process_time() - start
    taken = tracemalloc.get_traced_memory()[1] - before
    assert seconds < MOST_SECONDS, f"it took {seconds:.1f} s"
    most = reader.room + 16 * len(data) + TABLES
    assert taken <= most, f"{taken} bytes were taken, {most} are allowed"
    assert problem != "", "the error does not say what was wrong"
    return "read" if problem is None else "refused"
