"""Reading run folders: whole ones, such as are still written to, and damaged ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcomp.errors import DataError
from fedcomp.report.plots.series import series
from fedcomp.report.runs import all_folders, read_run, read_runs
from tests.common import read_csv, read_summary, run_inline
from tests.report.made import make_run


def test_a_run_is_what_its_files_say(tmp_path: Path) -> None:
    words = ("method=stc", "rounds=3", "strategy.fraction_evaluate=1.0", "targets=[0.01,0.99]")
    folder = run_inline(tmp_path, *words)
    run, summary = read_run(folder), read_summary(folder)
    assert run is not None
    assert (run.method, run.metric, run.rounds, run.is_finished) == ("stc", "accuracy", 3, True)
    assert run.scores[-1] == summary["final_accuracy"]
    assert run.sent[-1] == summary["total_bytes"]
    assert run.seconds is None
    for target, expected in summary["bytes_to_target"].items():
        at = run.reached(float(target))
        assert (None if at is None else run.sent[at]) == expected


SIDE = (
    *("method=fedcompress", "model.hidden=[32]", "server_step.distillation.epochs=1"),
    "server_step.distillation.samples=32",
)
FORGETFUL = ("method=stc", "link.history_versions=1")


@pytest.mark.parametrize(
    ("words", "part"), [(SIDE, "uplink_side_bytes"), (FORGETFUL, "training_keyframe_bytes")]
)
def test_the_parts_of_training_bytes_are_those_of_the_packets(
    words: tuple[str, ...], part: str, tmp_path: Path
) -> None:
    """Clients that take turns miss versions."""
    taking_turns = ("fraction=0.5", "clients=6", "rounds=5", f"data_dir={tmp_path}")
    folder = run_inline(tmp_path, *taking_turns, *words)
    packets = read_csv(folder / "packets.csv")
    run = read_run(folder)
    assert run is not None

    def total(key: str, **wanted: str) -> int:
        rows = [r for r in packets if all(r[k] == v for k, v in wanted.items())]
        return sum(int(row[key]) for row in rows)

    for way in ("uplink", "downlink"):
        side = total("packet_bytes", direction=way, purpose="side")
        keyframes = total("packet_bytes", direction=way, purpose="train", kind="keyframe")
        payload = total("payload_bytes", direction=way, purpose="train")
        payload -= total("payload_bytes", direction=way, purpose="train", kind="keyframe")
        header = run.columns[f"{way}_header_bytes"].sum()
        assert payload + side + keyframes + header == run.columns[f"{way}_bytes"].sum()
        assert header > 0
        if way == "uplink":
            assert side == run.columns["uplink_side_bytes"].sum()
        else:
            assert keyframes == run.columns["training_keyframe_bytes"].sum()
    assert run.columns[part].sum() > 0


@settings(deadline=None)
@given(st.data())
def test_a_torn_table_is_read_up_to_its_last_whole_row(data: st.DataObject) -> None:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as place:
        folder = make_run(Path(place) / "run", (0.1, 0.2, 0.3, 0.4))
        path = folder / "rounds.csv"
        whole = path.read_bytes()
        length = data.draw(st.integers(0, len(whole)))
        path.write_bytes(whole[:length])
        rows = max(whole[:length].count(b"\n") - 1, 0)
        run = read_run(folder)
        if rows == 0:
            assert run is None
        else:
            assert run is not None
            assert list(run.scores) == [0.1, 0.2, 0.3, 0.4][:rows]


def test_runs_that_have_only_begun_are_named_and_left_out(tmp_path: Path) -> None:
    there = make_run(tmp_path / "there")
    for name in ("early", "header"):
        (make_run(tmp_path / name) / "summary.json").unlink()
    (tmp_path / "early" / "rounds.csv").unlink()
    remote = make_run(tmp_path / "remote", summary={"server_folder": "/there"})
    (remote / "rounds.csv").unlink()
    runs, skipped = read_runs(all_folders([tmp_path]))
    assert [run.folder for run in runs] == [there]
    assert skipped == [
        f"{tmp_path / 'early'}: left out, no round has ended yet",
        f"{tmp_path / 'header'}: left out, no round has ended yet",
        f"{remote}: left out, its rounds.csv is on the server, in /there",
    ]


def test_all_runs_below_a_folder_are_found_once(tmp_path: Path) -> None:
    inner = [make_run(tmp_path / "sweeps" / name) for name in ("b", "a")]
    (inner[0] / "checkpoint" / "x").mkdir(parents=True)
    (inner[0] / "checkpoint" / "x" / "summary.json").write_text("{}")
    assert all_folders([tmp_path, inner[0], tmp_path / "sweeps" / ".." / "sweeps"]) == inner[::-1]
    assert all_folders([inner[0], tmp_path]) == inner
    with pytest.raises(DataError, match=r"holds no summary\.json"):
        all_folders([tmp_path / "nowhere"])


def test_empty_cells_are_no_numbers(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path / "run", seconds=2.5))
    assert run is not None
    assert run.seconds is not None
    assert list(run.seconds) == [0.0, 2.5, 5.0]
    assert np.isnan(run.columns["uplink_bits_per_weight"][0])


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("rounds.csv", "accuracy", "acuracy"),
        ("rounds.csv", "\n1,", "\n7,"),
        ("rounds.csv", "0.4", "much"),
        ("rounds.csv", "\n2,0.6,", "\n2\n3,0.6,"),
        ("rounds.csv", "uplink_bytes", "uplink"),
        ("summary.json", '"wall_seconds": 7.5', '"wall_seconds": "long"'),
        ("summary.json", '"final_accuracy": 0.6', '"final_accuracy": null'),
        ("summary.json", '"bytes_to_target": {', '"bytes_to_target": 5, "x": {'),
        ("summary.json", '"bytes_to_target": {"0.5"', '"bytes_to_target": {"half"'),
        ("summary.json", '"compression_ratio": 20.0', '"compression_ratio": [2]'),
        ("summary.json", "}", ""),
    ],
)
def test_damage_is_named_with_its_file(name: str, old: str, new: str, tmp_path: Path) -> None:
    path = make_run(tmp_path / "run") / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(DataError, match=name.replace(".", r"\.")) as caught:
        read_run(tmp_path / "run")
    assert len(str(caught.value).splitlines()) == 1


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (run / "rounds.csv").write_bytes(b"\xff\xfe\n\x00\n")
    with pytest.raises(DataError, match=r"rounds\.csv"):
        read_run(run)
    (run / "summary.json").write_text(json.dumps([1]))
    with pytest.raises(DataError, match=r"summary\.json"):
        read_run(run)


def test_a_mean_by_bytes_ends_with_the_run_that_ends_first(tmp_path: Path) -> None:
    make_run(tmp_path / "1", (0.1, 0.2), up=100_000, seed=1)
    make_run(tmp_path / "2", (0.1, 0.4, 0.5, 0.6), up=1000, seed=2)
    runs = [run for folder in ("1", "2") if (run := read_run(tmp_path / folder)) is not None]
    apart = series(runs, lambda run: run.sent, lambda run: run.scores)
    whole = series(runs, lambda run: run.sent, lambda run: run.scores, together=True)
    assert apart is not None
    assert whole is not None
    assert not (np.diff(apart.x) > 0).all()  # it would go back
    assert list(whole.x) == [0.0, 51_000.0]
    assert list(whole.mean) == pytest.approx([0.1, 0.3])
