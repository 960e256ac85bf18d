"""Flower records to packets and back; one blob a message."""

from __future__ import annotations

import numpy as np
from flwr.app import Array, ArrayRecord

from fedcomp.errors import BitstreamError
from fedcomp.tensors import Array as Values
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


class HeldArray(Array):
    """An array that strategies read without a copy; Flower's own form is made if asked for."""

    def __init__(self, value: Values) -> None:
        self._value = value.view()
        self._value.flags.writeable = False
        self.dtype, self.shape, self.stype = str(value.dtype), value.shape, "numpy.ndarray"

    def numpy(self) -> Values:
        """Return a view that cannot be written to."""
        return self._value

    @property
    def data(self) -> bytes:  # type: ignore[override]  # made only where somebody asks for it
        """The values in the npy format."""
        return Array(contiguous(self._value)).data


def to_record(tensors: Tensors) -> ArrayRecord:
    """Return tensors as the record that Flower's strategies average."""
    record = ArrayRecord()  # given a whole dict it would copy every array
    for name, value in tensors.items():
        record[name] = HeldArray(value)
    return record


def from_record(record: ArrayRecord) -> Tensors:
    """Return the tensors of a plain record."""
    return {name: np.asarray(array.numpy()) for name, array in record.items()}
