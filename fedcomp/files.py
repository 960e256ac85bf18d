"""Files that are the old one or the new one at any moment."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def replace_text(path: Path, text: str) -> None:
    """Write a file anew, or leave it as it was if the process dies."""
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def replace_json(path: Path, value: object) -> None:
    """Write a value as JSON."""
    replace_text(path, json.dumps(value, indent=2) + "\n")
