"""Ways to quantise one trained net, each a run of `fedcomp-quantise`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from fedcomp.commands import key_of
from fedcomp.quantise.cli import OF_TRAIN, SHARED
from fedcomp.quantise.settings import QuantiseSettings
from scripts.reproductions.plan import Job, Sized

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from scripts.reproductions.plan import Size

TRAINED = "trained"
"""The run that trains the net."""

_OWN = {field.name for field in fields(QuantiseSettings)}


@dataclass(frozen=True)
class Quantising(Sized):
    """A net that `fedcomp` trains, once, and ways in which `fedcomp-quantise` makes it small.

    Attributes
    ----------
    field
        The words that all share; either command is given those that it reads.
    runs
        The words of each way by its name.
    """

    field: tuple[str, ...]
    runs: Mapping[str, tuple[str, ...]]

    def jobs(self, size: Size = "") -> Iterator[Job]:
        """Yield the training, then all that start from its net."""
        last = self.more(size)
        yield Job(TRAINED, "", None, tuple(filter(is_read_in_training, (*self.field, *last))))
        for run, words in self.runs.items():
            given = filter(is_read_in_quantising, (*self.field, *words, *last))
            yield Job(run, "", None, tuple(given), TRAINED)

    def given(self, job: Job, more: Sequence[str]) -> list[str]:
        """Return a job's words, and of more those that its command reads."""
        is_read = is_read_in_training if job.after is None else is_read_in_quantising
        return [*job.words, *filter(is_read, more)]


def is_read_in_training(word: str) -> bool:
    """Tell whether a word is one for `fedcomp`, as all are that nobody knows."""
    return _top(word) not in _OWN


def is_read_in_quantising(word: str) -> bool:
    """Tell whether `fedcomp-quantise` reads a word.

    Examples
    --------
    >>> [is_read_in_quantising(word) for word in ("bits=3", "seed=1", "rounds=2", "train.lr=1")]
    [True, True, False, False]
    """
    key, top = word.partition("=")[0], _top(word)
    if top == "train":
        return key.partition(".")[2] in OF_TRAIN
    return top in _OWN or top in SHARED


def _top(word: str) -> str:
    return key_of(word).partition(".")[0]
