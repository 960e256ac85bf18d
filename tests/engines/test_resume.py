"""Runs whose process dies, and what a later one makes of what it left."""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import safetensors.numpy

from fedcomp import storage
from fedcomp.link import part_files
from tests.common import read_csv, read_summary, run_inline


class Killed(BaseException):
    """The process is gone: nothing catches this."""


class Deaths:
    """Lets every change of a folder fail from the n-th one on."""

    def __init__(self) -> None:
        self.folder = ""
        self.left = 0
        self.seen = 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Look at what Python reports of itself."""
        writes = event in ("os.rename", "os.link", "os.mkdir", "os.remove", "os.truncate")
        if event == "open" and isinstance(arguments[1], str):
            writes = arguments[1] != "r"
        if self.folder and writes and any(self.folder in str(name) for name in arguments[:2]):
            self.change()

    def change(self) -> None:
        self.seen += 1
        if self.seen > self.left:
            raise Killed

    @contextmanager
    def within(self, folder: Path, left: int) -> Iterator[None]:
        """Count what changes a folder, and die after so many changes."""
        save = safetensors.numpy.save_file  # not written in Python: unseen by audit hooks

        def counted(tensors: Any, path: Path) -> None:
            if str(folder) in str(path):
                self.change()
            save(tensors, path)

        with pytest.MonkeyPatch.context() as patch:
            for module in (storage, part_files):
                patch.setattr(module, "save_file", counted)
            self.folder, self.left, self.seen = str(folder), left, 0
            try:
                yield
            finally:
                self.folder = ""


@pytest.fixture(scope="module")
def deaths() -> Deaths:
    found = Deaths()
    sys.addaudithook(found)  # it stays for good, and does nothing outside of `within`
    return found


def rows(path: Path) -> list[dict[str, str]]:
    """Return a table without what differs in any two runs: times, and Flower's random ids.

    Nor with the handshakes: each process has its own.
    """
    odd = ("seconds", "message_bytes")
    found = [{k: v for k, v in row.items() if not k.endswith(odd)} for row in read_csv(path)]
    return [row for row in found if row.get("purpose") != "handshake"]


def check_same(run: Path, whole: Path) -> None:
    assert (run / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    for name in ("rounds.csv", "packets.csv"):
        assert rows(run / name) == rows(whole / name)
    odd = ("seconds", "message_bytes")
    summaries = [
        {k: v for k, v in read_summary(folder).items() if not k.endswith(odd)}
        for folder in (run, whole)
    ]
    assert summaries[0] == summaries[1]
    assert summaries[0]["status"] == "finished"


SMALL = ("rounds=3", "clients=3", "train.steps=2", "fraction=0.67")


@pytest.mark.parametrize(
    ("words", "deaths_tried"),
    [
        (("method=stc", "strategy=fedadam", "strategy.fraction_evaluate=1.0"), 8),
        (("method=fsfl", "codec@downlink=cast"), 4),
    ],
    ids=["stc", "fsfl"],
)
def test_a_run_that_dies_anywhere_ends_like_one_that_did_not(
    tmp_path: Path, deaths: Deaths, words: Sequence[str], deaths_tried: int
) -> None:
    whole = tmp_path / "whole"
    with deaths.within(whole, 10**9):
        run_inline(whole, *SMALL, *words)
        changes = deaths.seen
    assert changes > 80
    places = random.Random(deaths_tried).sample(range(changes), deaths_tried)
    for place in places:
        run = tmp_path / f"dies-after-{place}"
        with deaths.within(run, place), pytest.raises(Killed):
            run_inline(run, *SMALL, *words)
        with deaths.within(run, place // 2), suppress(Killed):  # and once more, earlier on
            run_inline(run, *SMALL, *words, resumed=True)
        run_inline(run, *SMALL, *words, resumed=True)
        check_same(run, whole)
        shutil.rmtree(run)


@pytest.mark.parametrize(
    "words",
    [
        ("method=fedcomp", "uplink.schedule.end=4000", "downlink.schedule.end=4000"),
        (
            *("codec@uplink=uniform", "codec@downlink=uniform", "downlink.schedule.key=bits"),
            *("downlink.schedule.start=12", "downlink.schedule.end=6"),
        ),
    ],
    ids=["fedcomp", "linear"],
)
def test_a_run_may_become_longer_where_a_schedule_ends_with_it(
    tmp_path: Path, words: Sequence[str]
) -> None:
    run_inline(tmp_path, *SMALL, *words)
    run_inline(tmp_path, *SMALL, *words, "rounds=5", resumed=True)
    summary = read_summary(tmp_path)
    assert (summary["status"], summary["rounds"], summary["failures"]) == ("finished", 5, 0)
    kinds = [row["kind"] for row in read_csv(tmp_path / "packets.csv") if row["round"] == "4"]
    assert "keyframe" in kinds, "the last packet's codec is another one now"
