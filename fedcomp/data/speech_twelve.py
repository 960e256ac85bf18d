"""Keyword spotting with twelve classes: ten words, everything else, and silence.

Warden, "Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition", arXiv:1804.03209.
Which recordings that means is as in TensorFlow Datasets: to train, all other words are unknown,
and silence is every piece of the background noise, each overlapping the next by half; to test,
unknown and silence are each a tenth as many as the ten words together.  Training never hears the
last fifth of each noise, from which the test's silence comes.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from fedcomp import seeds
from fedcomp.data.speech_files import NOISE, Recording
from fedcomp.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

WORDS = ("down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes")
UNKNOWN, SILENCE = "_unknown_", "_silence_"
CLASSES = (*WORDS, UNKNOWN, SILENCE)

_SHARE = 0.1
_TRAINING_NOISE = 0.8


def twelve(
    recordings: Sequence[Recording], noises: Mapping[str, int], length: int
) -> list[Recording]:
    """Return the recordings of the task.

    Parameters
    ----------
    recordings
        Those of all words.
    noises
        By path, how many samples each recording of background noise has.
    length
        Samples of a piece of silence.
    """
    missing = sorted(set(WORDS) - {recording.word for recording in recordings})
    if missing:
        msg = f"dataset.words=twelve needs all ten words; without recordings: {', '.join(missing)}"
        raise DataError(msg)
    if not noises:
        msg = f"dataset.words=twelve cuts its silence from {NOISE}/*.wav, and there is none"
        raise DataError(msg)
    known = [r for r in recordings if r.word in WORDS]
    other = [r._replace(word=UNKNOWN) for r in recordings if r.word not in WORDS]
    count = ceil(_SHARE * sum(r.test for r in known))
    other_test = [r for r in other if r.test]
    order = seeds.generator("speech_commands", UNKNOWN).permutation(len(other_test))
    unknown = [other_test[i] for i in sorted(order[:count])]
    silence = _deal(_training_cuts(noises, length), known, test=False)
    silence += _deal(_test_cuts(noises, length, count), known, test=True)
    return [*known, *(r for r in other if not r.test), *unknown, *silence]


def _training_cuts(noises: Mapping[str, int], length: int) -> list[tuple[str, int]]:
    """Return the pieces of each noise's first four fifths, half a piece apart."""
    ends = {path: int(_TRAINING_NOISE * samples) for path, samples in noises.items()}
    return [
        (path, start)
        for path, end in ends.items()
        for start in range(0, max(end - length, 0) + 1, max(length // 2, 1))
    ]


def _test_cuts(noises: Mapping[str, int], length: int, count: int) -> list[tuple[str, int]]:
    """Return so many pieces of the last fifths, in turn from each noise, evenly apart."""
    each = ceil(count / len(noises))
    starts = {
        path: np.linspace(int(_TRAINING_NOISE * n), max(n - length, int(_TRAINING_NOISE * n)), each)
        for path, n in noises.items()
    }
    cuts = [(path, int(starts[path][i])) for i in range(each) for path in noises]
    return cuts[:count]


def _deal(
    cuts: Iterable[tuple[str, int]], known: Iterable[Recording], *, test: bool
) -> list[Recording]:
    """Give silence to a part's speakers in turn; a partition by speaker needs one for each."""
    speakers = sorted({recording.speaker for recording in known if recording.test == test})
    if not speakers:
        part = "test" if test else "train"
        msg = f"dataset.words=twelve: none of the ten words has a recording in the {part} part"
        raise DataError(msg)
    return [
        Recording(path, SILENCE, speakers[i % len(speakers)], test, start)
        for i, (path, start) in enumerate(cuts)
    ]
