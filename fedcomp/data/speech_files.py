"""Which recordings of spoken words lie in a folder: their words, speakers and parts.

Two layouts are known by what lies there:

    <word>/<speaker>_nohash_<n>.wav          Google's Speech Commands, with testing_list.txt
    recordings/<word>_<speaker>_<n>.wav      the Free Spoken Digit Dataset
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, NamedTuple

from fedcomp.data.files import entries
from fedcomp.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT = "speech_commands"
TORCHAUDIO = "SpeechCommands/speech_commands_v0.02"
NOISE = "_background_noise_"
TEST_LIST = "testing_list.txt"

_URL = "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz"
_DIGITS_URL = "https://github.com/Jakobovski/free-spoken-digit-dataset"
_DIGITS_NAME = re.compile(r"([^_]+)_(.+)_(\d+)\.wav", re.IGNORECASE)
_DIGITS_TEST = 5
_HASH_RANGE = 2**27


class Recording(NamedTuple):
    """A file or, where `start` is not 0, what begins at that sample of it."""

    path: str
    word: str
    speaker: str
    test: bool
    start: int = 0


def find_root(data_dir: Path, path: str) -> Path:
    """Return the folder of a data set, torchaudio's for the default path too."""
    looked = [data_dir / path] + ([data_dir / TORCHAUDIO] if path == DEFAULT else [])
    for root in looked:
        if root.is_dir():
            return root
    places = " nor ".join(map(str, looked))
    msg = (
        f"speech_commands: no folder {places} (data_dir={data_dir}); unpack {_URL} to {looked[0]},"
        f" or clone {_DIGITS_URL} to {data_dir / 'fsdd'} and set dataset.path=fsdd"
    )
    raise DataError(msg)


def find_recordings(root: Path) -> list[Recording]:
    """Return all recordings of words, in the order of their names."""
    digits = root / "recordings"
    return _digits(digits) if digits.is_dir() else _google(root)


def wav_names(folder: Path) -> list[str]:
    """Return the names of the wav files in a folder, sorted."""
    return [path.name for path in entries(folder) if path.suffix.lower() == ".wav"]


def _digits(folder: Path) -> list[Recording]:
    """List the digits; the first five recordings of each digit and speaker are for testing."""
    found = []
    for name in wav_names(folder):
        match = _DIGITS_NAME.fullmatch(name)
        if match is None:
            msg = f"{folder / name}: the name is not <digit>_<speaker>_<number>.wav; move it away"
            raise DataError(msg)
        word, speaker, number = match.groups()
        found.append(Recording(f"{folder}/{name}", word, speaker, int(number) < _DIGITS_TEST))
    return found


def _google(root: Path) -> list[Recording]:
    """List Google's words; validation_list.txt is not read: its recordings are for training."""
    words = [p.name for p in entries(root) if p.is_dir() and not p.name.startswith("_")]
    if not words:
        msg = (
            f"{root} is neither Google's layout (<word>/<speaker>_nohash_<n>.wav) nor that of the"
            " spoken digits (recordings/<digit>_<speaker>_<n>.wav)"
        )
        raise DataError(msg)
    listed = root / TEST_LIST
    tests = set(listed.read_text("utf-8", "replace").split()) if listed.is_file() else None
    found = []
    for word in words:
        names = wav_names(root / word)
        if not names:
            msg = f"{root / word}: a word without a wav file; fill the folder or remove it"
            raise DataError(msg)
        for name in names:
            speaker = name[: -len(".wav")].split("_nohash_")[0]
            test = in_test_part(speaker) if tests is None else f"{word}/{name}" in tests
            found.append(Recording(f"{root}/{word}/{name}", word, speaker, test))
    return found


def in_test_part(speaker: str) -> bool:
    """Whether Google's rule puts a speaker in the test part, a tenth of all.

    The SHA-1 of the id, modulo 2^27, is a number in 0 … 100 %: below 10 % lies the validation
    part, below 20 % the test part.

    Examples
    --------
    >>> in_test_part("2aa787cf"), in_test_part("4a294341")
    (True, False)
    """
    digest = hashlib.sha1(speaker.encode(), usedforsecurity=False).digest()
    share = int.from_bytes(digest, "big") % _HASH_RANGE / (_HASH_RANGE - 1)
    return 0.1 <= share < 0.2
