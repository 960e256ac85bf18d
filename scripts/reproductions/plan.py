"""What a comparison consists of."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from scripts.reproductions.curves import Counted


Size: TypeAlias = Literal["", "quick", "full"]
"""How long runs are: as planned, for minutes on two cores, or for a GPU."""


@dataclass(frozen=True, kw_only=True)
class Sized:
    """A plan whose runs may be shorter or longer.

    Attributes
    ----------
    quick
        More words under `--quick`, which takes minutes on two cores and the first seed alone.
    full
        More words under `--full`, which is for a machine with a GPU.
    """

    quick: tuple[str, ...] = ()
    full: tuple[str, ...] = ()

    def more(self, size: Size) -> tuple[str, ...]:
        """Return the words by which runs are shorter or longer than planned."""
        return {"": (), "quick": self.quick, "full": self.full}[size]


class Job(NamedTuple):
    """One run of a comparison.

    Attributes
    ----------
    after
        The job whose model it quantises, by `fedcomp-quantise`; none: it is a run of `fedcomp`.
    """

    run: str
    case: str
    seed: int | None
    words: tuple[str, ...]
    after: str | None = None

    @property
    def folder(self) -> str:
        """The name of its folder."""
        seed = "" if self.seed is None else f"seed{self.seed}"
        return "-".join(part for part in (self.run, self.case, seed) if part)


@dataclass(frozen=True)
class Plan(Sized):
    """Runs that differ in what is compared and in nothing else.

    Attributes
    ----------
    field
        The words that all runs share.
    runs
        The words of each run by its name.
    reference
        The run that gives the target, the metric after half its rounds, and the bytes to reach it.
    counted
        Which bytes are compared.
    budget_bytes
        A number of bytes at which all runs are compared, too.
    cases
        Words of settings in each of which all runs are compared; each has a target of its own.
    drawn
        The runs of the picture in a README; none: all.
    seeds
        Every run is there once for each; none: once, with the field's seed.
    """

    field: tuple[str, ...]
    runs: Mapping[str, tuple[str, ...]]
    reference: str
    counted: Counted = "both"
    budget_bytes: int | None = None
    drawn: tuple[str, ...] = ()
    cases: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=lambda: {"": ()})
    seeds: tuple[int, ...] = ()

    def jobs(self, size: Size = "") -> Iterator[Job]:
        """Yield all runs, those that are compared with each other one after the other."""
        seeds = self.seeds[: 1 if size == "quick" else None] or (None,)
        more = self.more(size)
        for case, setting in self.cases.items():
            for seed in seeds:
                last = () if seed is None else (f"seed={seed}",)
                for run, words in self.runs.items():
                    given = (*self.field, *setting, *words, *last, *more)
                    yield Job(run, case, seed, given)

    def given(self, job: Job, more: Sequence[str]) -> list[str]:
        """Return a job's words, and more that are for all."""
        return [*job.words, *more]
