"""Samples that are made of nothing: dead leaves and sounds."""

from __future__ import annotations

import numpy as np
import pytest

from fedcomp.data.dead_leaves import DeadLeaves, paint, radii
from fedcomp.data.log_mel import LogMel
from fedcomp.data.sounds import Sounds, _overlapped, _pulses, _spectra, sounds
from fedcomp.tensors import Array


def slope(images: Array) -> float:
    """Return how amplitudes fall with the frequency, as its power: 0 for white noise."""
    gray = images.astype(float).mean(axis=1)
    gray -= gray.mean(axis=(1, 2), keepdims=True)
    side = gray.shape[-1]
    amplitude = np.sqrt(np.square(np.abs(np.fft.fft2(gray))).mean(axis=0))
    waves = np.fft.fftfreq(side) * side
    radius = np.hypot(waves, waves[:, None]).round()
    rings = np.arange(1, side // 2)
    means = [amplitude[radius == ring].mean() for ring in rings]
    return float(np.polyfit(np.log(rings), np.log(means), 1)[0])


@pytest.mark.parametrize(("channels", "side"), [(1, 16), (3, 32), (1, 64)])
def test_amplitudes_fall_as_those_of_photographs(channels: int, side: int) -> None:
    rng = np.random.default_rng(0)
    assert -1.5 < slope(DeadLeaves((channels, side, side))(48, rng)) < -0.5
    assert abs(slope(rng.random((48, channels, side, side)))) < 0.1


def test_leaves_of_each_octave_are_equally_large_together() -> None:
    found = radii((np.arange(1_000_000) + 0.5) / 1_000_000, 2.0, 64.0)
    octaves = np.floor(np.log2(found)).astype(int)
    area = np.bincount(octaves, weights=found**2)[1:]
    assert len(area) == 5
    np.testing.assert_allclose(area / area.mean(), 1, rtol=1e-3)


@pytest.mark.parametrize(("channels", "height", "width"), [(1, 12, 9), (3, 8, 17)])
def test_leaves_hide_those_below_them(channels: int, height: int, width: int) -> None:
    """A painter who lays all leaves whole, the lowest first, gets the same picture."""
    leaves = DeadLeaves((channels, height, width)).leaves(400, np.random.default_rng(1))
    size = 2 * height, 2 * width
    expected, seen = np.zeros((channels, *size)), np.zeros(size, bool)
    i, j = np.indices(size)
    kinds = set()
    for leaf in leaves[::-1]:
        y, x, r, cos, sin, long, short, wave, pace, phase = leaf[:10]
        along, across = (i - y) * cos + (j - x) * sin, (j - x) * cos - (i - y) * sin
        inside = np.hypot(along, across) <= r
        if long:
            inside = (np.abs(along) <= long) & (np.abs(across) <= short)
        kinds.add(bool(long))
        colour, tilt = leaf[10:, None, None].reshape(2, channels, 1, 1)
        value = colour + tilt * along / r + wave * np.sin(pace * across + phase)
        expected = np.where(inside, value.clip(0, 1), expected)
        seen |= inside
    canvas, bare = np.zeros((channels, *size), np.float32), np.ones(size, bool)
    assert kinds == {True, False}
    assert paint(canvas, bare, leaves) == seen.sum() == (~bare).sum()
    np.testing.assert_array_equal(~bare, seen)
    np.testing.assert_allclose(canvas, expected, atol=1e-6)


def test_images_of_all_kinds() -> None:
    def make(*shape: int, dtype: str = "uint8", count: int = 40) -> Array:
        return DeadLeaves(shape, dtype)(count, np.random.default_rng(3))

    for shape in ((1, 8, 8), (3, 9, 20), (2, 24, 24), (3, 224, 224)):
        images = make(*shape, count=2)
        assert (images.shape, images.dtype.name) == ((2, *shape), "uint8")
        assert images.std() > 20
    floats = make(1, 8, 8, dtype="float32")
    assert floats.dtype == np.float32
    assert (floats.min(), floats.max()) == (0, 1)
    np.testing.assert_array_equal(np.rint(floats * 255), make(1, 8, 8))
    colours = make(3, 32, 32)
    assert np.abs(colours[:, 0].astype(int) - colours[:, 1]).mean() > 10
    gray = DeadLeaves((3, 16, 16), saturation=0, tilt=0)(2, np.random.default_rng(0))
    np.testing.assert_array_equal(gray[:, 0], gray[:, 2])


@pytest.mark.parametrize("rate", [4000, 16000])
def test_windows_add_up_to_what_they_were_cut_from(rate: int) -> None:
    hop = rate // 50
    samples = np.random.default_rng(0).normal(size=(3, 9 * hop)).astype(np.float32)
    spectra = _spectra(samples, hop)
    assert spectra.shape == (3, 8, hop + 1)
    np.testing.assert_allclose(_overlapped(spectra, hop), samples[:, hop:-hop], atol=1e-5)


def test_pulses_come_at_the_pitch_with_power_1() -> None:
    rate, hop = 8000, 80
    pitch = np.array([[100.0] * 99, [250.0] * 99])
    found = _pulses(pitch, hop, rate, np.random.default_rng(0))
    assert found.shape == (2, rate)
    assert np.abs(np.count_nonzero(found, axis=1) - [100, 250]).max() <= 1
    assert set(np.diff(np.flatnonzero(found[0]))) <= {79, 80, 81}
    np.testing.assert_allclose(np.square(found).mean(axis=1), 1, rtol=0.02)


@pytest.mark.parametrize(
    ("length", "rate"), [(4000, 4000), (16000, 16000), (800, 8000), (9000, 3000)]
)
def test_sounds_of_any_length_and_rate(length: int, rate: int) -> None:
    found = sounds(60, length, rate, np.random.default_rng(2))
    assert (found.shape, found.dtype.name) == ((60, length), "float32")
    assert 0.1 < np.abs(found).max() <= 1
    assert (np.abs(found).max(axis=1) > 1e-3).all()
    padded = (found[:, -2:] == 0).all(axis=1)
    assert 10 < padded.sum() < 50


def test_spectra_of_sounds_change_as_those_of_words_do() -> None:
    """Log energies of steady noise hardly differ from frame to frame; words begin and end."""
    features = LogMel(8000)
    found = Sounds(1.0, features)(64, np.random.default_rng(0))
    assert (found.shape, found.dtype.name) == ((64, 1, 40, 98), "float32")
    noise = features(np.random.default_rng(0).normal(size=(64, 8000)) * 0.1)

    def changes(values: Array) -> float:
        return float(np.median(values.mean(axis=-2).std(axis=-1)))

    assert changes(found) > 5 * changes(noise)
    np.testing.assert_array_equal(found, Sounds(1.0, features)(64, np.random.default_rng(0)))
