"""A run of `fedcomp-quantise`: quantise, write, read again, and judge what was read."""

from __future__ import annotations

import json
import shutil
import time
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.numpy import save_file

from fedcomp.config import as_yaml
from fedcomp.errors import ConfigError
from fedcomp.quantise.report import figures
from fedcomp.quantise.stream import read, write
from fedcomp.report.relevance import Net, draw
from fedcomp.report.runfolder import versions
from fedcomp.tensors import contiguous

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from fedcomp.quantise.case import Case
    from fedcomp.quantise.settings import QuantiseSettings
    from fedcomp.tensors import Tensors

GROUPS = ("dataset", "model", "train", "data_dir", "seed")
"""What of a composed configuration matters here."""


def folder_of(settings: QuantiseSettings, dataset: str) -> Path:
    """Return where the results go; raise `ConfigError` where something lies already."""
    if settings.out is None:
        now = time.time()
        day, clock = time.strftime("%Y-%m-%d %H-%M-%S", time.localtime(now)).split()
        name = f"{clock}.{int(now % 1 * 1e6):06}-{settings.quantiser}-{dataset}"
        return Path("outputs", "quantise", day, name)
    folder = Path(settings.out)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        msg = f"out={settings.out}: holds something already; name another folder"
        raise ConfigError(msg)
    return folder


def run(
    case: Case,
    settings: QuantiseSettings,
    config: Mapping[str, Any],
    folder: Path,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Quantise a case and write the folder; return what `quantise.json` holds."""
    began = time.perf_counter()
    before = _scores(case, case.model)
    say(f"{settings.checkpoint}: {case.metric} {before['test'][case.metric]:.4f}")
    if settings.quantiser == "deepcabac":
        from fedcomp.quantise.search import search_stream

        coded, extra = search_stream(case, settings, say)
    else:
        from fedcomp.quantise.training import train_levels

        coded, extra = train_levels(case, settings, say)
    stream = write(coded)
    decoded = read(stream, case.manifest)
    after = _scores(case, decoded)
    found = {
        "settings": asdict(settings),
        **{name: config[name] for name in GROUPS},
        "metric": case.metric,
        "before": before,
        "after": after,
        **extra,
        **figures(decoded, coded, stream, case.manifest),
        "seconds": time.perf_counter() - began,
        "versions": versions(),
    }
    own = {"quantise": asdict(settings), **{name: config[name] for name in GROUPS}}
    with _whole(folder) as place:
        (place / "model.nnc").write_bytes(stream)
        save_file({n: contiguous(v) for n, v in decoded.items()}, place / "model.safetensors")
        text = json.dumps(found, indent=2) + "\n"
        (place / "quantise.json").write_text(text, encoding="utf-8")
        (place / "config.yaml").write_text(as_yaml(own), encoding="utf-8")
        weights = {spec.name: case.model[spec.name] for spec in case.manifest.weights}
        net = Net(case.module, case.task, case.loop, settings.relevance)
        draw(net, case.test, decoded, weights, place)
    return found


def _scores(case: Case, model: Tensors) -> dict[str, dict[str, float]]:
    """Return loss and metrics on the test samples, and on those for validation."""
    return {
        "test": case.measure(case.test, model),
        "validation": case.measure(case.validation, model),
    }


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """Give a folder to write in that gets its name when all is written, and goes away otherwise."""
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        part.rename(folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
