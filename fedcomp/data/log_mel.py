"""Log-mel features: how much energy a recording has in bands that are equally wide to the ear.

    E[k, t] = Σ_f w_k(f) |X_t(f)|²     feature = log(E + 1e-6)

X_t is the Fourier transform of the t-th window (Hann) of samples in −1 … 1, zero-padded to the
power of two that is at least twice its length.  The bands are those of HTK: triangles on the mel
scale with equally spaced centres c_k, which fall to 0 at their neighbours' centres,

    mel(f) = 2595 log10(1 + f / 700)     w_k(f) = max(0, 1 − |mel(f) − c_k| / (c_2 − c_1))

from 60 Hz to 7,800 Hz, or to half the sample rate where that is less.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from fedcomp.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fedcomp.tensors import Array

LOWEST_HZ, HIGHEST_HZ = 60.0, 7800.0

FLOOR = 1e-6
"""Energy that is added, so that silence has a logarithm."""


@dataclass(frozen=True)
class LogMel:
    """Features of recordings of one rate (Hz); windows of `window_ms` begin every `hop_ms`."""

    rate: int
    mels: int = 40
    window_ms: float = 25.0
    hop_ms: float = 10.0

    def __post_init__(self) -> None:
        if self._resolved(self.mels):
            return
        most = next((n for n in range(self.mels, 0, -1) if self._resolved(n)), 0)
        msg = (
            f"{self.mels} mel bands are too many for windows of {self.window_ms:g} ms at"
            f" {self.rate} Hz: some would hold no frequency; at most {most} are possible, so"
            " lower dataset.mels or raise dataset.window_ms"
        )
        raise DataError(msg)

    @property
    def window(self) -> int:
        """Samples of a window."""
        return max(round(self.rate * self.window_ms / 1000), 2)

    @property
    def hop(self) -> int:
        """Samples from one window's begin to the next one's."""
        return max(round(self.rate * self.hop_ms / 1000), 1)

    @property
    def fft(self) -> int:
        """Length of the Fourier transform."""
        return 1 << (2 * self.window - 1).bit_length()

    @cached_property
    def filters(self) -> Array:
        """Weights of all frequencies in each band (mels, fft / 2 + 1)."""
        return mel_filters(self.rate, self.fft, self.mels)

    def frames(self, samples: int) -> int:
        """Return how many windows fit in so many samples."""
        return 1 + (samples - self.window) // self.hop

    def __call__(self, recordings: Array) -> Array:
        """Return the features (N, mels, frames) of recordings (N, samples), as float32."""
        import torch

        # stft lays the window in the middle of a segment as long as the transform; what is padded
        # here is what the outermost segments have beside their windows
        before = (self.fft - self.window) // 2
        beside = (before, self.fft - self.window - before)
        samples = torch.from_numpy(np.ascontiguousarray(recordings, np.float32))
        spectrum = torch.stft(
            torch.nn.functional.pad(samples, beside),
            self.fft,
            self.hop,
            self.window,
            torch.hann_window(self.window),
            center=False,
            return_complex=True,
        )
        power = spectrum.real.square() + spectrum.imag.square()
        energy = torch.from_numpy(self.filters.astype(np.float32)) @ power
        return np.asarray(energy.add_(FLOOR).log_().numpy())

    def _resolved(self, mels: int) -> bool:
        """Whether each band holds at least one frequency of the transform."""
        return self.rate > 2 * LOWEST_HZ and bool(
            mel_filters(self.rate, self.fft, mels).any(axis=1).all()
        )


def mel(hertz: Array | float) -> Array:
    """Return frequencies on the mel scale.

    Examples
    --------
    >>> mel(1000.0).round(2)
    np.float64(999.99)
    """
    return np.asarray(2595 * np.log10(1 + np.asarray(hertz) / 700))[()]


def mel_filters(rate: int, fft: int, mels: int) -> Array:
    """Return the weights of each band (rows) for the frequencies of a transform (columns)."""
    edges = np.linspace(mel(LOWEST_HZ), mel(min(HIGHEST_HZ, rate / 2)), mels + 2)
    scale = mel(np.arange(fft // 2 + 1) * rate / fft)
    distance = np.abs(scale - edges[1:-1, None]) / (edges[1] - edges[0])
    return np.asarray(np.maximum(1 - distance, 0))


@contextmanager
def one_torch_thread() -> Iterator[int]:
    """Let torch compute in the threads that call it alone; yield how many it used before."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)
