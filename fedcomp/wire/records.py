"""Flower records to packets and back; one blob a message."""

from __future__ import annotations

import numpy as np
from flwr.app import Array, ArrayRecord

from fedcomp.errors import BitstreamError
from fedcomp.tensors import Tensors, contiguous
from fedcomp.wire.keys import BLOB, STYPE


def blob_record(blob: bytes) -> ArrayRecord:
    """Wrap bytes so that Flower carries them unchanged and nobody averages them by accident."""
    return ArrayRecord({BLOB: Array(dtype="uint8", shape=(len(blob),), stype=STYPE, data=blob)})


def is_blob(record: ArrayRecord) -> bool:
    """Tell whether a record carries a packet."""
    return len(record) == 1 and BLOB in record and record[BLOB].stype == STYPE


def blob_of(record: ArrayRecord) -> bytes:
    """Return the packet bytes of a record."""
    if not is_blob(record):
        stypes = sorted({array.stype for array in record.values()})
        msg = (
            f"a message carries {len(record)} arrays ({', '.join(stypes) or 'none'}) and no packet;"
            " both ends must run this project's apps"
        )
        raise BitstreamError(msg)
    return record[BLOB].data


def to_record(tensors: Tensors) -> ArrayRecord:
    """Return tensors as the plain record that Flower's strategies average."""
    return ArrayRecord({name: Array(contiguous(value)) for name, value in tensors.items()})


def from_record(record: ArrayRecord) -> Tensors:
    """Return the tensors of a plain record."""
    return {name: np.asarray(array.numpy()) for name, array in record.items()}
