"""The files of a report: the page, and each picture as PNG and SVG."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from fedcomp.report.comparison.page import page
from fedcomp.report.comparison.pictures import NAMES, draw
from fedcomp.report.plots.drawing import as_png, as_svg
from fedcomp.storage import save_bytes, save_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from fedcomp.report.comparison.groups import Group
    from fedcomp.report.comparison.results import Column


def write(
    groups: Sequence[Group],
    columns: Sequence[Column],
    targets: Sequence[float],
    notes: Sequence[str],
    out: Path | None,
    folder: Path | None,
) -> Iterator[str]:
    """Write the page, if a file is named, and the pictures beside it or where a folder is named.

    Yields a line for each that is written.
    """
    if folder is None and out is not None:
        folder = out.with_name(f"{out.stem}_pictures")
    assert folder is not None  # noqa: S101  the command asks for one of both
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for picture in draw(groups, targets):
        svg = as_svg(picture.figure)
        save_text(svg, folder / f"{picture.name}.svg")
        save_bytes(as_png(picture.figure), folder / f"{picture.name}.png")
        drawn.append((picture, svg))
    for name in set(NAMES) - {picture.name for picture, _ in drawn}:  # of an earlier report
        for suffix in ("svg", "png"):
            (folder / f"{name}.{suffix}").unlink(missing_ok=True)
    yield f"{len(drawn)} pictures, each as PNG and SVG: {folder}"
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        made = time.strftime("%Y-%m-%d %H:%M")
        text = page(groups, columns, drawn, notes, made)
        save_text(text.encode(errors="replace").decode(), out)  # names of folders may be any bytes
        yield f"page: {out}"
