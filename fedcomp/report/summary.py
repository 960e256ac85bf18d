"""Summaries of finished and unfinished runs, as tables for people."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from fedcomp.errors import DataError
from fedcomp.report.units import NOTHING, duration, megabytes, times

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path


_NEEDED = (
    "method",
    "dataset",
    "model",
    "rounds",
    "uplink_bytes",
    "downlink_bytes",
    "evaluation_bytes",
    "reference_bytes",
    "compression_ratio",
    "failures",
    "status",
    "wall_seconds",
)

_HARDLY = 0.01
"""Up to here a model's zeros are not worth a line."""

_UNITS = {"byte": 1, "mebibit": 2**20 / 8}
"""In which `paper_bytes` are given, in bytes."""

_WORTH = 1.5
"""From here on it is worth a line how much smaller a model's file may be."""


def read_summary(folder: Path) -> dict[str, Any]:
    """Return what a run folder's summary.json holds."""
    path = folder / "summary.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        msg = f"{folder} holds no summary.json: give the folder of a run, or one with runs below it"
        raise DataError(msg) from None
    except ValueError as error:
        msg = f"{path} is not a summary of a run: {error}"
        raise DataError(msg) from error
    missing = [key for key in _NEEDED if not isinstance(found, dict) or key not in found]
    if missing or not any(key.startswith("final_") for key in found):
        msg = f"{path} is not a summary of a run: {', '.join(missing) or 'final_…'} is missing"
        raise DataError(msg)
    return dict(found)


def is_finished(folder: Path, rounds: int) -> bool:
    """Tell whether a run has done so many rounds and written all of its files."""
    try:
        summary = read_summary(folder)
    except DataError:
        return False
    return bool(summary["status"] == "finished" and summary["rounds"] == rounds)


def metric_of(summary: dict[str, Any]) -> tuple[str, float]:
    """Return the name and the final value of the metric a run is compared by."""
    key = next(name for name in summary if name.startswith("final_"))
    return key.removeprefix("final_"), float(summary[key])


def table_of(folders: Iterable[Path]) -> Table:
    """Return one row a run: metric, bytes both ways, ratios, time, folder.

    `ratio` is that of communication, `model` that of the final model in a file, both to float32.
    """
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("method", "dataset", "model", "rounds"):
        table.add_column(name)
    for name in ("result", "uplink", "downlink", "ratio", "model", "time"):
        table.add_column(name, justify="right")
    table.add_column("folder", overflow="fold")
    for folder in folders:
        summary = read_summary(folder)
        metric, value = metric_of(summary)
        table.add_row(
            summary["method"],
            summary["dataset"],
            summary["model"],
            str(summary["rounds"]) + ("" if summary["status"] == "finished" else "…"),
            f"{metric} {value:.4f}",
            megabytes(summary["uplink_bytes"]),
            megabytes(summary["downlink_bytes"]),
            times(summary["compression_ratio"]),
            times(model_ratio(summary)),
            duration(summary["wall_seconds"]),
            Text(str(folder)),
        )
    return table


def closing(folder: Path) -> Table:
    """Return the table that ends a run."""
    summary = read_summary(folder)
    metric, value = metric_of(summary)
    ratio = summary["compression_ratio"]
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    state = "" if summary["status"] == "finished" else f", {summary['status']}"
    sent = summary["uplink_bytes"] + summary["downlink_bytes"]
    rows = {
        metric: f"{value:.4f} after {summary['rounds']} rounds"
        f" (best {summary[f'best_{metric}']:.4f}){state}",
        "uplink": megabytes(summary["uplink_bytes"]),
        "downlink": megabytes(summary["downlink_bytes"]),
        "ratio": NOTHING
        if ratio is None
        else f"{times(ratio)} (float32 both ways {megabytes(summary['reference_bytes'])},"
        f" sent {megabytes(sent)})",
        "sparsity": _both(summary, "sparsity", 100, " %", "of the weights left as they are"),
        "bits": _both(summary, "bits_per_weight", 1, "", "for each weight"),
        "zeros": _zeros(summary),
        "model": _model(summary),
        "paper": _paper(summary),
        "evaluation": f"{megabytes(summary['evaluation_bytes'])} both ways, not in the ratio",
        "failures": str(summary["failures"]),
        "superlink": _superlink(summary),
        "network": _network(summary),
        "time": duration(summary["wall_seconds"]),
        "folder": str(folder),
        "on server": summary.get("server_folder", ""),
    }
    for name, count in (("evaluation", "evaluation_bytes"), ("failures", "failures")):
        if summary[count] == 0:
            del rows[name]
    for name, text in rows.items():
        if text:
            table.add_row(name, Text(text))
    return table


def _zeros(summary: dict[str, Any]) -> str:
    """Return how sparse the model is, nothing if hardly, or if the run has not ended."""
    share = summary.get("model_sparsity", 0)
    if share <= _HARDLY:
        return ""
    layers = sorted(summary["layer_sparsity"].items(), key=lambda layer: layer[1])
    least, most = (f"{name} {100 * zeros:.1f} %" for name, zeros in (layers[0], layers[-1]))
    where = least if len(layers) == 1 else f"least {least}, most {most}"
    return f"{100 * share:.1f} % of the weights; where any: {where}"


def model_ratio(summary: Mapping[str, Any]) -> float | None:
    """Return how much smaller the final model's file may be; nothing before a run's end."""
    packed = summary.get("model_packed_bytes")
    return summary["model_bytes"] / packed if packed else None


def _model(summary: dict[str, Any]) -> str:
    """Return what the final model takes in a file, nothing where that is hardly less."""
    ratio = model_ratio(summary)
    if ratio is None or ratio < _WORTH:
        return ""
    deflated = times(summary["model_bytes"] / summary["model_deflated_bytes"])
    return (
        f"{times(ratio)} smaller in a file (float32 {megabytes(summary['model_bytes'])},"
        f" packed {megabytes(summary['model_packed_bytes'])}; Deflate alone {deflated})"
    )


def authors_count(summary: dict[str, Any]) -> str:
    """Return both ratios as the authors would have them, nothing where they count bytes that go.

    Examples
    --------
    >>> spent = {"total": 500_000, "unit": "byte"}
    >>> found = {"paper_bytes": spent, "reference_bytes": 2_000_000}
    >>> authors_count(found)
    'communication 4.00 × (0.50 MB)'
    """
    spent = summary.get("paper_bytes")
    if not spent or not spent["total"]:
        return ""
    total = spent["total"] * _UNITS[spent["unit"]]
    text = f"communication {times(summary['reference_bytes'] / total)} ({megabytes(total)})"
    if spent["unit"] == "byte" and "model_deflated_bytes" in summary:
        model = summary["model_bytes"] / summary["model_deflated_bytes"]
        text += f", final model {times(model)} ({megabytes(summary['model_deflated_bytes'])})"
    return text


def _paper(summary: dict[str, Any]) -> str:
    """Return the authors' count and how it is made."""
    text = authors_count(summary)
    return f"{text} by its authors' count: {summary['paper_bytes']['formula']}" if text else ""


def _superlink(summary: dict[str, Any]) -> str:
    """Return what a SuperLink counted, and what it was expected to; nothing of other engines."""
    counted, expected = (
        sum(summary.get(f"superlink_{name}", {}).values()) for name in ("counted_bytes", "bytes")
    )
    if not counted:
        return ""
    off = 100 * (counted - expected) / expected if expected else 100.0
    return (
        f"{megabytes(counted)} both ways by the SuperLink's own count, {off:+.2f} % of the"
        f" {megabytes(expected)} that the messages are"
    )


def _network(summary: dict[str, Any]) -> str:
    """Return the time on simulated lines, nothing where there are none.

    Examples
    --------
    >>> _network({"network": "4g", "network_seconds": 90.0, "seconds_to_target": {"0.9": 61.0}})
    '1:30 on 4g, simulated; 1:01 to 0.9'
    """
    if "network" not in summary:
        return ""
    reached = [
        f"{duration(seconds)} to {target}"
        for target, seconds in summary["seconds_to_target"].items()
        if seconds is not None
    ]
    taken = f"{duration(summary['network_seconds'])} on {summary['network']}, simulated"
    return "; ".join([taken, *reached])


def _both(summary: dict[str, Any], name: str, times: float, unit: str, of: str) -> str:
    """Return a quantity of both directions, nothing if there was no round."""
    found = [summary.get(f"{direction}_{name}") for direction in ("uplink", "downlink")]
    if None in found:
        return ""
    up, down = (f"{times * value:.3g}{unit}" for value in found if value is not None)
    return f"{up} up, {down} down, {of}, on average"
