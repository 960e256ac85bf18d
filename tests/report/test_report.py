from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from fedcomp.config import compose_config
from fedcomp.errors import DataError
from fedcomp.report.cli import main
from fedcomp.report.progress import Progress
from fedcomp.report.runs import find_folders
from fedcomp.report.summary import closing, read_summary
from fedcomp.settings import parse
from tests.common import QUICK, read_csv, run_inline


def shown(console: Console) -> str:
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def console(*, terminal: bool, width: int = 80) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=width)


def test_plain_lines_are_one_a_round(tmp_path: Path) -> None:
    settings = parse(compose_config([*QUICK]))
    out = console(terminal=False)
    with Progress(settings, out) as progress:
        run_inline(tmp_path, observers=[progress])
    lines = shown(out).splitlines()
    assert lines[0] == "fedavg on digits"
    assert [line.split("  ")[0] for line in lines[1:]] == ["round 0/2", "round 1/2", "round 2/2"]
    for word in ("accuracy ", "loss ", "up ", "down ", "left "):
        assert word in lines[-1]


def test_the_live_view_fits_a_narrow_terminal_and_gives_the_cursor_back(tmp_path: Path) -> None:
    settings = parse(compose_config([*QUICK]))
    out = console(terminal=True)
    with Progress(settings, out) as progress:
        run_inline(tmp_path, observers=[progress])
    text = shown(out)
    assert "starting 4 clients" in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    rounds = [line for line in plain.splitlines() if line.startswith("round ")]
    assert rounds
    assert all(len(line) <= 80 and "left" in line for line in rounds)


def test_the_closing_table_names_all_figures(tmp_path: Path) -> None:
    run = run_inline(tmp_path, "strategy.fraction_evaluate=1.0", "method=half")
    out = console(terminal=False, width=120)
    out.print(closing(run))
    text = shown(out)
    summary = read_summary(run)
    assert f"{summary['final_accuracy']:.4f} after 2 rounds" in text
    assert f"{summary['compression_ratio']:.2f} ×" in text
    bits = [summary[f"{direction}_bits_per_weight"] for direction in ("uplink", "downlink")]
    assert f"{bits[0]:.3g} up, {bits[1]:.3g} down, for each weight" in text
    rows = read_csv(run / "rounds.csv")[1:]
    assert bits[0] == np.mean([float(row["uplink_bits_per_weight"]) for row in rows])
    for word in ("sparsity", "uplink", "downlink", "evaluation", "time", "folder"):
        assert word in text
    assert "failures" not in text
    assert find_folders(tmp_path) == [run]


@pytest.mark.parametrize("content", ["{}", "[1]", '{"final_accuracy": 0.5}', "not json"])
def test_what_is_no_summary_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(content)
    with pytest.raises(DataError, match="is not a summary of a run"):
        read_summary(tmp_path)
    with pytest.raises(SystemExit, match=r"fedcomp-report: .* is not a summary"):
        main([str(tmp_path)])


def test_unfinished_runs_are_marked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_inline(tmp_path / "run")
    summary = json.loads((run / "summary.json").read_text())
    assert summary["status"] == "finished"
    (run / "summary.json").write_text(json.dumps({**summary, "status": "stopped"}))
    main([str(tmp_path)])
    assert "2…" in capsys.readouterr().out


def test_clustered_models_are_told_by_their_size_in_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("model.hidden=[32]", "server_step.distillation.epochs=1")
    samples = ("server_step.distillation.samples=32", f"data_dir={tmp_path}")
    run = run_inline(tmp_path / "c", "method=fedcompress", *words, *samples)
    plain = run_inline(tmp_path / "p", "model.hidden=[32]")
    found = read_summary(run)
    less = found["model_bytes"] / found["model_packed_bytes"]
    deflated = found["model_bytes"] / found["model_deflated_bytes"]
    authors = found["reference_bytes"] / found["paper_bytes"]["total"]
    assert less > deflated > 4
    out = console(terminal=False, width=300)
    out.print(closing(run))
    text = shown(out)
    assert f"{less:.2f} × smaller in a file (float32 " in text
    assert f"Deflate alone {deflated:.2f} ×)" in text
    counted = f"communication {authors:.2f} × ("
    assert counted in text
    out = console(terminal=False, width=300)
    out.print(closing(plain))
    assert "in a file" not in shown(out)
    assert "authors" not in shown(out)
    main([str(run), str(plain), "--runs"])
    table = capsys.readouterr().out.splitlines()
    assert "model" in table[0].split()
    assert f"{less:.2f} ×" in table[1]
    (line,) = (line for line in table if "authors" in line)
    assert counted in line
    assert f"final model {deflated:.2f} × (" in line
