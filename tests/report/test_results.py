"""The table of a report in all of its forms, and the command that prints it."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from statistics import mean, stdev

import pytest

from fedcomp.report.cli import main
from tests.report.made import make_run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two methods: one of three seeds, of which one run goes on, and one of a single run."""
    monkeypatch.chdir(tmp_path)
    stc = {"up": 1000, "down": 500, "seconds": 30.0}
    make_run(Path("runs/stc1"), (0.1, 0.4, 0.6), **stc, seed=1)
    make_run(Path("runs/stc2"), (0.1, 0.5, 0.7), **stc, seed=2)
    make_run(Path("runs/stc3"), (0.1, 0.3), **stc, seed=3, summary={"status": "running"})
    words = {"method__name": "signed_mean", "uplink": {"name": "none"}, "downlink__name": "none"}
    make_run(Path("runs/a"), (0.1, 0.2, 0.25), up=50_000, down=2_000_000, **words)
    return Path("runs")


TEXT = """\
method       runs  rounds         accuracy    best     sent    ratio  bits up / down   model           to 0.5   time          network   network to 0.5
signed_mean     1       2           0.2500  0.2500  4.10 MB   0.01 ×      0.5 / 0.25  2.00 ×                –  7.5 s                –                –
stc             3    1–2…  0.5333 ± 0.2082  0.5333   2.5 kB  20.00 ×      0.5 / 0.25  2.00 ×  2.2 kB (2 of 3)  7.5 s  50.0 s ± 17.3 s  45.0 s (2 of 3)
note: the seeds differ: signed_mean (1); stc (1, 2, 3)
note: 1 of 4 runs have not finished (…); they count as far as they are: runs/stc3
"""  # noqa: E501
MARKDOWN = """\
| method | runs | rounds | accuracy | best | sent | ratio | bits up / down | model | to 0.5 | time | network | network to 0.5 |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|
| signed\\_mean | 1 | 2 | 0.2500 | 0.2500 | 4.10 MB | 0.01 × | 0.5 / 0.25 | 2.00 × | – | 7.5 s | – | – |
| stc | 3 | 1–2… | 0.5333 ± 0.2082 | 0.5333 | 2.5 kB | 20.00 × | 0.5 / 0.25 | 2.00 × | 2.2 kB (2 of 3) | 7.5 s | 50.0 s ± 17.3 s | 45.0 s (2 of 3) |
"""  # noqa: E501
LATEX = r"""\begin{tabular}{lrrrrrrrrrrrr}
\hline
method & runs & rounds & accuracy & best & sent & ratio & bits up / down & model & to 0.5 & time & network & network to 0.5 \\
\hline
signed\_mean & 1 & 2 & 0.2500 & 0.2500 & 4.10 MB & 0.01 $\times$ & 0.5 / 0.25 & 2.00 $\times$ & -- & 7.5 s & -- & -- \\
stc & 3 & 1--2\ldots{} & 0.5333 $\pm$ 0.2082 & 0.5333 & 2.5 kB & 20.00 $\times$ & 0.5 / 0.25 & 2.00 $\times$ & 2.2 kB (2 of 3) & 7.5 s & 50.0 s $\pm$ 17.3 s & 45.0 s (2 of 3) \\
\hline
\end{tabular}
"""  # noqa: E501


def test_the_table_for_a_terminal(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(folder)])
    found = capsys.readouterr()
    assert [line.rstrip() for line in found.out.splitlines()] == TEXT.splitlines()
    assert found.err == ""


def test_a_narrow_terminal_breaks_no_figure(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "90")
    main([str(folder)])
    rows = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert rows[2] == (
        "stc             3  0.5333 ± 0.2082   2.5 kB  20.00 ×  2.2 kB (2 of 3)  45.0 s (2 of 3)"
    )
    assert rows[3].startswith("no room for: model, best, bits up / down, network, rounds, time;")


@pytest.mark.parametrize(("name", "expected"), [("markdown", MARKDOWN), ("latex", LATEX)])
def test_the_table_for_documents(
    name: str, expected: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(folder), "--format", name])
    found = capsys.readouterr()
    assert found.out == expected
    assert found.err.splitlines() == TEXT.splitlines()[-2:]


def test_the_table_for_programs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(folder), "--format", "csv"])
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    scores = (0.6, 0.7, 0.3)
    assert rows[1] == {
        "method": "stc", "runs": "3", "seeds": "1 2 3", "rounds": "2", "finished": "2",
        "metric": "accuracy", "result": repr(mean(scores)), "deviation": repr(stdev(scores)),
        "best": repr(mean(scores)), "total_bytes": "2500.0", "compression_ratio": "20.0",
        "uplink_bits_per_weight": "0.5", "downlink_bits_per_weight": "0.25",
        "model_ratio": "2.0", "bytes_to_0.5": "2250.0", "reached_0.5": "2", "wall_seconds": "7.5",
        "network_seconds": "50.0", "network_deviation": repr(stdev((60, 60, 30))),
        "seconds_to_0.5": "45.0",
    }  # fmt: skip
    assert rows[0]["deviation"] == rows[0]["bytes_to_0.5"] == rows[0]["network_seconds"] == ""


def test_a_target_of_ones_own_is_reckoned_from_the_rounds(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(folder), "--format", "csv", "--target", "0.2", "--target", "0.7"])
    (other, stc) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (other["bytes_to_0.2"], other["reached_0.7"]) == ("2050000.0", "0")
    assert (stc["bytes_to_0.2"], stc["bytes_to_0.7"]) == ("1500.0", "3000.0")
    assert stc["reached_0.7"] == "1"


def test_one_row_a_run_is_shown_whatever_they_are(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(folder / "z", dataset__name="cifar10")
    with pytest.raises(SystemExit, match="not comparable"):
        main([str(folder)])
    main([str(folder), "--runs"])
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[-1] for row in rows] == [
        "folder", "runs/a", "runs/stc1", "runs/stc2", "runs/stc3", "runs/z",
    ]  # fmt: skip
    main([str(folder), "--any"])
    assert "stc dataset=cifar10" in capsys.readouterr().out


def test_the_metric_is_named_in_each_row_where_there_are_several(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path / "a")
    other = make_run(tmp_path / "b", method__name="fedavg")
    for name in ("summary.json", "rounds.csv"):
        (other / name).write_text((other / name).read_text().replace("accuracy", "map"))
    main([str(tmp_path), "--any"])
    rows = capsys.readouterr().out.splitlines()
    assert "result" in rows[0]
    assert "accuracy 0.6000" in rows[1]
    assert "map 0.6000" in rows[2]


def test_a_run_that_diverged_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path / "a", (0.1, float("nan")))
    make_run(tmp_path / "b", (0.1, float("nan")), seed=2)
    make_run(tmp_path / "c", (float("nan"),), method__name="fedavg")
    main([str(tmp_path)])
    assert "nan ± nan" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["nowhere"], "nowhere holds no summary.json"),
        (["begun"], "there is no run with a round to show"),
        (["runs", "--runs", "--format", "csv"], "leave one of both out"),
    ],
)
def test_mistakes_are_named(words: list[str], reason: str, folder: Path) -> None:
    (Path("begun") / ".hydra").mkdir(parents=True)
    with pytest.raises(SystemExit, match=reason):
        main(words)


def test_begun_runs_are_named_apart_from_the_table(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "new" / ".hydra").mkdir(parents=True)
    main([str(folder)])
    found = capsys.readouterr()
    assert found.err == "runs/new: left out, no round has ended yet\n"
    assert [line.rstrip() for line in found.out.splitlines()] == TEXT.splitlines()


def test_what_latex_and_markdown_would_take_for_commands_is_escaped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = r"a_b&c%d$e#f{g}~h^i\j|k[l]"
    run = make_run(tmp_path / "run")
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps({**summary, "method": name}))
    main([str(run), "--format", "latex"])
    row = capsys.readouterr().out.splitlines()[4]
    assert row.startswith(
        r"a\_b\&c\%d\$e\#f\{g\}\textasciitilde{}h\textasciicircum{}i\textbackslash{}j\textbar{}k"
        r"{[}l] & 1"
    )
    main([str(run), "--format", "markdown"])
    row = capsys.readouterr().out.splitlines()[2]
    assert row.startswith(r"| a\_b&c%d$e#f{g}\~h^i\\j\|k\[l\] | 1")
