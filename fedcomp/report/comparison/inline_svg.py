"""A picture as a part of a page: in the page's colours and letters, with names nobody else has."""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING

from fedcomp.report.plots.drawing import FAINT, GRID, INK, PAPER
from fedcomp.report.plots.palette import METHODS

if TYPE_CHECKING:
    from collections.abc import Sequence

_COLOURS = {
    INK: "currentColor",
    FAINT: "var(--faint)",
    GRID: "var(--grid)",
    PAPER: "var(--paper)",
}
_WHITE = 0.28
_ID = re.compile(r' id="([^"]*)"')
_LINE = re.compile(r"line-(\d+)-\w+")
_FONT = re.compile(r"font-family: [^;\"]+")
_BOX = re.compile(r'viewBox="0 0 ([\d.]+) ([\d.]+)"')


def variable(colour: str) -> str:
    """Return what a page calls a colour of a method, so that dark pages may have a lighter one.

    Examples
    --------
    >>> variable("#0072b2"), lighter("#0072b2")
    ('--line-0072b2', '#4799c8')
    """
    return f"--line-{colour.removeprefix('#')}"


def lighter(colour: str) -> str:
    """Return a colour mixed with white."""
    parts = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return "#" + "".join(f"{round(part + _WHITE * (255 - part)):02x}" for part in parts)


def inline_svg(svg: str, name: str, text: str, lines: Sequence[str]) -> str:
    """Return the element of a picture that `as_svg` made.

    Parameters
    ----------
    name
        What no other picture of the page is called.
    text
        What those hear who do not see it.
    lines
        The names of what the numbers stand for, shown where the pointer is.
    """
    found = _BOX.search(svg)
    assert found is not None  # noqa: S101  matplotlib writes one
    body = svg[svg.index(">", svg.index("<svg")) + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"<style.*?</style>", "", body, flags=re.DOTALL)  # it would be for the page, too
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', body))

    def renamed(match: re.Match[str]) -> str:
        given = match.group(1)
        if line := _LINE.fullmatch(given):
            return f' data-line="{line.group(1)}"'
        return f' id="{name}-{given}"' if given in used else ""

    body = _ID.sub(renamed, body)
    body = re.sub(r'(url\(|href=")#', rf"\g<1>#{name}-", body)
    body = re.sub(
        r'<g data-line="(\d+)">',
        lambda match: f"{match.group()}<title>{escape(lines[int(match.group(1))])}</title>",
        body,
    )
    drawn = {look.colour: f"var({variable(look.colour)})" for look in METHODS.values()}
    for colour, ours in (_COLOURS | drawn).items():
        body = body.replace(colour, ours)
    body = _FONT.sub("font-family: var(--sans)", body)
    head = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        f' {found.group()} style="--wide: {float(found.group(1)):.0f}" role="img"'
        f' aria-label="{escape(text)}">'
    )
    return head + body.strip()
