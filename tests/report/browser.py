"""A real browser without a window, for pages that nobody may find broken."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_SECONDS = 120


@dataclass(frozen=True)
class Browser:
    """Opens files with no network, for a moment, with a profile of its own each time."""

    command: str
    folder: Path

    def dom(self, page: Path, width: int) -> str:
        """Return the page as it is after its scripts ran."""
        return self._run(page, width, "--dump-dom")

    def screenshot(self, page: Path, width: int, *, dark: bool) -> np.ndarray[Any, Any]:
        """Return what a person sees, as rows of pixels of red, green and blue from 0 to 1."""
        path = self.folder / "screenshot.png"
        path.unlink(missing_ok=True)
        scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
        self._run(page, width, f"--screenshot={path}", scheme)
        return np.asarray(imread(path))[..., :3]

    def _run(self, page: Path, width: int, *words: str) -> str:
        profile = self.folder / "profile"
        shutil.rmtree(profile, ignore_errors=True)
        command = [
            *(self.command, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *("--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND"),
            *(f"--user-data-dir={profile}", f"--window-size={width},1200", *words),
            page.resolve().as_uri(),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
        assert done.returncode == 0, done.stderr
        return done.stdout


def find(folder: Path) -> Browser:
    """Return the browser that is installed, or skip the test."""
    there = [name for name in NAMES if shutil.which(name)]
    if not there:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed")
    return Browser(there[0], folder)
