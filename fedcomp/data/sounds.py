"""Sounds that nobody has made: voiced, hissing and silent pieces in turn, as in spoken words.

The source-filter model of speech (Fant, "Acoustic Theory of Speech Production", 1960), with all of
its numbers drawn: pulses at a gliding pitch go through three resonances, the formants, which move;
noise goes through one band.  With the spectra X of pulses and Y of noise in window t,

    S_t(f) = v_t X_t(f) Σ_k 2⁻ᵏ / √(1 + ((f − F_kt) / B_k)²) + u_t Y_t(f) / √(1 + ((f − C_t) / W)²)

is overlapped and added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fedcomp.data.wav import of_length, read_wav
from fedcomp.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from fedcomp.data.log_mel import LogMel
    from fedcomp.tensors import Array

PITCHES = (80.0, 300.0)
"""Of voices, in Hz."""

FORMANTS = ((250.0, 900.0), (800.0, 2500.0), (2000.0, 3500.0))
"""Where the resonances of vowels lie, in Hz."""

_PIECES_A_SECOND = 8
_VOICED, _HISSING = 0.55, 0.3  # shares of the pieces; the rest is silent
_HALF_WINDOW_S = 0.016
_AT_A_TIME = 1 << 21
"""Samples that are computed at once, give or take a sound."""


@dataclass(frozen=True)
class Sounds:
    """Log-mel features (1, mels, frames) of synthetic sounds of one length."""

    version: ClassVar[int] = 1

    seconds: float
    features: LogMel

    def __call__(self, count: int, rng: np.random.Generator) -> Array:
        """Return the features of so many sounds."""
        rate = self.features.rate
        length = round(self.seconds * rate)
        step = max(_AT_A_TIME // length, 1)
        found = [
            self.features(sounds(min(step, count - start), length, rate, rng))
            for start in range(0, count, step)
        ]
        return np.concatenate(found)[:, None]


@dataclass(frozen=True)
class SoundReader:
    """Log-mel features (1, mels, frames) of wav files, of which the begin is taken."""

    suffixes: ClassVar[frozenset[str]] = frozenset((".wav",))

    seconds: float
    features: LogMel

    def __call__(self, path: Path) -> Array:
        """Return the features of a file."""
        samples, rate = read_wav(path)
        if rate != self.features.rate:
            msg = (
                f"{path} has {rate} samples a second and the data set {self.features.rate};"
                " resample it"
            )
            raise DataError(msg)
        return self.features(of_length(samples, round(self.seconds * rate))[None])


def sounds(count: int, length: int, rate: int, rng: np.random.Generator) -> Array:
    """Return `count` sounds of `length` samples in −1 … 1, as float32."""
    hop = max(round(_HALF_WINDOW_S * rate), 1)
    frames = -(-length // hop) + 1  # of two hops each; the first begins a hop before the sound
    pieces = max(round(_PIECES_A_SECOND * length / rate), 3)

    def per_sound(low: float, high: float, *, log: bool = False) -> Array:
        values = rng.uniform(np.log10(low) if log else low, np.log10(high) if log else high, count)
        return np.asarray(10**values if log else values)

    onset, end = frames * per_sound(0, 0.25), frames * per_sound(0.35, 1)
    inner = np.sort(rng.random((count, pieces - 1)), axis=1)
    edges = np.hstack([np.zeros((count, 1)), inner, np.ones((count, 1))])
    edges = onset[:, None] + (end - onset)[:, None] * edges
    place, share = _places(edges, frames)
    kind = rng.random((count, pieces))
    size = 10 ** -rng.uniform(0, 1, (count, pieces))
    spoken = (np.arange(frames) >= onset[:, None]) & (np.arange(frames) < end[:, None])

    def gain(chosen: Array) -> Array:
        return _smooth(np.take_along_axis(size * chosen, place, axis=1) * spoken)

    def glide(low: float, high: float) -> Array:
        knots = rng.uniform(low, high, (count, pieces + 1))
        before, after = (np.take_along_axis(knots, place + more, axis=1) for more in (0, 1))
        return np.asarray((1 - share) * before + share * after)

    middle, spread = per_sound(*PITCHES, log=True), glide(-0.15, 0.15)
    pitch = np.clip(middle[:, None] * (1 + spread), *PITCHES)
    hertz = np.fft.rfftfreq(2 * hop, 1 / rate).astype(np.float32)
    vowels = sum(
        (
            0.5**k * _band(hertz, glide(*bounds), per_sound(30, 90))
            for k, bounds in enumerate(FORMANTS)
        ),
        start=np.float32(0),
    )
    hiss = _band(hertz, glide(0.15 * rate, 0.45 * rate), per_sound(0.02 * rate, 0.15 * rate))
    spectra = _spectra(_pulses(pitch, hop, rate, rng), hop)
    spectra *= gain(kind < _VOICED)[..., None] * vowels
    noise = _spectra(rng.standard_normal((count, (frames + 1) * hop), np.float32), hop)
    noise *= gain((kind >= _VOICED) & (kind < _VOICED + _HISSING))[..., None] * hiss
    spectra += noise
    made = _overlapped(spectra, hop)[:, :length]
    made *= (per_sound(0.03, 1, log=True) / np.maximum(np.abs(made).max(axis=1), 1e-9))[:, None]
    room = per_sound(1e-5, 3e-3, log=True)[:, None] * rng.standard_normal(made.shape, np.float32)
    padded = (rng.random(count) < 0.5)[:, None] & (np.arange(length) >= hop * end[:, None])
    return np.where(padded, 0, np.clip(made + room, -1, 1)).astype(np.float32)


def _places(edges: Array, frames: int) -> tuple[Array, Array]:
    """Return in which piece each frame lies, and which share of it is over."""
    at = np.arange(frames, dtype=np.float64)
    after = (edges[:, None, 1:-1] <= at[:, None]).sum(axis=2)
    low, high = (np.take_along_axis(edges, after + more, axis=1) for more in (0, 1))
    return after, np.clip((at - low) / np.maximum(high - low, 1e-9), 0, 1)


def _smooth(values: Array) -> Array:
    """Return the means of each frame and its two neighbours, so that nothing clicks."""
    padded = np.pad(values, ((0, 0), (1, 1)))
    return np.asarray((padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]) / 3, np.float32)


def _band(hertz: Array, centre: Array, width: Array) -> Array:
    """Return a resonance's gain (count, frames, frequencies)."""
    scaled = (hertz - centre[..., None].astype(np.float32)) / width[:, None, None].astype(
        np.float32
    )
    return np.asarray(1 / np.sqrt(1 + np.square(scaled)))


def _pulses(pitch: Array, hop: int, rate: int, rng: np.random.Generator) -> Array:
    """Return a pulse for each period of the voice, of power 1 on the whole."""
    steps = np.repeat(np.hstack([pitch[:, :1], pitch]), hop, axis=1) / rate
    periods = np.floor(np.cumsum(steps, axis=1) + rng.random((len(pitch), 1)))
    begins = np.diff(periods, axis=1, prepend=periods[:, :1]) > 0
    return np.where(begins, 1 / np.sqrt(steps), 0).astype(np.float32)


def _spectra(samples: Array, hop: int) -> Array:
    """Return the spectra of windows of two hops, one a hop."""
    pieces = samples.reshape(len(samples), -1, hop)
    windows = np.concatenate([pieces[:, :-1], pieces[:, 1:]], axis=2)
    return np.asarray(np.fft.rfft(windows * _window(hop)).astype(np.complex64))


def _overlapped(spectra: Array, hop: int) -> Array:
    """Undo `_spectra`, without the first hop and the last one, which one window covers."""
    windows = np.fft.irfft(spectra, 2 * hop).astype(np.float32) * _window(hop)
    halves = windows[:, :-1, hop:] + windows[:, 1:, :hop]
    return np.asarray(halves.reshape(len(spectra), -1))


def _window(hop: int) -> Array:
    """Return the root of Hann's window: the squares of two neighbours add up to 1."""
    return np.asarray(np.sin(np.pi * np.arange(2 * hop) / (2 * hop)), np.float32)
