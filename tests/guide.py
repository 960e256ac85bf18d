"""The guide to deployments, conf/engine/README.md, as tests read it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

GUIDE = Path(__file__).parents[1] / "conf" / "engine" / "README.md"


def blocks(language: str) -> list[str]:
    """Return the text of all code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE.read_text("utf-8"), re.M | re.S)


def commands() -> list[list[str]]:
    """Return the words of every command."""
    joined = "\n".join(blocks("bash")).replace("\\\n", " ")
    return [shlex.split(line, comments=True) for line in joined.splitlines() if line.strip()]
