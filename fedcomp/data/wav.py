"""Recordings from PCM wav files, by the standard library."""

from __future__ import annotations

import io
import wave
from typing import TYPE_CHECKING

import numpy as np

from fedcomp.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from fedcomp.tensors import Array


def read_wav(path: Path) -> tuple[Array, int]:
    """Return a file's samples as float32 in −1 … 1, its channels averaged, and its rate in Hz."""
    try:
        # from memory: a header that promises gigabytes then allocates none
        with wave.open(io.BytesIO(path.read_bytes())) as file:
            width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
            promised = file.getnframes()
            data = file.readframes(promised)
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise DataError(msg) from error
    except (wave.Error, EOFError, RuntimeError) as error:  # `wave` raises all three
        why = str(error) or "it ends too early"
        msg = f"{path} is no wav file of uncompressed integers (PCM): {why}"
        raise DataError(msg) from error
    if width > 4 or rate == 0:
        msg = f"{path} has {8 * width} bit at {rate} Hz; 8, 16, 24 or 32 bit can be read"
        raise DataError(msg)
    if promised == 0:
        msg = f"{path} is empty: it holds a header, and no samples"
        raise DataError(msg)
    if len(data) != promised * channels * width:
        msg = f"{path} is cut off: {len(data)} of {promised * channels * width} bytes are there"
        raise DataError(msg)
    return _decode(data, width).reshape(-1, channels).mean(axis=1), rate


def of_length(samples: Array, length: int) -> Array:
    """Cut samples, or pad them with zeros, at their end."""
    fitted = np.zeros(length, np.float32)
    fitted[: len(samples)] = samples[:length]
    return fitted


def _decode(data: bytes, width: int) -> Array:
    """Return integers of so many bytes as fractions of full scale; those of one are unsigned."""
    if width == 1:
        return (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / 128
    whole = np.zeros((len(data) // width, 4), np.uint8)
    whole[:, 4 - width :] = np.frombuffer(data, np.uint8).reshape(-1, width)
    return whole.view("<i4")[:, 0].astype(np.float32) / 2**31
