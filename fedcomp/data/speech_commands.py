"""Spoken words as log-mel features: Google's Speech Commands and the Free Spoken Digit Dataset."""

from __future__ import annotations

import math
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, cast

import numpy as np
from annotated_types import Ge, Le

from fedcomp.data import speech_files, speech_twelve
from fedcomp.data.base import Dataset, DatasetSettings
from fedcomp.data.files import sound
from fedcomp.data.log_mel import LogMel, one_torch_thread
from fedcomp.data.preparation import Preparation
from fedcomp.data.sounds import SoundReader, Sounds
from fedcomp.data.store import Writer, fingerprint, stored
from fedcomp.data.wav import of_length, read_wav
from fedcomp.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fedcomp.data.speech_files import Recording
    from fedcomp.tensors import Array

_CHUNK = 16
"""Recordings that a thread reads, and computes the features of, at a time."""

_NOTES = "names skipped mean std rate"
"""Part of the key of a store, so that it tells all of them."""

_LEAST_STD = 1e-3
"""Of log energies; what differs by less is rounding."""


@dataclass(frozen=True)
class SpeechCommands(DatasetSettings):
    """One word a recording; inputs (1, mels, frames), without augmentation.

    Parameters
    ----------
    path
        Folder in data_dir; its layout is recognised.
    words
        A class for each word, or twelve: ten words, the unknown and silence.
    mels
        Bands of the features.
    seconds
        Shorter recordings are padded with zeros at their end, longer ones are cut there.
    window_ms, hop_ms
        Length of a window of the features, and the time from one to the next.
    normalise
        Subtract the training part's mean and divide by its standard deviation.
    skip_corrupt
        Leave out recordings that cannot be read, or have another rate than most, instead of
        stopping at the first.
    """

    name: ClassVar[str] = "speech_commands"
    kind: ClassVar[Literal["images", "sounds"]] = "sounds"

    path: str = speech_files.DEFAULT
    words: Literal["all", "twelve"] = "all"
    mels: Annotated[int, Ge(1), Le(512)] = 40
    seconds: Annotated[float, Ge(0.1), Le(60)] = 1.0
    window_ms: Annotated[float, Ge(1), Le(1000)] = 25.0
    hop_ms: Annotated[float, Ge(1), Le(1000)] = 10.0
    normalise: bool = True
    skip_corrupt: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.window_ms > 1000 * self.seconds:
            msg = f"window_ms={self.window_ms:g} is longer than seconds={self.seconds:g}"
            raise ValueError(msg)

    def load(self, data_dir: Path) -> Dataset:
        """Return the data set; its features are computed the first time only."""
        root = speech_files.find_root(data_dir, self.path)
        recordings = speech_files.find_recordings(root)
        noises = self._noises(root)
        others = [*noises, *root.glob(speech_files.TEST_LIST)]
        files = [*(Path(r.path) for r in recordings), *others]
        settings = (self.words, self.mels, self.seconds, self.window_ms, self.hop_ms)
        key = {
            "settings": [*settings, self.skip_corrupt],
            "files": fingerprint(files, root),
            "notes": _NOTES,
        }
        store = stored(
            data_dir, self.name, key, lambda writer: self._build(writer, root, recordings, noises)
        )
        notes = store.notes
        known = ((notes["mean"],), (notes["std"],)) if self.normalise else ((), ())
        train, test = (store.samples(part, Preparation(*known)) for part in ("train", "test"))
        names = tuple(notes["names"])
        return Dataset(
            train, test, len(names), "classification", store.skipped, names, notes["rate"]
        )

    def synthesiser(self, dataset: Dataset) -> Sounds:
        """Return what makes features of sounds that nobody has made."""
        return Sounds(self.seconds, self._features(dataset))

    def reader(self, dataset: Dataset) -> SoundReader:
        """Return what makes features of anybody's recordings."""
        return SoundReader(self.seconds, self._features(dataset))

    def _features(self, dataset: Dataset) -> LogMel:
        return LogMel(cast("int", dataset.rate), self.mels, self.window_ms, self.hop_ms)

    def _noises(self, root: Path) -> list[Path]:
        folder = root / speech_files.NOISE
        if self.words == "all" or not folder.is_dir():
            return []
        return [folder / name for name in speech_files.wav_names(folder)]

    def _build(
        self, writer: Writer, root: Path, recordings: Sequence[Recording], noises: Sequence[Path]
    ) -> None:
        """Fill a store."""
        unfit: dict[Path, str] = {}
        if self.skip_corrupt:
            unfit = _unfit([*(Path(r.path) for r in recordings), *noises], root)
            recordings = [r for r in recordings if Path(r.path) not in unfit]
            noises = [path for path in noises if path not in unfit]
        _check_parts(root, recordings, list(unfit.values()))
        reader = _Reader(Path(recordings[0].path), self.seconds, noises)
        words: Sequence[str] = sorted({recording.word for recording in recordings})
        if self.words == "twelve":
            words = speech_twelve.CLASSES
            recordings = speech_twelve.twelve(recordings, reader.noise_samples, reader.length)
        speakers = sorted({recording.speaker for recording in recordings})
        features = LogMel(reader.rate, self.mels, self.window_ms, self.hop_ms)
        for part in ("train", "test"):
            chosen = [r for r in recordings if r.test == (part == "test")]
            mean, std = _write(writer, part, chosen, reader, features)
            targets = _codes([r.word for r in chosen], words)
            codes = _codes([r.speaker for r in chosen], speakers)
            writer.labels(part, targets, columns={"speaker": codes})
            if part == "train":
                writer.notes |= {"mean": mean, "std": std}
        skipped = list(unfit.values())
        writer.notes |= {"names": list(words), "skipped": skipped, "rate": reader.rate}


class _Reader:
    """Reads recordings of one rate, each to the same length."""

    def __init__(self, first: Path, seconds: float, noises: Sequence[Path]) -> None:
        self._first = first
        self.rate = _read(first)[1]
        self.length = round(seconds * self.rate)
        self._noises = {str(path): self._samples(path) for path in noises}
        self.noise_samples = {path: len(noise) for path, noise in self._noises.items()}

    def __call__(self, recording: Recording) -> Array:
        noise = self._noises.get(recording.path)
        samples = self._samples(Path(recording.path)) if noise is None else noise
        return of_length(samples[recording.start :], self.length)

    def _samples(self, path: Path) -> Array:
        samples, rate = _read(path)
        if rate != self.rate:
            msg = (
                f"{self._first} has {self.rate} samples a second and {path} has {rate}; all"
                " recordings of a data set need one rate, so resample them, or leave out those of"
                " another rate than most with dataset.skip_corrupt=true"
            )
            raise DataError(msg)
        return samples


def _read(path: Path) -> tuple[Array, int]:
    try:
        return read_wav(path)
    except DataError as error:
        msg = f"{error}; replace the file, or leave out such ones with dataset.skip_corrupt=true"
        raise DataError(msg) from error


def _unfit(paths: Sequence[Path], root: Path) -> dict[Path, str]:
    """Return the files that cannot be read or have another rate than most, each with why."""
    rates: dict[Path, int] = {}

    def read(path: Path) -> None:
        rates[path] = read_wav(path)[1]

    kept, left_out = sound(paths, read, root, skip=True)
    found = dict(left_out)
    if kept:
        usual = Counter(rates[path] for path in kept).most_common(1)[0][0]
        for path in (path for path in kept if rates[path] != usual):
            found[path] = (
                f"{path.relative_to(root)} has {rates[path]} samples a second, most have {usual}"
            )
    return found


def _check_parts(root: Path, recordings: Sequence[Recording], left_out: Sequence[str]) -> None:
    lost = f" ({len(left_out)} were left out, the first: {left_out[0]})" if left_out else ""
    for part, test in (("train", False), ("test", True)):
        if not any(recording.test == test for recording in recordings):
            msg = (
                f"{root}: none of its {len(recordings)} recordings belongs to the {part} part"
                f"{lost}; conf/dataset/speech_commands.yaml says how they are divided"
            )
            raise DataError(msg)


def _write(
    writer: Writer, part: str, recordings: Sequence[Recording], reader: _Reader, features: LogMel
) -> tuple[float, float]:
    """Write the inputs of a part; return their mean and standard deviation."""
    shape = (len(recordings), 1, features.mels, features.frames(reader.length))
    inputs = writer.array(f"{part}-inputs", shape, "float32")

    def fill(start: int) -> tuple[float, float]:
        chunk = recordings[start : start + _CHUNK]
        values = features(np.stack([reader(recording) for recording in chunk]))
        inputs[start : start + len(chunk), 0] = values
        return float(values.sum(dtype=np.float64)), float(np.square(values, dtype=np.float64).sum())

    with one_torch_thread() as threads, ThreadPoolExecutor(threads) as pool:
        sums = list(pool.map(fill, range(0, len(recordings), _CHUNK)))
    mean, square = (math.fsum(values) / inputs.size for values in zip(*sums, strict=True))
    std = math.sqrt(max(square - mean**2, 0))
    if std < _LEAST_STD:
        msg = f"all {len(recordings)} recordings of the {part} part sound alike; are they silent?"
        raise DataError(msg)
    return mean, std


def _codes(values: Sequence[str], names: Sequence[str]) -> Array:
    """Return the place of each value among the names."""
    code = {name: place for place, name in enumerate(names)}
    return np.array([code[value] for value in values], np.int64)
