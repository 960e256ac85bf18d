"""What was found, for people: a table, what runs would send, and commands to go on with."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from rich.table import Table

from fedcomp.advise.knobs import word
from fedcomp.advise.search import undominated
from fedcomp.report.units import megabytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fedcomp.advise.search import Answer
    from fedcomp.settings import Settings

SHOWN = 3
"""Commands that are printed unless all are asked for."""


def table(answers: Sequence[Answer], settings: Settings, elements: int) -> Table:
    """Return a row for each codec, those that fit first, by error."""
    found = Table(header_style="bold")
    found.add_column("codec", no_wrap=True)
    found.add_column("setting")
    names = ("bytes", "ratio", "bits/weight", "error", "cosine", "seconds")
    for name in names:
        found.add_column(name, justify="right", no_wrap=True)
    found.add_column("feedback", no_wrap=True)
    fitting = sum(answer.fits for answer in answers)
    for place, answer in enumerate(answers, 1):
        it = answer.measured
        found.add_row(
            answer.name,
            " ".join(word(*item).removeprefix("uplink.") for item in answer.settings.items()),
            f"{it.packet_bytes:,}",
            f"{4 * elements / it.packet_bytes:.1f} x",
            f"{8 * it.payload_bytes / elements:.3f}",
            f"{it.error:.3g}",
            f"{it.cosine:.4f}",
            f"{it.encode_seconds + it.decode_seconds:.3f}",
            _feedback(answer, settings),
            style=None if answer.fits else "dim",
            end_section=place == fitting,
        )
    return found


def _feedback(answer: Answer, settings: Settings) -> str:
    """Say whether a run would send later what this packet left out."""
    if not answer.measured.error:
        return "not needed"
    kept = settings.link.feedback_with(answer.measured.codec, background=False)
    return "yes" if kept else "no"


def notes(
    answers: Sequence[Answer],
    settings: Settings,
    budget: int,
    elements: int,
    downlink_bytes: int,
) -> Iterator[str]:
    """Yield what the table means, line by line."""
    fitting = [answer for answer in answers if answer.fits]
    if not fitting:
        least = answers[0]
        yield (
            f"No codec brings this update through {budget:,} bytes; {least.name} gets nearest, to"
            f" {least.measured.packet_bytes:,}"
        )
        return
    if len(fitting) < len(answers):
        yield "Below the line: codecs that do not fit, at their smallest."
    front = ", ".join(
        f"{answer.name} ({answer.measured.error:.3g} at {megabytes(answer.measured.packet_bytes)})"
        for answer in undominated(fitting)
    )
    yield f"Pareto-best, nothing is smaller and loses less: {front}"
    best = fitting[0]
    clients, rounds = settings.clients_per_round, settings.rounds
    up, down = clients * best.measured.packet_bytes, clients * downlink_bytes
    plain = 8 * elements * clients * rounds
    yield (
        f"With {best.name}, a round of {clients} clients is {megabytes(up)} up and"
        f" {megabytes(down)} down (codec@downlink={settings.downlink.name}); {rounds} rounds are"
        f" about {megabytes(rounds * (up + down))}, uncompressed {megabytes(plain)}"
    )
    yield (
        "Packets of other rounds have other sizes: with a given step they grow and shrink with the"
        " updates, with a density, a rank or bits they hardly do"
    )
    yield (
        "What one packet loses is not the accuracy of a run: feedback sends it later, and noise"
        " averages out over clients. Try the best few: fedcomp -m codec@uplink=…"
    )


def command(answer: Answer, words: Sequence[str]) -> str:
    """Return the command line of a run with a codec as it was measured."""
    return f"fedcomp {shlex.join(run_words(answer, words))}"


def run_words(answer: Answer, words: Sequence[str]) -> list[str]:
    """Return the words of such a run."""
    own = [word(*item) for item in answer.settings.items()]
    return [*words, f"codec@uplink={answer.name}", *own]
