"""The errors of the project.

FedcompError
├── ConfigError        a setting is unknown, out of range or in conflict with another
├── UnknownNameError   a registry has no entry of that name
├── DataError          a data set is missing, damaged or too small
├── CodecError         a codec was given something it cannot represent
├── BitstreamError     bytes are not what their writer would have written
├── LinkError          the two ends of a link no longer agree
│   ├── DivergedError  ... although both took themselves to hold the same model
│   └── StaleError     ... because a message came after a later one
├── EngineError        Flower or Ray could not start or broke down
├── RoundError         a round had too few valid replies
└── StorageError       a run's files cannot be written
RunInterrupted         somebody asked the run to stop

A message says what was given, what is allowed and what to do.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class FedcompError(Exception):
    """Base of all errors that a user or a peer can cause."""


class ConfigError(FedcompError, ValueError):
    """Settings that cannot work; `problems` holds one sentence for each."""

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class UnknownNameError(FedcompError, LookupError):
    """A registry was asked for a name that it does not have."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        super().__init__(f"{kind} {name!r} is unknown{suggest(name, known)}")


class DataError(FedcompError, ValueError):
    """A data set that cannot be used as it is."""


class CodecError(FedcompError, ValueError):
    """Tensors that a codec cannot represent."""


class BitstreamError(FedcompError, ValueError):
    """Bytes that no encoder of this project has written."""


class LinkError(FedcompError, RuntimeError):
    """The two ends of a link hold different states."""


class DivergedError(LinkError):
    """Both ends computed a model from the same packets, and not the same one."""


class StaleError(LinkError):
    """A message that a later one has overtaken."""


class EngineError(FedcompError, RuntimeError):
    """The engine under the run could not start or broke down."""


class RoundError(FedcompError, RuntimeError):
    """A round that cannot be aggregated."""


class StorageError(FedcompError, RuntimeError):
    """A disk that is full, or a folder that is gone or not to be written to."""


class RunInterrupted(Exception):  # noqa: N818  an order from outside, not a failure
    """The run was asked to stop; what was measured stays."""


def brief(value: object, most: int = 60) -> str:
    """Return what was given for an error message, in a few words however much it is.

    Examples
    --------
    >>> brief("no"), brief(b"x" * 10**6, 3), brief(["a", "b"]), brief(list(range(1000)), 2)
    ("'no'", "b'xxx'… (1000000)", "['a', 'b']", '[0, 1]… (1000)')
    """
    if not isinstance(value, str | bytes | list | tuple):
        return repr(value)
    start = value[:most]
    if isinstance(start, list | tuple):
        shown = f"[{', '.join(brief(part) for part in start[:10])}]"
        return shown if len(value) <= min(most, 10) else f"{shown}… ({len(value)})"
    return repr(start) if len(value) <= most else f"{start!r}… ({len(value)})"


def one_line(text: str, most: int = 500) -> str:
    r"""Return what somebody else wrote so that it cannot pass for more than a line of text.

    Examples
    --------
    >>> one_line("no disk\n  round 9/9 \x1b[31m", 16)
    'no disk round 9…'
    """
    words = " ".join(text.split())
    shown = "".join(letter if letter.isprintable() else "?" for letter in words)
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"


def suggest(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean …? Allowed: …" for an error message.

    Examples
    --------
    >>> suggest("fedavgg", ["fedavg", "krum"])
    '; did you mean fedavg? Allowed: fedavg, krum'
    """
    names = sorted(known)
    if not names:
        return ""
    near = get_close_matches(name, names, n=1, cutoff=0.6)
    hint = f"; did you mean {near[0]}?" if near else ";"
    return f"{hint} Allowed: {', '.join(names)}".replace("; Allowed", "; allowed")
