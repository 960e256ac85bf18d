"""How a client trains; plain values, so that nothing heavy loads to check them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen


@dataclass(frozen=True)
class TrainSettings:
    """Local training.

    Parameters
    ----------
    optimizer, lr, momentum, weight_decay
        SGD (with momentum) or Adam (whose betas are torch's).
    schedule
        Learning rate over the rounds, see `learning_rate`.
    lr_min
        Where `linear` and `cosine` end.
    lr_decay
        Factor a round under `exponential`.
    epochs, steps
        Local passes over the data; `steps` counts mini-batches instead where it is given.
    proximal_mu
        Weight of FedProx' μ/2·‖w − w_received‖²; a strategy that sends its own μ overrules it.
    parameters
        What is trained and sent: `all`, `head`, `last_<n>` layers, or a regular expression for
        names; see `fedcomp.models.selection`.
    device
        `auto` takes a GPU where there is one.
    channels_last
        Memory layout of images and convolution weights during training.
    """

    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: Annotated[float, Gt(0)] = 0.05
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9
    weight_decay: Annotated[float, Ge(0)] = 0.0
    schedule: Literal["constant", "linear", "cosine", "exponential"] = "constant"
    lr_min: Annotated[float, Ge(0)] = 0.0
    lr_decay: Annotated[float, Gt(0), Le(1)] = 0.99
    epochs: Annotated[int, Ge(1)] = 3
    steps: Annotated[int, Ge(1)] | None = None
    batch_size: Annotated[int, Ge(1)] = 16
    proximal_mu: Annotated[float, Ge(0)] = 0.0
    parameters: Annotated[str, MinLen(1)] = "all"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    channels_last: bool = False

    def learning_rate(self, round_number: int, rounds: int) -> float:
        """Return the learning rate of a round, 1 … rounds.

        With u = (round − 1)/(rounds − 1): linear lr + u·(lr_min − lr); cosine
        lr_min + (lr − lr_min)·(1 + cos πu)/2; exponential lr·lr_decay^(round − 1).

        Examples
        --------
        >>> cosine = TrainSettings(lr=0.1, schedule="cosine")
        >>> [round(cosine.learning_rate(r, 5), 4) for r in (1, 3, 5)]
        [0.1, 0.05, 0.0]
        """
        done = (round_number - 1) / max(rounds - 1, 1)
        if self.schedule == "linear":
            return self.lr + done * (self.lr_min - self.lr)
        if self.schedule == "cosine":
            return self.lr_min + (self.lr - self.lr_min) * (1 + math.cos(math.pi * done)) / 2
        if self.schedule == "exponential":
            return self.lr * self.lr_decay ** (round_number - 1)
        return self.lr


@dataclass(frozen=True)
class ScaleSettings:
    """How scale factors are trained.

    Parameters
    ----------
    epochs, steps
        Sub-epochs a round, and the mini-batches of each; by default each is a pass over the data.
    optimizer, lr, momentum
        Adam or SGD (with momentum).
    schedule
        Of the learning rate within a round: `constant`, `linear` to 0, or `cosine` with a warm
        restart at each sub-epoch (Loshchilov and Hutter, arXiv:1608.03983).
    min_gain
        By how much the validation loss has to fall.
    least
        Scale factors stay at or above it.
    """

    epochs: Annotated[int, Ge(1)] = 2
    steps: Annotated[int, Ge(1)] | None = None
    optimizer: Literal["adam", "sgd"] = "adam"
    lr: Annotated[float, Gt(0)] = 1e-3
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    min_gain: Annotated[float, Ge(0)] = 0.0
    least: Annotated[float, Gt(0)] = 1e-3

    def learning_rate(self, step: int, an_epoch: int) -> float:
        """Return the rate of a step, 0 …, with so many steps in a sub-epoch.

        Examples
        --------
        >>> cosine = ScaleSettings(lr=0.1)
        >>> [round(cosine.learning_rate(step, 4), 4) for step in range(6)]
        [0.1, 0.0854, 0.05, 0.0146, 0.1, 0.0854]
        """
        if self.schedule == "linear":
            return self.lr * (1 - step / (self.epochs * an_epoch))
        if self.schedule == "cosine":
            return self.lr * (1 + math.cos(math.pi * (step % an_epoch) / an_epoch)) / 2
        return self.lr


@dataclass(frozen=True)
class DistillationSettings:
    """How a student learns to answer as its teacher does, by Adam.

    Parameters
    ----------
    epochs
        Passes over the unlabelled samples; 0 leaves the student out.
    samples
        How many there are.
    batch_size
        A rest smaller than that is left out of an epoch, unless it is all there is.
    lr
        Learning rate.
    temperature
        What outputs are divided by on both sides.
    """

    epochs: Annotated[int, Ge(0)] = 10
    samples: Annotated[int, Ge(1)] = 2000
    batch_size: Annotated[int, Ge(1)] = 256
    lr: Annotated[float, Gt(0)] = 1e-4
    temperature: Annotated[float, Gt(0)] = 2.0


@dataclass(frozen=True)
class RelevanceSettings:
    """How relevance spreads from a net's outputs to its weights.

    Parameters
    ----------
    composite
        The rules of layers: `flat` for the first; `epsilon` for linear layers; z+ (`plus`),
        α = 2 and β = 1 (`alpha2_beta1`) or epsilon too for convolutions.  The published code calls
        them `…_bn_pass`; its composites that treat batch norm by z+ are not here.
    batch_norm
        `merge` takes batch norm into the layer before it where nothing else sees what that layer
        gives; `pass` hands relevance through.
    start
        What the outputs of the true classes begin with: their `logit`, one, or their
        `probability`; divided by the number of samples, or pixels.
    momentum
        Share of the relevance before in a new one; the published code has 0.1.
    every
        Training steps from one pass to the next; the published code has 1.
    """

    composite: Literal["epsilon_plus_flat", "epsilon_flat", "alpha2_beta1_flat"] = (
        "epsilon_plus_flat"
    )
    batch_norm: Literal["merge", "pass"] = "merge"
    start: Literal["logit", "ones", "probability"] = "logit"
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9
    every: Annotated[int, Ge(1)] = 4
