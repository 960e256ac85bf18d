"""Every codec, as the run that the words describe would have it on the uplink."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from fedcomp.building import build_codec
from fedcomp.codecs import CODECS
from fedcomp.config import compose_config
from fedcomp.conflicts import conflicts
from fedcomp.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from fedcomp.advise.knobs import Value
    from fedcomp.codecs.base import Codec
    from fedcomp.settings import Settings

_COMPOSED = ("mixed",)
"""Codecs without defaults of their own: their files have some, as those of other packages have."""


def candidates(
    words: Sequence[str], run: Settings
) -> Iterator[tuple[str, Callable[[Mapping[str, Value]], Codec]]]:
    """Yield names of codecs, and what makes one with some settings; `ConfigError` if it cannot be.

    Parameters
    ----------
    words, run
        Those of the run, and the settings that they stand for.
    """
    for name in CODECS.names():
        yield name, partial(_made, name, words, run)


def _made(name: str, words: Sequence[str], run: Settings, settings: Mapping[str, Value]) -> Codec:
    codec = build_codec({**_defaults(name, tuple(words)), **settings}, "uplink").over(run.rounds)
    if problems := conflicts(replace(run, uplink=codec)):
        raise ConfigError(problems)
    return codec


@lru_cache
def _defaults(name: str, words: tuple[str, ...]) -> dict[str, Any]:
    """Return a codec's settings; files of the project's have the defaults of their classes."""
    if name in CODECS.builtin and name not in _COMPOSED:
        return {"name": name}
    return dict(compose_config([*words, f"codec@uplink={name}"])["uplink"])
