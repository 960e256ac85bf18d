"""What must be the same in runs that are compared, and what a reader should be told of."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from fedcomp.errors import DataError
from fedcomp.report.comparison.groups import OWN, TASK, is_in, short, short_value, unlike

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fedcomp.report.comparison.groups import Group
    from fedcomp.report.runs import Run

_TOLD = ("rounds", "train", "strategy", "network", "link", "engine", *OWN)
"""What may differ and has to be said."""

_NAMED = 2


def refuse(groups: Sequence[Group], targets: Sequence[float]) -> None:
    """Raise `DataError` unless groups may be compared; names what differs, and in which runs.

    Parameters
    ----------
    targets
        Chosen for all; those of the runs need not be the same then.
    """
    settings = [group.settings for group in groups]
    names = [name for name in unlike(settings) if is_in(name, TASK)]
    runs = [(run, group.settings) for group in groups for run in group.runs]
    lines = [_line(short(n), [(run, s[n]) for run, s in runs if n in s]) for n in names]
    if not targets:
        asked = [(run, ", ".join(run.summary.get("bytes_to_target", {}))) for run, _ in runs]
        if len({target for _, target in asked}) > 1:
            lines.append(f"{_line('targets', asked)}; --target chooses one for all")
    if lines:
        msg = "\n  ".join(["the runs are not comparable; --any shows them all the same", *lines])
        raise DataError(msg)


def notes(groups: Sequence[Group]) -> list[str]:
    """Return what a reader of a comparison should know."""
    found = []
    settings = [group.settings for group in groups]
    told = [name for name in unlike(settings) if is_in(name, _TOLD)]
    if told:
        each = "; ".join(f"{short(name)} {_values(name, groups)}" for name in told)
        found.append(f"beside the methods these differ: {each}")
    if len(groups) > 1 and any("partition.name" not in given for given in settings):
        found.append("some runs have no .hydra: how their data were divided is not known")
    if any(s.get("network.compute") == "measured" for s in settings):
        found.append(
            "network times contain work as it was measured where the runs were made, busy or not;"
            " network.compute=SECONDS does without"
        )
    seeds = {group.label: sorted(map(str, group.seeds)) for group in groups}
    if len(set(map(tuple, seeds.values()))) > 1:
        found.append(f"the seeds differ: {_some(seeds)}")
    twice = {n: [s for s, count in Counter(v).items() if count > 1] for n, v in seeds.items()}
    if repeated := {name: again for name, again in twice.items() if again}:
        found.append(f"runs of one seed count twice: {_some(repeated)}")
    runs = [run for group in groups for run in group.runs]
    running = [run for run in runs if not run.is_finished]
    if running:
        found.append(
            f"{len(running)} of {len(runs)} runs have not finished (…);"
            f" they count as far as they are: {_folders(running)}"
        )
    versions = {str(run.summary.get("versions", {}).get("fedcomp", "?")) for run in runs}
    if len(versions) > 1:
        found.append(f"made by different versions of fedcomp: {', '.join(sorted(versions))}")
    return found


def _line(name: str, values: Iterable[tuple[Run, str]]) -> str:
    """Return which runs have which value of a setting."""
    where: dict[str, list[Run]] = {}
    for run, value in values:
        where.setdefault(value, []).append(run)
    shown = [f"{short_value(v) or 'none'} ({_folders(runs)})" for v, runs in where.items()]
    return f"{name}: {', '.join(shown)}"


def _values(name: str, groups: Sequence[Group]) -> str:
    found = dict.fromkeys(
        short_value(group.settings[name]) for group in groups if name in group.settings
    )
    return f"({', '.join(found)})"


def _folders(runs: Sequence[Run]) -> str:
    """Return the folders of the first runs, and how many more there are."""
    shown = ", ".join(str(run.folder) for run in runs[:_NAMED])
    return shown if len(runs) <= _NAMED else f"{shown} and {len(runs) - _NAMED} more"


def _some(values: Mapping[str, list[str]]) -> str:
    shown = [f"{name} ({', '.join(value)})" for name, value in list(values.items())[: 3 * _NAMED]]
    more = len(values) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more else "")
