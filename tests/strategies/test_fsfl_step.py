"""The two ways to average weights and scale factors, where the right answer is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedcomp.config import compose_config
from fedcomp.settings import parse
from fedcomp.setup import Setup
from fedcomp.tensors import Tensors
from strategies.fsfl import LEAST, Averaging, ProductAveraging
from tests.common import QUICK, read_csv, run_inline

W, S = "0.parametrizations.weight.original", "0.parametrizations.weight.0.scale"


def averaged(step: ProductAveraging, clients: list[Tensors]) -> Tensors:
    """Average what a step lets a strategy see, as FedAvg does with equal shares."""
    seen = [{name: step.view(client.__getitem__)(name) for name in client} for client in clients]
    aggregate = {name: np.mean([client[name] for client in seen], axis=0) for name in clients[0]}
    return step.after_aggregate(aggregate, {}, {}, 1)[0]


def test_the_mean_of_products_is_exact_and_that_of_factors_is_not() -> None:
    """W = 1, 3 and S = 2, 1: the mean product is 2.5; the product of the means is 3."""
    clients: list[Tensors] = [
        {W: np.array([[1.0, 0.5]]), S: np.array([[2.0]]), "0.bias": np.array([1.0])},
        {W: np.array([[3.0, 0.5]]), S: np.array([[1.0]]), "0.bias": np.array([3.0])},
    ]
    product = averaged(ProductAveraging({W: S}), clients)
    assert (product[S] * product[W]).tolist() == [[2.5, 0.75]]
    assert (product[S].tolist(), product["0.bias"].tolist()) == ([[1.5]], [2.0])
    additive = averaged(ProductAveraging({}), clients)
    assert (additive[S] * additive[W]).tolist() == [[3.0, 0.75]]
    same = averaged(ProductAveraging({W: S}), clients[:1])
    assert {name: value.tolist() for name, value in same.items()} == {
        name: value.tolist() for name, value in clients[0].items()
    }


def test_scale_factors_that_vanish_leave_the_product_as_it_is() -> None:
    """A strategy with momentum may push S to 0 or below."""
    aggregate = {W: np.array([[0.5, -0.25]]), S: np.array([[-0.1]])}
    found, _ = ProductAveraging({W: S}).after_aggregate(aggregate, {}, {}, 1)
    assert found[S].tolist() == [[LEAST]]
    assert found[S] * found[W] == pytest.approx(np.array([[0.5, -0.25]]))


def test_every_layer_whose_weights_and_scales_travel_is_known() -> None:
    for words, layers in (((), 2), (("train.parameters=scale",), 0)):
        setup = Setup(parse(compose_config([*QUICK, "method=fsfl", *words])))
        step = Averaging(averaging="product").create(setup)
        assert isinstance(step, ProductAveraging)
        assert len(step._scales) == layers


@pytest.mark.parametrize(
    "strategy", [("fedavg",), ("fedadam", "strategy.eta=0.01"), ("fedmedian",)]
)
def test_any_strategy_averages_products(strategy: tuple[str, ...], tmp_path: Path) -> None:
    words = ("method=fsfl", f"strategy={strategy[0]}", *strategy[1:], "rounds=4", "train.steps=20")
    words = (*words, "recipe.scales.lr=0.02", "link.verify=true")
    losses = {}
    for averaging in ("additive", "product"):
        run = run_inline(tmp_path / averaging, *words, f"server_step.averaging={averaging}")
        losses[averaging] = [float(row["loss"]) for row in read_csv(run / "rounds.csv")]
    assert losses["product"] != losses["additive"]
    assert losses["product"][-1] == pytest.approx(losses["additive"][-1], rel=0.1)
