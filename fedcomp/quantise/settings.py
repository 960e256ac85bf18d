"""The settings of `fedcomp-quantise` beside those of the data set, the model and the device."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen

from fedcomp.codecs.assignment import Bound  # noqa: TC001  the settings are read from annotations
from fedcomp.training.settings import RelevanceSettings

PASSES = 10
"""Epochs of a quantiser that trains, if nobody says otherwise."""


@dataclass(frozen=True)
class QuantiseSettings:
    """How a trained model is quantised.

    Parameters
    ----------
    checkpoint
        The model: safetensors or a torch state dict.
    quantiser
        `nearest`: the nearest of 2^bits levels.  `ecq`: the cheapest by distance and entropy, while
        the weights behind them are trained.  `ecqx`: the same, sparing relevant weights.
        `deepcabac`: no training; the coarsest step and the highest price of a bit that the
        validation metric bears.
    bits, share, gamma, bound
        Levels and their prices, see `fedcomp.codecs.ecq`.
    epochs
        Passes over the training samples; by default 10, of `nearest` 0.
    samples
        The most samples that make an epoch.
    optimizer, lr, batch_size
        Of all parameters, the weights behind the levels included.
    scaled
        Whether gradients are multiplied by the size of the level that a weight has, as published.
    validation
        Share of the training samples by which the best epoch is chosen, or a step.
    patience, min_delta
        Training ends after so many epochs that raised the validation metric by no more than that.
    intensity, relevance
        p of ECQ^x, and how relevance spreads.
    tolerance
        By how much `deepcabac` may lower the validation metric.
    out
        Folder of the results.
    """

    checkpoint: Annotated[str, MinLen(1)]
    quantiser: Literal["ecqx", "ecq", "nearest", "deepcabac"] = "ecqx"
    bits: Annotated[int, Ge(2), Le(8)] = 4
    share: Annotated[float, Gt(0), Le(1)] = 0.999
    gamma: Annotated[float, Ge(0), Le(1)] = 0.05
    bound: Bound = "min"
    epochs: Annotated[int, Ge(0)] | None = None
    samples: Annotated[int, Ge(1)] | None = None
    batch_size: Annotated[int, Ge(2)] = 64
    optimizer: Literal["adam", "sgd"] = "adam"
    lr: Annotated[float, Gt(0)] = 1e-3
    scaled: bool = True
    validation: Annotated[float, Gt(0), Lt(1)] = 0.1
    patience: Annotated[int, Ge(1)] = 4
    min_delta: Annotated[float, Ge(0)] = 0.001
    intensity: Annotated[float, Ge(0), Le(1)] = 0.1
    relevance: RelevanceSettings = field(
        default_factory=lambda: RelevanceSettings(momentum=0.1, every=1)
    )
    tolerance: Annotated[float, Ge(0)] = 0.005
    out: Annotated[str, MinLen(1)] | None = None

    @property
    def passes(self) -> int:
        """How many epochs there are."""
        if self.epochs is not None:
            return self.epochs
        return PASSES if self.quantiser in ("ecq", "ecqx") else 0

    @property
    def price(self) -> float:
        """γ, that of `nearest` being 0."""
        return 0.0 if self.quantiser == "nearest" else self.gamma
