"""Imports run one way: coding ← codecs ← wire ← link ← {strategies, clients} ← engines, cli."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = {
    "fedcomp.coding": 0,
    "fedcomp.codecs": 1,
    "fedcomp.wire": 2,
    "fedcomp.link": 3,
    "fedcomp.engines": 5,
    "fedcomp.config": 5,
    "fedcomp.cli": 6,
    "fedcomp.quantise": 6,
}
SIDES = ("strategies", "clients")
FLOWER = (
    "fedcomp/wire/records.py",
    "fedcomp/wire/sizes.py",
    "fedcomp/wire/private.py",
    "fedcomp/engines/",
)
HYDRA = "fedcomp/config.py"


def files() -> list[Path]:
    return [p for top in ("fedcomp", *SIDES) for p in sorted((ROOT / top).rglob("*.py"))]


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def layer(name: str) -> int | None:
    return next((n for prefix, n in LAYERS.items() if f"{name}.".startswith(f"{prefix}.")), None)


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_direction(path: Path) -> None:
    place = path.relative_to(ROOT).as_posix()
    module = place.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    own = layer(module)
    for name in imported(path):
        top = name.split(".")[0]
        if place.startswith("fedcomp/"):
            assert top not in SIDES, f"{place} imports {name}: the core reaches the sides by name"
            if top == "flwr":
                assert place.startswith(FLOWER), f"{place} imports {name}"
        else:
            other = SIDES[1 - SIDES.index(module.split(".")[0])]
            assert top != other, f"{place} imports {name}: the sides never import each other"
            assert (layer(name) or 0) < 5, f"{place} imports {name}"
        if top in ("hydra", "omegaconf"):
            assert place == HYDRA, f"{place} imports {name}"
        theirs = layer(name)
        if own is not None and theirs is not None:
            assert theirs <= own, f"{place} imports {name}"


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("fedcomp.config", ("torch", "flwr", "ray", "sklearn")),
        ("fedcomp.coding", ("torch",)),
        ("fedcomp.commands", ("torch", "flwr", "numpy", "hydra", "rich")),
        ("fedcomp.dotted", ("torch", "flwr", "numpy", "hydra", "rich")),
        ("fedcomp.report.units", ("torch", "flwr", "numpy", "hydra", "rich")),
    ],
)
def test_light_modules_load_nothing_heavy(module: str, heavy: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print([n for n in {heavy!r} if n in sys.modules])"
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "[]"
