"""Spoken words: wav files, log-mel features, and both layouts, written here as they really are."""

from __future__ import annotations

import os
import re
import wave
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcomp.building import build
from fedcomp.config import compose_config
from fedcomp.data.log_mel import FLOOR, LogMel, mel, mel_filters
from fedcomp.data.speech_commands import SpeechCommands
from fedcomp.data.speech_files import in_test_part
from fedcomp.data.speech_twelve import CLASSES, WORDS
from fedcomp.data.wav import read_wav
from fedcomp.errors import ConfigError, DataError
from fedcomp.settings import parse
from fedcomp.tensors import Array

RATE = 4000
TESTERS = ("2aa787cf", "ffa76c4a", "24ad3ebe")
"""Speakers from Google's testing_list.txt; so Google's rule puts them there too."""
TRAINERS = ("4a294341", "43f57297", "f9af823e", "9ff2d2f4")


def write(path: Path, data: bytes, rate: int = RATE, width: int = 2, channels: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(data)


def tone(hertz: float, seconds: float = 0.3, rate: int = RATE) -> bytes:
    times = np.arange(round(seconds * rate)) / rate
    return (8000 * np.sin(2 * np.pi * hertz * times)).astype("<i2").tobytes()


def google(root: Path, words: tuple[str, ...] = ("cat", "go"), noise: float = 0) -> Path:
    """Write a tone for each word, of every speaker one recording."""
    for place, word in enumerate(words):
        for speaker in (*TESTERS, *TRAINERS):
            write(root / word / f"{speaker}_nohash_0.wav", tone(200 + 100 * place))
    if noise:
        rng = np.random.default_rng(0)
        for name in ("pink", "white"):
            data = (rng.normal(size=round(noise * RATE)) * 300).astype("<i2").tobytes()
            write(root / "_background_noise_" / f"{name}_noise.wav", data)
        (root / "_background_noise_" / "README.md").write_text("noise")
    return root


def digits(root: Path) -> Path:
    for digit in range(3):
        for speaker in ("jackson", "theo"):
            for i in range(7):
                write(root / "recordings" / f"{digit}_{speaker}_{i}.wav", tone(300 + 400 * digit))
    return root


@pytest.mark.parametrize(
    ("width", "data", "expected"),
    [
        (1, bytes([0, 128, 192, 255]), [-1, 0, 0.5, 127 / 128]),
        (2, np.array([-(2**15), 0, 2**14, 1], "<i2").tobytes(), [-1, 0, 0.5, 2**-15]),
        (3, b"\x00\x00\x80\x00\x00\x00\x00\x00\x40\x01\x00\x00", [-1, 0, 0.5, 2**-23]),
        (4, np.array([-(2**31), 0, 2**30, 1], "<i4").tobytes(), [-1, 0, 0.5, 2**-31]),
    ],
)
def test_wav_files_of_all_widths(
    tmp_path: Path, width: int, data: bytes, expected: list[float]
) -> None:
    write(tmp_path / "a.wav", data, 8000, width)
    samples, rate = read_wav(tmp_path / "a.wav")
    assert samples.dtype == np.float32
    assert (samples.tolist(), rate) == (expected, 8000)
    write(tmp_path / "b.wav", data, 8000, width, channels=2)
    mixed = read_wav(tmp_path / "b.wav")[0]
    np.testing.assert_allclose(mixed, np.reshape(expected, (2, 2)).mean(axis=1), rtol=1e-6)


def test_wav_files_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"

    def refused(what: str) -> None:
        with pytest.raises(DataError, match=rf"a\.wav.*{what}"):
            read_wav(path)

    refused("cannot be read: No such file")
    path.write_bytes(b"")
    refused("no wav file.*ends too early")
    path.write_bytes(b"ID3" + bytes(100))
    refused("no wav file.*RIFF")
    write(path, b"")
    refused("empty")
    write(path, tone(100))
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    refused("cut off: 2393 of 2400 bytes")
    path.write_bytes(whole[:20] + b"\x03\x00" + whole[22:])
    refused("uncompressed.*unknown format: 3")
    path.write_bytes(whole[:34] + b"\x28\x00" + whole[36:])
    refused("40 bit.*8, 16, 24 or 32 bit")


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 47), st.integers(0, 255)), max_size=3), st.integers(0, 64))
def test_damaged_wav_files_are_refused_or_read(
    tmp_path_factory: pytest.TempPathFactory, flips: list[tuple[int, int]], length: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.wav"
    write(path, bytes(range(20)))
    data = bytearray(path.read_bytes())
    for place, value in flips:
        data[place] = value
    path.write_bytes(data[:length])
    try:
        samples, _ = read_wav(path)
    except DataError:
        return
    assert samples.size > 0
    assert np.abs(samples).max() <= 1


def test_mel_scale_and_filters_at_known_points() -> None:
    np.testing.assert_allclose(mel(np.array([0, 700, 6300])), [0, 2595 * np.log10(2), 2595])
    filters = mel_filters(16000, 1024, 40)
    assert filters.shape == (40, 513)
    hertz = np.arange(513) * 16000 / 1024
    inside = (hertz >= _hertz(mel(60.0) + _step(40))) & (hertz <= _hertz(mel(7800.0) - _step(40)))
    np.testing.assert_allclose(filters[:, inside].sum(axis=0), 1)  # neighbours share each frequency
    assert not filters[:, (hertz < 60) | (hertz > 7800)].any()
    for k in (0, 17, 39):
        centre = _hertz(mel(60.0) + (k + 1) * _step(40))
        near = round(centre * 1024 / 16000)
        expected = 1 - abs(mel(near * 16000 / 1024) - mel(centre)) / _step(40)
        assert filters[k, near] == pytest.approx(expected)


def test_filters_end_at_half_the_rate() -> None:
    filters = mel_filters(8000, 512, 20)
    assert filters[-1, -1] == pytest.approx(0)
    assert filters[-1, -2] > 0


@pytest.mark.parametrize("band", [3, 20, 36])
def test_a_tone_lands_in_its_band_with_its_energy(band: int) -> None:
    features = LogMel(16000)
    centre = _hertz(mel(60.0) + (band + 1) * _step(40))
    times = np.arange(16000) / 16000
    sound = 0.5 * np.sin(2 * np.pi * centre * times)
    (found,) = features(sound[None])
    assert found.shape == (40, 98) == (40, features.frames(16000))
    assert (found.argmax(axis=0) == band).all()
    window = np.hanning(features.window + 1)[:-1]
    weights = features.filters[band]
    spectrum = np.fft.rfft(sound[160 * 5 : 160 * 5 + 400] * window, 1024)
    assert found[band, 5] == pytest.approx(np.log(weights @ np.abs(spectrum) ** 2 + 1e-6), rel=1e-4)


def test_energy_of_noise_follows_parseval() -> None:
    """White noise of variance v has v · Σ window² at each frequency, times a band's weights."""
    features = LogMel(16000, mels=12)
    noise = np.random.default_rng(1).normal(scale=0.1, size=(8, 16000))
    window = np.hanning(features.window + 1)[:-1]
    expected = 0.01 * (window**2).sum() * features.filters.sum(axis=1)
    energy = np.exp(features(noise).astype(np.float64)).mean(axis=(0, 2))
    np.testing.assert_allclose(energy, expected, rtol=0.1)


def test_features_of_silence_and_of_batches() -> None:
    features = LogMel(8000, window_ms=25, hop_ms=10)
    sounds = np.random.default_rng(0).normal(size=(5, 4000)).astype(np.float32)
    sounds[2] = 0
    found = features(sounds)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[2], np.log(FLOOR), rtol=1e-6)
    np.testing.assert_array_equal(found, features(sounds))
    np.testing.assert_allclose(found[3], features(sounds[3:4])[0], atol=1e-4)


def test_more_bands_than_frequencies() -> None:
    with pytest.raises(DataError, match=r"300 mel bands are too many.*at most (\d+) are") as caught:
        LogMel(8000, mels=300)
    found = re.search(r"at most (\d+)", str(caught.value))
    assert found is not None
    LogMel(8000, mels=int(found[1]))


def _step(mels: int) -> float:
    return float(mel(7800.0) - mel(60.0)) / (mels + 1)


def _hertz(mels: Array | float) -> float:
    return float(700 * (10 ** (mels / 2595) - 1))


def test_googles_layout_with_its_list(tmp_path: Path) -> None:
    root = google(tmp_path / "speech_commands")
    listed = [f"{word}/{TRAINERS[0]}_nohash_0.wav" for word in ("cat", "go")]
    (root / "testing_list.txt").write_text("\n".join([*listed, "go/absent_nohash_0.wav"]))
    (root / "validation_list.txt").write_text(f"cat/{TRAINERS[1]}_nohash_0.wav\n")
    data = SpeechCommands(mels=10).load(tmp_path)
    assert data.train.inputs.shape == (12, 1, 10, 98)
    assert data.input_shape == (1, 10, 98)
    assert (data.classes, data.task, data.skipped) == (2, "classification", ())
    assert data.names == ("cat", "go")
    assert data.test.targets.tolist() == [0, 1]
    assert data.train.targets.tolist() == [0] * 6 + [1] * 6
    order = sorted({*TESTERS, *TRAINERS})
    assert data.test.columns["speaker"].tolist() == [order.index(TRAINERS[0])] * 2
    assert set(data.train.columns["speaker"]) == set(range(7)) - {order.index(TRAINERS[0])}


def test_googles_rule_where_the_list_is_missing(tmp_path: Path) -> None:
    listed = "d7467392 5828dfa2 91223b83 f0ae7203 95ba4996 94de6a6a caf9fceb 82b99576 81dc4a94"
    assert all(in_test_part(speaker) for speaker in (*TESTERS, *listed.split()))
    assert not any(in_test_part(speaker) for speaker in TRAINERS)
    google(tmp_path / "SpeechCommands" / "speech_commands_v0.02")
    data = SpeechCommands(mels=10).load(tmp_path)
    assert (len(data.train), len(data.test)) == (8, 6)


def test_digits_layout(tmp_path: Path) -> None:
    digits(tmp_path / "fsdd")
    data = SpeechCommands(path="fsdd", mels=10, seconds=0.25).load(tmp_path)
    assert (len(data.train), len(data.test), data.classes) == (12, 30, 3)
    assert np.bincount(data.train.columns["speaker"]).tolist() == [6, 6]
    prepared = data.train.preparation
    assert prepared.mean[0] == pytest.approx(data.train.inputs.mean(dtype=np.float64))
    assert prepared.std[0] == pytest.approx(data.train.inputs.std(dtype=np.float64))
    sound = np.zeros((1, 1000), np.float32)
    sound[0] = read_wav(tmp_path / "fsdd/recordings/0_jackson_5.wav")[0][:1000]
    np.testing.assert_allclose(
        data.train.inputs[0, 0], LogMel(RATE, 10)(sound)[0], atol=1e-3, rtol=1e-4
    )
    plain = SpeechCommands(path="fsdd", mels=10, seconds=0.25, normalise=False).load(tmp_path)
    assert plain.train.preparation.mean == ()
    assert len(list((tmp_path / ".fedcomp").iterdir())) == 1  # normalising needs no second store


def test_a_store_is_made_once_and_again_after_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits(tmp_path / "fsdd")
    threads = torch.get_num_threads()
    first = SpeechCommands(path="fsdd", mels=10).load(tmp_path)
    assert torch.get_num_threads() == threads
    with monkeypatch.context() as patch:
        patch.setattr(SpeechCommands, "_build", None)
        again = SpeechCommands(path="fsdd", mels=10).load(tmp_path)
    assert isinstance(again.train.inputs.base, np.memmap)
    np.testing.assert_array_equal(first.train.inputs, again.train.inputs)
    write(tmp_path / "fsdd/recordings/1_theo_6.wav", tone(1500, 0.2))
    changed = SpeechCommands(path="fsdd", mels=10).load(tmp_path)
    assert (changed.train.inputs != first.train.inputs).any(axis=(1, 2, 3)).sum() == 1


def test_twelve_classes(tmp_path: Path) -> None:
    google(tmp_path / "speech_commands", (*WORDS, "bed", "cat", "zero"), noise=10)
    data = SpeechCommands(words="twelve", mels=10).load(tmp_path)
    count = Counter(CLASSES[target] for target in data.train.targets)
    assert count == dict.fromkeys(WORDS, 4) | {"_unknown_": 3 * 4, "_silence_": 2 * 15}
    count = Counter(CLASSES[target] for target in data.test.targets)
    assert count == dict.fromkeys(WORDS, 3) | {"_unknown_": 3, "_silence_": 3}
    silent = data.train.targets == CLASSES.index("_silence_")
    assert len(np.unique(data.train.inputs[silent], axis=0)) == 30
    assert len(np.unique(data.train.columns["speaker"][silent])) == len(TRAINERS)
    heard = {piece.tobytes() for piece in data.train.inputs[silent]}
    tested = data.test.inputs[data.test.targets == CLASSES.index("_silence_")]
    assert len({piece.tobytes() for piece in tested} - heard) == 3
    assert not set(data.train.columns["speaker"]) & set(data.test.columns["speaker"])


def test_twelve_classes_without_a_test_part(tmp_path: Path) -> None:
    root = google(tmp_path / "speech_commands", (*WORDS, "cat"), noise=1)
    (root / "testing_list.txt").write_text(f"cat/{TRAINERS[0]}_nohash_0.wav")
    with pytest.raises(DataError, match="none of the ten words has a recording in the test part"):
        SpeechCommands(words="twelve", mels=10).load(tmp_path)


def test_noise_shorter_than_a_piece(tmp_path: Path) -> None:
    google(tmp_path / "speech_commands", (*WORDS, "cat"), noise=0.2)
    data = SpeechCommands(words="twelve", mels=10).load(tmp_path)
    assert np.bincount(data.train.targets)[-1] == 2
    assert np.bincount(data.test.targets)[-1] == 3


def test_corrupt_recordings(tmp_path: Path) -> None:
    root = google(tmp_path / "speech_commands", (*WORDS, "cat"), noise=3)
    (root / "cat" / f"{TRAINERS[0]}_nohash_0.wav").write_bytes(b"no sound")
    (root / "_background_noise_" / "pink_noise.wav").write_bytes(b"")
    with pytest.raises(DataError, match=r"4a294341_nohash_0\.wav.*dataset\.skip_corrupt=true"):
        SpeechCommands(mels=10).load(tmp_path)
    assert not list((tmp_path / ".fedcomp").iterdir())
    data = SpeechCommands(mels=10, skip_corrupt=True).load(tmp_path)
    assert (len(data.skipped), len(data.train)) == (1, 43)
    assert data.skipped[0].startswith("cat/4a294341_nohash_0.wav is no wav file")
    data = SpeechCommands(words="twelve", mels=10, skip_corrupt=True).load(tmp_path)
    assert len(data.skipped) == 2
    for path in root.glob("*/*_nohash_*.wav"):
        path.write_bytes(b"")
    message = r"its 0 recordings .* \(77 were left out, the first: cat/24ad3ebe_nohash_0\.wav is no"
    with pytest.raises(DataError, match=message):
        SpeechCommands(mels=10, skip_corrupt=True).load(tmp_path)


def test_a_link_to_nothing_is_a_corrupt_recording(tmp_path: Path) -> None:
    path = digits(tmp_path / "fsdd") / "recordings" / "0_theo_9.wav"
    SpeechCommands(path="fsdd", mels=10).load(tmp_path)
    path.symlink_to(tmp_path / "nothing")
    with pytest.raises(
        DataError, match=r"0_theo_9\.wav cannot be read: No such file.*skip_corrupt"
    ):
        SpeechCommands(path="fsdd", mels=10).load(tmp_path)
    (text,) = SpeechCommands(path="fsdd", mels=10, skip_corrupt=True).load(tmp_path).skipped
    assert text == "recordings/0_theo_9.wav cannot be read: No such file or directory"


def test_recordings_of_another_rate_than_most_can_be_left_out(tmp_path: Path) -> None:
    path = digits(tmp_path / "fsdd") / "recordings" / "0_adam_9.wav"
    write(path, tone(300), rate=8000)
    with pytest.raises(DataError, match=r"one rate, .*another rate .*dataset\.skip_corrupt=true"):
        SpeechCommands(path="fsdd", mels=10).load(tmp_path)
    data = SpeechCommands(path="fsdd", mels=10, skip_corrupt=True).load(tmp_path)
    assert (len(data.train), len(data.test)) == (12, 30)
    (text,) = data.skipped
    assert text == "recordings/0_adam_9.wav has 8000 samples a second, most have 4000"


@pytest.mark.skipif(os.name != "posix", reason="other systems allow no such names")
@pytest.mark.parametrize("folder", ["speech_commands/cat", "speech_commands", "fsdd/recordings"])
def test_a_name_that_is_no_text_is_refused(tmp_path: Path, folder: str) -> None:
    google(tmp_path / "speech_commands")
    digits(tmp_path / "fsdd")
    try:
        Path(os.fsdecode(os.fsencode(tmp_path / folder) + b"/0_\xff_1.wav")).mkdir()
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    with pytest.raises(DataError, match=rf"{folder}: the name .* is not UTF-8; rename it"):
        SpeechCommands(path=folder.split("/")[0], mels=10).load(tmp_path)


def test_features_are_normalised_by_the_training_part_alone(tmp_path: Path) -> None:
    root = digits(tmp_path / "fsdd") / "recordings"
    for path in root.glob("*_[0-4].wav"):
        write(path, tone(900, 0.1))
    data = SpeechCommands(path="fsdd", mels=10, seconds=0.25).load(tmp_path)
    inputs, prepared = data.train.inputs.astype(np.float64), data.train.preparation
    assert abs(inputs.mean() - data.test.inputs.mean(dtype=np.float64)) > 1
    assert prepared.mean == pytest.approx([inputs.mean()])
    assert prepared.std == pytest.approx([inputs.std()])
    assert data.test.preparation == prepared


def test_data_that_cannot_be_used(tmp_path: Path) -> None:
    def refused(what: str, settings: SpeechCommands | None = None) -> None:
        with pytest.raises(DataError, match=what):
            (settings or SpeechCommands(mels=10)).load(tmp_path)

    refused(r"no folder .*speech_commands nor .*v0\.02 .*unpack http.*dataset\.path=fsdd")
    refused("no folder .*mine ", SpeechCommands(path="mine"))
    root = tmp_path / "speech_commands"
    root.mkdir()
    refused("neither Google's layout .* nor that of the spoken digits")
    google(root)
    twelve = SpeechCommands(mels=10, words="twelve")
    refused("needs all ten words; without recordings: down, left, no", twelve)
    google(root, WORDS)
    refused("cuts its silence from _background_noise_", twelve)
    (root / "testing_list.txt").write_bytes(b"\xff\xfe damaged")
    refused("none of its 77 recordings belongs to the test part")
    (root / "testing_list.txt").unlink()
    refused("200 mel bands are too many", SpeechCommands(mels=200))
    odd = root / "cat" / f"{TRAINERS[0]}_nohash_1.wav"
    write(odd, tone(300), rate=8000)
    refused(r"24ad3ebe_nohash_0\.wav has 4000 .*4a294341_nohash_1\.wav has 8000")
    odd.unlink()
    (root / "empty").mkdir()
    refused("empty: a word without a wav file")
    digits(root)
    write(root / "recordings" / "seven.wav", tone(300))
    refused(r"seven\.wav: the name is not <digit>_<speaker>_<number>\.wav")


def test_silent_recordings(tmp_path: Path) -> None:
    for digit, i in ((0, 0), (0, 5), (1, 5)):
        write(tmp_path / "fsdd" / "recordings" / f"{digit}_theo_{i}.wav", bytes(2000))
    with pytest.raises(DataError, match="all 2 recordings of the train part sound alike"):
        SpeechCommands(path="fsdd", mels=10).load(tmp_path)


def test_settings() -> None:
    found = parse(compose_config(["dataset=speech_commands", "dataset.words=twelve"])).dataset
    assert found == SpeechCommands(words="twelve")
    with pytest.raises(ConfigError, match=r"window_ms=200 is longer than seconds=0\.1"):
        build(SpeechCommands, {"window_ms": 200.0, "seconds": 0.1}, "dataset")
