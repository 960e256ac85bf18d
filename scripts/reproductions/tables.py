"""Tables and pictures in READMEs, of stored figures; `python -m scripts.reproductions.tables`.

They stand between two comments, `<!-- table NAME … -->` and `<!-- end -->`, of which `NAME` is that
of a file conf/experiment/NAME.json, or `*` for all those that no other place names.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedcomp.report.comparison import formats
from scripts.reproductions import picture, quantised
from scripts.reproductions.results import columns

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scripts.reproductions.results import Results

ROOT = Path(__file__).parents[2]
FIGURES = Path("conf", "experiment")
READMES = (Path("README.md"), FIGURES / "README.md")
_PLACE = re.compile(
    r"(<!-- (picture|table) (\w+|\*)(?!\w).*?-->\n)(.*?)(<!-- end -->\n)", re.DOTALL
)


def stored(root: Path = ROOT) -> dict[str, Results]:
    """Return the figures of each comparison that are kept."""
    files = sorted((root / FIGURES).glob("*.json"))
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}


def written(text: str, every: Mapping[str, Results], named: set[str], here: Path) -> str:
    """Return a README with its tables as they are now.

    Parameters
    ----------
    here
        Its folder, below the root of the project.
    named
        Comparisons that have a place of their own somewhere.
    """

    def filled(place: re.Match[str]) -> str:
        start, kind, name, _, end = place.groups()
        if name == "*":
            made = [f"### {n}\n\n{table(every[n])}" for n in sorted(every.keys() - named)]
        elif name not in every:
            made = []
        else:
            made = [table(every[name]) if kind == "table" else _image(name, every[name], here)]
        return start + "".join(f"\n{part}\n" for part in made) + ("\n" if made else "") + end

    return _PLACE.sub(filled, text)


def names_of(text: str) -> set[str]:
    """Return the comparisons that a README names at a place."""
    return {place[3] for place in _PLACE.finditer(text)} - {"*"}


def pictured(text: str) -> set[str]:
    """Return the comparisons of which a README shows a picture."""
    return {place[3] for place in _PLACE.finditer(text) if place[2] == "picture"}


def table(results: Results) -> str:
    """Return a table with what it was measured on, in Markdown."""
    made = quantised.columns if results["counted"] == quantised.COUNTED else columns
    return f"{formats.markdown(made(results))}\n\n{caption(results)}"


def caption(results: Results) -> str:
    """Return on what, when and by which versions figures were measured, and what they are."""
    machine, field = results["machine"], results["field"]
    where = f"{machine['cores']} cores, {machine['processor']}"
    where += f", {machine['accelerator']}" if machine["accelerator"] else ""
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    cases = len({run["case"] for run in results["runs"]}) > 1
    lines = [results["about"], _cut(field, several=cases)]
    targets = _targets(results)
    if targets:
        lines.append(
            f"“to target”: until {results['metric']} reached what {results['reference']} has after"
            f" half its rounds, {targets}. Bytes are those of packets with their headers; “in"
            " messages”: how many times fewer with what Flower wraps around them. Codecs may have"
            " been timed beside other runs: `scripts/bench` measures their speed."
        )
        seeds = sorted({run["seed"] for run in results["runs"]})
        several = f"Seeds {', '.join(map(str, seeds))}: means ± sample deviations"
        several += ", of ratios medians (least to most)."
        lines.append(several if len(seeds) > 1 else f"One seed: {seeds[0]}.")
    if any(run["status"] != "finished" for run in results["runs"]):
        lines.append("“…”: a run that had not finished.")
    lines.append(f"Measured on {results['date']}: {where}; {versions}.")
    return " ".join(line for line in lines if line)


def write(root: Path = ROOT) -> list[Path]:
    """Bring all tables and pictures up to date; return the files."""
    every = stored(root)
    texts = {name: (root / name).read_text(encoding="utf-8") for name in READMES}
    named = {name for text in texts.values() for name in names_of(text)}
    files = []
    for readme, text in texts.items():
        files.append(root / readme)
        files[-1].write_text(written(text, every, named, readme.parent), encoding="utf-8")
        for name in sorted(pictured(text) & every.keys()):
            files.append(root / FIGURES / f"{name}.svg")
            files[-1].write_text(picture.draw(every[name]), encoding="utf-8")
    return files


def _image(name: str, results: Results, here: Path) -> str:
    counted = "both ways" if results["counted"] == "both" else "up"
    which = "some methods" if results.get("drawn") else "each method"
    title = f"{results['metric']} of {which} by the bytes sent {counted}"
    return f"![{title}]({os.path.relpath(FIGURES / name, here)}.svg)"


def _cut(field: Mapping[str, Any], *, several: bool) -> str:
    """Return how much of the task the runs did, in a sentence."""
    if not field:
        return ""
    steps, epochs, count = field["steps"], field["epochs"], field["clients"]
    work = f"{steps} batches" if steps else f"{epochs} epoch{'s' * (epochs > 1)} in batches"
    who = f"all {count}" if field["fraction"] == 1 else f"{field['fraction']:.0%} of {count}"
    set_ = {key: value for key, value in field["partition"].items() if value is not None}
    division = ", ".join(f"{key} {value}" for key, value in set_.items())
    return (
        f"Net {field['model']} on {field['dataset']}"
        + ("" if several else f" (partition: {division.removeprefix('name ')})")
        + f"; {who} clients in each round, {work} of {field['batch_size']} samples each."
    )


def _targets(results: Results) -> str:
    """Return each case's targets, from the least to the greatest over its seeds."""
    found: dict[str, list[float]] = {}
    for run in results["runs"]:
        if run["target"] is not None:
            found.setdefault(run["case"], []).append(run["target"])
    spans = {case: sorted({f"{target:.4f}" for target in all_}) for case, all_ in found.items()}
    texts = {case: " to ".join(dict.fromkeys((s[0], s[-1]))) for case, s in spans.items()}
    return ", ".join(f"{text} ({case})" if case else text for case, text in texts.items())


if __name__ == "__main__":
    for made in write():
        print(made)
