"""The guides, README.md in many a folder, as tests read them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[1]
GUIDE = ROOT / "conf" / "engine" / "README.md"
"""The guide to deployments."""


def blocks(language: str, guide: Path = GUIDE) -> list[str]:
    """Return the text of all code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", guide.read_text("utf-8"), re.M | re.S)


def commands(language: str = "bash", guide: Path = GUIDE) -> list[list[str]]:
    """Return the words of every command."""
    joined = "\n".join(blocks(language, guide)).replace("\\\n", " ")
    lines = [shlex.split(line, comments=True) for line in joined.splitlines()]
    return [words for line in lines for words in _divided(line) if words]


def _divided(words: list[str]) -> list[list[str]]:
    """Divide a line at `&&`."""
    found: list[list[str]] = [[]]
    for word in words:
        if word == "&&":
            found.append([])
        else:
            found[-1].append(word)
    return found
