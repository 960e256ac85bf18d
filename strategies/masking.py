"""What the server steps of pruning methods share: masks, their state, and the papers' cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fedcomp.methods import ServerStep, StepSettings
from fedcomp.wire.keys import ZEROS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fedcomp.setup import Setup
    from fedcomp.tensors import Manifest, Tensors
    from fedcomp.training.pruning import Masks

FORMULA = "int(32 (1 - s) n) / 2^20 a model, s its sparsity, n all parameters; masks cost nothing"


def cost(sparsity: float, parameters: int) -> float:
    """Return what FedDIP's paper counts for a sparse model, in mebibits.

    Examples
    --------
    >>> round(cost(0.0, 23_272_266), 1), round(cost(0.95, 23_272_266), 1)
    (710.2, 35.5)
    """
    return int(32 * (1 - sparsity) * parameters) / 2**20


class MaskingSettings(StepSettings):
    """A server step that makes a sparse model."""

    def misfits(self, manifest: Manifest) -> list[str]:
        """Refuse a model of which no weights are trained."""
        if manifest.weights:
            return []
        return ["there are no weights to prune; train.parameters leaves all of them out"]


class Masking(ServerStep):
    """Keeps masks, and counts as FedDIP's paper does.

    The downlink is charged at the sparsity that the schedule has for the round, the uplink at the
    share of zeros that clients report (recipes of other methods report none, and pay for all), each
    for all clients that a round asks.
    """

    def __init__(self, setup: Setup) -> None:
        settings = setup.settings
        self._rounds = settings.rounds
        self._clients = settings.clients_per_round
        self._parameters = setup.manifest.parameters
        self._shapes = {name: setup.manifest.by_name[name].shape for name in setup.prunable}
        self._masks: Masks = {}
        self._spent = {"uplink": 0.0, "downlink": 0.0}

    def masked(self, model: Tensors) -> Tensors:
        """Return a model with zeros where the masks leave weights out."""
        zero = {n: model[n].dtype.type(0) for n in self._masks}
        return model | {n: np.where(mask, model[n], zero[n]) for n, mask in self._masks.items()}

    def charge(self, sparsity: float, metrics: Mapping[str, float]) -> None:
        """Count a round."""
        self._spent["downlink"] += self._clients * cost(sparsity, self._parameters)
        zeros = min(max(metrics.get(ZEROS, 0.0), 0.0), 1.0)
        self._spent["uplink"] += self._clients * cost(zeros, self._parameters)

    def account(self) -> dict[str, object]:
        """Return what the paper would count, beside what was sent."""
        total = sum(self._spent.values())
        spent = {**self._spent, "total": total, "unit": "mebibit", "formula": FORMULA}
        return {"paper_bytes": spent}

    def save(self) -> tuple[Tensors, dict[str, Any]]:
        """Return the masks, a bit a weight, and what has been spent."""
        return {name: np.packbits(mask) for name, mask in self._masks.items()}, dict(self._spent)

    def load(self, arrays: Tensors, values: dict[str, Any]) -> None:
        """Take up a saved state."""
        self._spent = dict(values)
        self._masks = {}
        for name, bits in arrays.items():
            shape = self._shapes[name]
            flat = np.unpackbits(bits, count=int(np.prod(shape))).astype(bool)
            self._masks[name] = flat.reshape(shape)
