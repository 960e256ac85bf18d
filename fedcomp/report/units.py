"""Bytes, times and ratios, as people read them."""

from __future__ import annotations

NOTHING = "–"
"""What stands where there is no figure."""


def megabytes(count: float) -> str:
    """Return a byte count for people.

    Examples
    --------
    >>> megabytes(1_234_567), megabytes(480), megabytes(3_295_790_000)
    ('1.23 MB', '480 B', '3.30 GB')
    """
    if count < 1000:
        return f"{count:.0f} B"
    if count >= 1e9:
        return f"{count / 1e9:.2f} GB"
    return f"{count / 1e3:.1f} kB" if count < 1e5 else f"{count / 1e6:.2f} MB"


def power(count: float) -> str:
    """Return a round count of bytes in few letters.

    Examples
    --------
    >>> power(1e3), power(2e5), power(1e9)
    ('1 kB', '200 kB', '1 GB')
    """
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:g} {unit}"
    return f"{count:g} B"


def duration(seconds: float) -> str:
    """Return a time span for people.

    Examples
    --------
    >>> duration(7.26), duration(75), duration(3700)
    ('7.3 s', '1:15', '1:01:40')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def times(ratio: float | None) -> str:
    """Return a ratio for people, `NOTHING` where there is none.

    Examples
    --------
    >>> times(3.14159), times(271.8), times(None)
    ('3.14 ×', '272 ×', '–')
    """
    if ratio is None:
        return NOTHING
    return f"{ratio:.2f} ×" if ratio < 100 else f"{ratio:.0f} ×"
