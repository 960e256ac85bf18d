"""The table of a report as text, Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fedcomp.report.comparison.results import Column

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "–": "--",
    "…": r"\ldots{}",
}
_MARKDOWN = str.maketrans({sign: f"\\{sign}" for sign in "\\|*_`<[]~"})
_WORDS = ("case", "method")
"""Columns of words; all others hold numbers, to the right."""

_SPARE = ("model", "best", "bits up / down", "network", "rounds", "time", "runs")
"""Columns that a narrow terminal does without, in this order."""

_GAP = 2


def text(columns: Sequence[Column], width: int) -> tuple[Table, list[str]]:
    """Return the table for a terminal, and which columns it has no room for."""
    shown, left_out = list(columns), []
    for title in _SPARE:
        if _width(shown) > width and any(column.title == title for column in shown):
            shown = [column for column in shown if column.title != title]
            left_out.append(title)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in shown:
        right = column.title not in _WORDS
        table.add_column(column.title, justify="right" if right else "left", overflow="fold")
    for row in _rows(shown):
        table.add_row(*map(Text, row))
    return table, left_out


def _width(columns: Sequence[Column]) -> int:
    """Return how wide a table is whose cells are not broken."""
    rows = [[column.title for column in columns], *_rows(columns)]
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return sum(widths) + _GAP * (len(widths) - 1)


def markdown(columns: Sequence[Column]) -> str:
    r"""Return the table in GitHub's Markdown.

    Examples
    --------
    >>> from fedcomp.report.comparison.results import Cell, Column
    >>> print(markdown([Column("best", ("b",), (Cell("1|2", (1,)),))]))
    | best |
    |---:|
    | 1\|2 |
    """
    rule = "|".join("---" if column.title in _WORDS else "---:" for column in columns)
    rows = [[column.title for column in columns], *_rows(columns)]
    lines = [f"| {' | '.join(cell.translate(_MARKDOWN) for cell in row)} |" for row in rows]
    return "\n".join([lines[0], f"|{rule}|", *lines[1:]])


def comma_separated(columns: Sequence[Column]) -> str:
    r"""Return the figures behind the table, as precise as they are; empty where there are none.

    Examples
    --------
    >>> from fedcomp.report.comparison.results import Cell, Column
    >>> comma_separated([Column("a", ("x", "y"), (Cell("3", (3, None)),))])
    'x,y\n3,'
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([key for column in columns for key in column.keys])
    for cells in zip(*(column.cells for column in columns), strict=True):
        writer.writerow([value for cell in cells for value in cell.values])
    return out.getvalue().removesuffix("\n")


def latex(columns: Sequence[Column]) -> str:
    r"""Return the table as a `tabular` that needs no package.

    Examples
    --------
    >>> from fedcomp.report.comparison.results import Cell, Column
    >>> print(latex([Column("a_b", ("x",), (Cell("50 %", (50,)),))]))
    \begin{tabular}{r}
    \hline
    a\_b \\
    \hline
    50 \% \\
    \hline
    \end{tabular}
    """
    places = "".join("l" if column.title in _WORDS else "r" for column in columns)
    rows = [[column.title for column in columns], *_rows(columns)]
    lines = [" & ".join(map(_escaped, row)) + r" \\" for row in rows]
    begin, end = rf"\begin{{tabular}}{{{places}}}", r"\end{tabular}"
    return "\n".join([begin, r"\hline", lines[0], r"\hline", *lines[1:], r"\hline", end])


def _rows(columns: Sequence[Column]) -> list[list[str]]:
    found = zip(*(column.cells for column in columns), strict=True)
    return [[" ".join(cell.text.split()) for cell in cells] for cells in found]


def _escaped(text: str) -> str:
    r"""Return a text that LaTeX shows as it is.

    Examples
    --------
    >>> print(_escaped("a_b \\ 0.9 ± 0.1"))
    a\_b \textbackslash{} 0.9 $\pm$ 0.1
    """
    return "".join(_LATEX.get(sign, sign) for sign in text)
