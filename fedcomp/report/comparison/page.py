"""A report as one page that needs no network, no other file and no script to be read."""

from __future__ import annotations

from html import escape
from math import isfinite
from typing import TYPE_CHECKING

from fedcomp import __version__
from fedcomp.report.comparison.groups import differing, short
from fedcomp.report.comparison.inline_svg import inline_svg, lighter, variable
from fedcomp.report.comparison.page_style import SCRIPT, STYLE
from fedcomp.report.plots.palette import METHODS, looks
from fedcomp.report.units import NOTHING, duration, megabytes, times

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fedcomp.report.comparison.groups import Group
    from fedcomp.report.comparison.pictures import Picture
    from fedcomp.report.comparison.results import Column
    from fedcomp.report.plots.palette import Look

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
_FEW = 12
"""Longer tables are folded away."""

_NAMED = 6

_MARKS = {
    "o": "M10.5 4a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0 -7 0z",
    "s": "M10.8 0.8h6.4v6.4h-6.4z",
    "^": "M14 0.2L18 7.6H10z",
    "D": "M14 0L18 4L14 8L10 4z",
    "v": "M14 7.8L18 0.4H10z",
}
"""Marks as paths in the middle of a key."""


def page(
    groups: Sequence[Group],
    columns: Sequence[Column],
    pictures: Iterable[tuple[Picture, str]],
    notes: Sequence[str],
    made: str,
) -> str:
    """Return the page.

    Parameters
    ----------
    pictures
        Each with the text of its SVG file.
    notes
        What a reader should know.
    made
        When.
    """
    runs = [run for group in groups for run in group.runs]
    tasks = dict.fromkeys(str(run.summary["dataset"]) for run in runs)
    methods = dict.fromkeys(group.method for group in groups)
    title = f"{_few(list(methods), 'methods')} on {_few(list(tasks), 'data sets')}"
    models = dict.fromkeys(str(run.summary["model"]) for run in runs)
    several = [_count(len(groups), "group")] if len(groups) > len(methods) else []
    lead = [_count(len(methods), "method"), *several, _count(len(runs), "run")]
    lead.append(_few(list(models), "models"))
    body = [
        f"<header><h1>{escape(title)}</h1>",
        f'<p class="lead">{escape(" · ".join(lead))}</p></header><main>',
        "<section><h2>Results</h2>",
        _notes(notes),
        _results(groups, columns),
        "</section>",
        '<section><h2>Pictures</h2><div class="pictures">',
        *(_figure(picture, svg, groups) for picture, svg in pictures),
        "</div></section>",
        _settings(groups),
        _runs(groups),
        _footer(groups, made),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}{_tints()}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + f"\n</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def _tints() -> str:
    """Return the colours of the pictures as variables, lighter where the page is dark."""
    colours = dict.fromkeys(look.colour for look in METHODS.values())
    plain, light = (
        "".join(f"{variable(colour)}: {shade(colour)};" for colour in colours)
        for shade in (str, lighter)
    )
    return f":root {{{plain}}}\n@media (prefers-color-scheme: dark) {{ :root {{{light}}} }}\n"


def _notes(notes: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f'<ul class="notes">{items}</ul>' if items else ""


def _results(groups: Sequence[Group], columns: Sequence[Column]) -> str:
    rows = []
    every = looks(group.method for group in groups)
    cells = zip(*(column.cells for column in columns), strict=True)
    for number, (group, look, found) in enumerate(zip(groups, every, cells, strict=True)):
        state = "" if group.is_finished else ' class="open"'
        values = "".join(
            f'<td data-value="{escape(_sorted_by(cell.values))}">{escape(cell.text)}</td>'
            for cell in found[1:]
        )
        name = f'<th scope="row"{state}>{_key(look)}{escape(found[0].text)}</th>'
        rows.append(f'<tr data-line="{number}">{name}{values}</tr>')
    return _table("results", [column.title for column in columns], rows)


def _sorted_by(values: Iterable[object]) -> str:
    """Return the first number among a cell's values; nothing where there is none."""
    numbers = (value for value in values if isinstance(value, int | float))
    return next((repr(value) for value in numbers if isfinite(value)), "")


def _key(look: Look) -> str:
    """Return the line that stands for a group in the pictures, as a drawing of its own."""
    dashes = "" if look.dashes == "-" else " ".join(f"{1.5 * part:g}" for part in look.dashes[1])
    return (
        '<svg class="key" viewBox="0 0 28 8" aria-hidden="true"><path d="M0 4H28" fill="none"'
        f' style="stroke: var({variable(look.colour)})" stroke-width="2.5"'
        f' stroke-dasharray="{dashes}"/>{_mark(look)}</svg>'
    )


def _mark(look: Look) -> str:
    """Return the mark that tells groups of one method apart."""
    shape = _MARKS.get(look.marker)
    return f'<path d="{shape}" style="fill: var({variable(look.colour)})"/>' if shape else ""


def _figure(picture: Picture, svg: str, groups: Sequence[Group]) -> str:
    labels = [group.label for group in groups]
    title = picture.title[:1].upper() + picture.title[1:]
    text = f"{title}. {picture.text} The figures are in the table of results."
    return (
        f'<figure id="{picture.name}"><figcaption><h3>{escape(title)}</h3>'
        f"<p>{escape(picture.text)}</p></figcaption>"
        f"{_scroll(title, inline_svg(svg, picture.name, text, labels))}</figure>"
    )


def _settings(groups: Sequence[Group]) -> str:
    """Return what all groups have in common, and a row for each setting that differs."""
    settings = [group.settings for group in groups]
    names = sorted({name for given in settings for name in given})
    common = [name for name in names if len({given.get(name) for given in settings}) == 1]
    first = differing(settings)
    others = first + [name for name in names if name not in (*common, *first)]
    rows = [_row(short(name), [given.get(name, NOTHING) for given in settings]) for name in others]
    odd = _table("settings that differ", ["setting", *(g.label for g in groups)], rows, words=True)
    same = [_row(short(name), [settings[0][name]]) for name in common]
    both = _table("settings of all", ["setting", "value"], same, words=True)
    return (
        "<section><h2>Settings</h2>"
        + (_details(f"{len(rows)} that differ", odd, is_open=len(groups) <= _FEW) if rows else "")
        + _details(f"{len(same)} that all have in common", both, is_open=False)
        + "</section>"
    )


def _runs(groups: Sequence[Group]) -> str:
    rows = []
    for number, group in enumerate(groups):
        for run in group.runs:
            summary = run.summary
            state = "" if run.is_finished else ' class="open"'
            figures = [
                group.label,
                str(summary.get("seed", NOTHING)),
                str(summary["status"]),
                str(run.rounds),
                f"{run.metric} {run.scores[-1]:.4f}",
                megabytes(float(run.sent[-1])),
                times(summary["compression_ratio"]),
                duration(summary["wall_seconds"]),
            ]
            rows.append(
                f'<tr data-line="{number}"><th scope="row"{state}>{escape(str(run.folder))}</th>'
                + "".join(f"<td>{escape(text)}</td>" for text in figures)
                + "</tr>"
            )
    names = ["folder", "group", "seed", "status", "rounds", "result", "sent", "ratio", "time"]
    return (
        "<section><h2>Runs</h2>"
        + _details(_count(len(rows), "run"), _table("runs", names, rows), len(rows) <= _FEW)
        + "</section>"
    )


def _footer(groups: Sequence[Group], made: str) -> str:
    every = [run.summary.get("versions", {}) for group in groups for run in group.runs]
    names = dict.fromkeys(name for found in every for name in found)
    versions = [
        f"{name} {', '.join(sorted({str(found[name]) for found in every if name in found}))}"
        for name in names
    ]
    return (
        f"<footer>Made {escape(made)} by fedcomp-report {__version__}. The runs were made with"
        f" {escape('; '.join(versions) or 'unknown versions')}.</footer>"
    )


def _table(name: str, titles: Sequence[str], rows: Sequence[str], *, words: bool = False) -> str:
    kind = ' class="words"'
    heads = "".join(
        f'<th scope="col"{kind if words or not at else ""}>{escape(title)}</th>'
        for at, title in enumerate(titles)
    )
    return _scroll(
        name,
        f'<table class="sorted"><thead><tr>{heads}</tr></thead>\n<tbody>'
        + "\n".join(rows)
        + "</tbody></table>",
    )


def _row(name: str, values: Sequence[str]) -> str:
    cells = "".join(f'<td class="words">{escape(value)}</td>' for value in values)
    return f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>'


def _scroll(name: str, content: str) -> str:
    """Return a box that scrolls by itself where the page is narrow, with the keyboard, too."""
    box = f'class="scroll" role="region" tabindex="0" aria-label="{escape(name)}"'
    return f"<div {box}>{content}</div>"


def _details(title: str, content: str, is_open: bool) -> str:
    state = " open" if is_open else ""
    return f"<details{state}><summary>{escape(title)}</summary>{content}</details>"


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"


def _few(words: Sequence[str], name: str) -> str:
    return ", ".join(words) if len(words) <= _NAMED else f"{len(words)} {name}"
