from __future__ import annotations

from pathlib import Path

import pytest

from fedcomp.codecs.nnc import Nnc
from fedcomp.tensors import Tensors
from tests.common import read_csv, read_summary, run_inline

LONG = ("method=deepcabac", "train.steps=20", "link.verify=true")


def test_importance_is_that_of_the_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensors] = []
    original = Nnc.quantise_weighted

    def spy(self: Nnc, tensors: Tensors, importance: Tensors, context: object) -> object:
        seen.append(importance)
        assert importance.keys() == tensors.keys()
        return original(self, tensors, importance, context)  # type: ignore[arg-type]

    monkeypatch.setattr(Nnc, "quantise_weighted", spy)
    run_inline(tmp_path, *LONG)
    assert len(seen) == 2 * 4
    for importance in seen:
        total = sum(float(value.sum()) for value in importance.values())
        assert total == pytest.approx(sum(value.size for value in importance.values()), rel=1e-4)
    assert max(value.max() for value in seen[0].values()) > 4


@pytest.mark.parametrize(
    "words",
    [(), ("recipe.weighted=false",), ("uplink.quantiser=uniform",), ("codec@uplink=stc",)],
)
def test_it_learns_with_and_without_importance(words: tuple[str, ...], tmp_path: Path) -> None:
    run = run_inline(tmp_path, *LONG, *words)
    losses = [float(row["loss"]) for row in read_csv(run / "rounds.csv")]
    assert losses[-1] < losses[0]
    assert read_summary(run)["compression_ratio"] > 2


def test_a_part_of_the_model_may_be_trained(tmp_path: Path) -> None:
    run_inline(tmp_path, *LONG, "train.parameters=head")
