"""Flower records to packets, tensors and fields, and back; one blob a message."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord

from fedcomp.errors import BitstreamError, brief
from fedcomp.tensors import VERSION_BYTES, Tensors, contiguous
from fedcomp.tensors import Array as Values
from fedcomp.wire import keys
from fedcomp.wire.fields import EXCHANGE_BYTES, Downlink, Reply
from fedcomp.wire.keys import BLOB, STYPE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from flwr.app import RecordDict

    from fedcomp.tensors import TensorSpec


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
            f"a message carries {len(record)} arrays of the types {brief(stypes)} and no packet;"
            " both ends must run this project's apps"
        )
        raise BitstreamError(msg)
    array = record[BLOB]
    if (array.dtype, *array.shape) != ("uint8", len(array.data)):
        msg = (
            f"a packet of {len(array.data)} bytes travels as so many uint8, this one as"
            f" {brief(array.dtype)} in {len(array.shape)} dimensions"
        )
        raise BitstreamError(msg)
    return array.data


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


class LazyArray(Array):
    """An array that is made whenever a strategy asks for it, and not kept."""

    def __init__(self, spec: TensorSpec, make: Callable[[str], Values]) -> None:
        self._spec = spec
        self._make = make
        self.dtype, self.shape, self.stype = spec.dtype, spec.shape, "numpy.ndarray"

    def numpy(self) -> Values:
        """Return the values."""
        return self._make(self._spec.name)

    @property
    def data(self) -> bytes:  # type: ignore[override]  # made only where somebody asks for it
        """The values in the npy format."""
        return Array(contiguous(self.numpy())).data


def lazy_record(specs: Iterable[TensorSpec], make: Callable[[str], Values]) -> ArrayRecord:
    """Return a record of arrays that do not exist yet."""
    record = ArrayRecord()
    for spec in specs:
        record[spec.name] = LazyArray(spec, make)
    return record


def to_record(tensors: Tensors) -> ArrayRecord:
    """Return tensors as the record that Flower's strategies average."""
    record = ArrayRecord()  # given a whole dict it would copy every array
    for name, value in tensors.items():
        record[name] = HeldArray(value)
    return record


def from_record(record: ArrayRecord) -> Tensors:
    """Return the tensors of a plain record."""
    return {name: np.asarray(array.numpy()) for name, array in record.items()}


def fields_of(content: RecordDict) -> ConfigRecord:
    """Return what a message says of one client; nothing where it does not."""
    return content.config_records.get(keys.FIELDS, ConfigRecord())


def downlink_record(fields: Downlink, round_number: int, site: str) -> ConfigRecord:
    """Return what the server tells a client, of whom it takes it to be a site."""
    return ConfigRecord(
        {
            keys.ROUND_FIELD: round_number,
            keys.EXCHANGE: fields.exchange,
            keys.USED: fields.used,
            keys.PREVIOUS: fields.previous,
            keys.PLATEAUS: fields.plateaus,
            keys.SITE: site,
        }
    )


def downlink_fields(record: ConfigRecord) -> tuple[Downlink, int]:
    """Read what `downlink_record` wrote."""
    names = (keys.EXCHANGE, keys.USED, keys.PREVIOUS)
    number, plateaus = record.get(keys.ROUND_FIELD), record.get(keys.PLATEAUS)
    if not (isinstance(number, int) and isinstance(plateaus, int) and plateaus >= 0):
        msg = f"the message names the round {brief(number)} and {brief(plateaus)} plateaus"
        raise BitstreamError(msg)
    exchange, used, previous = (_bytes(record, name, EXCHANGE_BYTES) for name in names)
    return Downlink(exchange, used, previous, plateaus), number


def reply_record(fields: Reply) -> ConfigRecord:
    """Return what a client says beside its packet."""
    record = ConfigRecord(
        {
            keys.EXCHANGE: fields.exchange,
            keys.VERSION: fields.version,
            keys.PREVIOUS: fields.previous,
        }
    )
    if fields.digest:
        record[keys.DIGEST] = fields.digest
    return record


def reply_fields(record: ConfigRecord) -> Reply:
    """Read what `reply_record` wrote; nobody vouches for it."""
    return Reply(
        _bytes(record, keys.EXCHANGE, EXCHANGE_BYTES),
        _bytes(record, keys.VERSION, VERSION_BYTES),
        _bytes(record, keys.PREVIOUS, EXCHANGE_BYTES),
        _bytes(record, keys.DIGEST, 32) if keys.DIGEST in record else b"",
    )


def _bytes(record: ConfigRecord, name: str, size: int) -> bytes:
    value = record.get(name)
    if not isinstance(value, bytes) or len(value) != size:
        msg = f"field {name!r} is {brief(value)}, expected {size} bytes"
        raise BitstreamError(msg)
    return value
