"""What remains of a run in which clients die, forget, and answer late or twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from statistics import mean

import pytest

from tests.common import read_csv, read_summary
from tests.engines.soak import FATES, soak

EVEN = 1e-4
"""Σ sent + kept + lost may be so far from Σ trained: float32 rounding, weight by weight."""


def count(folder: Path, kind: str) -> int:
    rows = read_csv(folder / "packets.csv")
    return sum(row["kind"] == kind for row in rows if row["direction"] == "uplink")


def test_feedback_is_conserved_through_grid_and_mod(tmp_path: Path) -> None:
    words = ("rounds=30", "clients=10", "fraction=0.7", "model.hidden=[4]", "train.steps=1")
    rates = {fate: 3 * rate for fate, rate in FATES.items()}
    weather, gauge = soak(tmp_path, *words, rates=rates)
    met = weather.met
    assert min(met[fate] for fate in FATES) > 0
    assert max(gauge.gaps.values()) < EVEN
    assert set(gauge.gaps) == {0, 10, 20, 30}
    failed = met["dies"] + met["dies after saving"] + met["not in time"]
    assert read_summary(tmp_path)["failures"] == failed
    assert (count(tmp_path, "late"), count(tmp_path, "duplicate")) == (met["late"], met["twice"])
    assert count(tmp_path, "error") == met["dies"] + met["dies after saving"]
    assert count(tmp_path, "nack") <= met["forgets"]


CHILD = """
import json, sys
from pathlib import Path
from tests.engines.soak import FATES, soak

words = ("rounds=500", "clients=50", "fraction=0.4", "model.hidden=[16]", "train.steps=1")
weather, gauge = soak(Path(sys.argv[1]), *words, rates=eval(sys.argv[2]), traced=sys.argv[3] == "1")
print(json.dumps([weather.met, gauge.resident, gauge.traced, gauge.gaps]))
"""


def run(folder: Path, *, faults: bool) -> list[dict[str, float]]:
    """Run 500 rounds in a process of its own, whose memory nobody else has used."""
    rates = FATES if faults else {}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder), repr(rates), str(int(faults))],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found: list[dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def level(folder: Path) -> float:
    """Return the mean accuracy of the last rounds, of which single ones differ by a point."""
    return mean(float(row["accuracy"]) for row in read_csv(folder / "rounds.csv")[-20:])


@pytest.mark.soak
def test_500_rounds_of_50_clients_in_bad_weather(tmp_path: Path) -> None:
    met, resident, traced, gaps = run(tmp_path / "bad", faults=True)
    run(tmp_path / "fair", faults=False)
    bad, fair = read_summary(tmp_path / "bad"), read_summary(tmp_path / "fair")
    print(met, *({at: found[at] for at in ("50", "250", "500")} for found in (resident, traced)))
    print(max(gaps.values()))
    for summary in (bad, fair):
        print({n: summary[n] for n in ("final_accuracy", "failures", "wall_seconds")})
    later = [at for at in resident if int(at) >= 50]
    for found in (resident, traced):
        assert max(found[at] for at in later) <= 1.05 * found["50"]
    assert max(gaps.values()) < EVEN
    results = [level(tmp_path / name) for name in ("bad", "fair")]
    print(results)
    assert abs(results[0] - results[1]) <= 0.01
    assert bad["failures"] == met["dies"] + met["dies after saving"] + met["not in time"]
    assert fair["failures"] == 0
