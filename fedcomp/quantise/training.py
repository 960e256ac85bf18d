"""Levels of few bits, with or without training, as ECQ and ECQ^x choose them.

The grid of each weight tensor is that of the checkpoint, and stays.  The best of all epochs by the
validation metric is kept, the model before the first one among them; ECQ^x has its relevance from
some passes through the checkpoint.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from fedcomp import seeds
from fedcomp.codecs.ecq import share_of
from fedcomp.codecs.grid import grid_for
from fedcomp.model_size import share_of_zeros
from fedcomp.models.base import load_tensors, read_tensors
from fedcomp.quantise.stream import Coded, complete, on_grid
from fedcomp.training.loop import batch_ends, place, train_mode, training_steps
from fedcomp.training.quantised import Layer, QuantisedSteps, Relevant
from fedcomp.training.relevances import Relevances

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fedcomp.quantise.case import Case
    from fedcomp.quantise.settings import QuantiseSettings
    from fedcomp.tensors import Manifest, Tensors


PASSES_BEFORE = 16
"""Mini-batches whose mean relevance counts before the first step."""


class Epoch(NamedTuple):
    """What an epoch came to; 0 is the model before the first."""

    epoch: int
    loss: float | None
    validation: float
    zeros: float

    def line(self, metric: str) -> str:
        """Return a line for people."""
        loss = "" if self.loss is None else f"loss {self.loss:.4f}, "
        return (
            f"epoch {self.epoch}: {loss}validation {metric} {self.validation:.4f},"
            f" {self.zeros:.1%} zeros"
        )


def train_levels(
    case: Case, settings: QuantiseSettings, say: Callable[[str], None]
) -> tuple[dict[str, Coded], dict[str, Any]]:
    """Return the tensors of the best model, and what came of every epoch; tell `say` as well."""
    load_tensors(case.module, case.model)
    place(case.module, case.loop)
    layers = layers_of(case.model, case.manifest, settings)
    for name, parameter in case.module.named_parameters(remove_duplicate=False):
        if case.manifest.by_name[name].is_weight and name not in layers:
            parameter.requires_grad_(False)  # zeros, and there is no level for anything else
    relevances = _relevances(case, settings) if settings.quantiser == "ecqx" else None
    relevant = Relevant(relevances.next, settings.intensity) if relevances else None
    steps = QuantisedSteps(case.module, layers, relevant=relevant, scaled=settings.scaled)
    if relevances:
        steps.spare(relevances.mean(case.module, PASSES_BEFORE))
    history: list[Epoch] = []

    def validated(epoch: int, loss: float | None) -> Tensors:
        """Validate the module, and return it as it was validated: quantised."""
        found = case.measure(case.validation)[case.metric]
        model = read_tensors(case.module, case.manifest)
        history.append(Epoch(epoch, loss, found, share_of_zeros(model[name] for name in layers)))
        say(history[-1].line(case.metric))
        return model

    with steps:
        best = validated(0, None)
        reached, idle, chosen = history[0].validation, 0, 0
        for epoch, loss in _epochs(case, settings, steps.before_step):
            model = validated(epoch, loss)
            found = history[-1].validation
            if found > history[chosen].validation:
                best, chosen = model, epoch
            idle += 1
            if found > reached + settings.min_delta:
                reached, idle = found, 0
            if idle == settings.patience:
                break
            train_mode(case.module)
    weights = {name: on_grid(best[name], layer.grid.step) for name, layer in layers.items()}
    extra = {"epochs": [epoch._asdict() for epoch in history], "chosen_epoch": chosen}
    return complete(weights, best, case.manifest), extra


def layers_of(model: Tensors, manifest: Manifest, settings: QuantiseSettings) -> dict[str, Layer]:
    """Return grid and price of each weight tensor; one of zeros has no grid."""
    grids = {
        spec.name: grid_for(model[spec.name], settings.bits, settings.share)
        for spec in manifest.weights
    }
    return {
        name: Layer(grid, settings.price * share_of(name, manifest), settings.bound)
        for name, grid in grids.items()
        if grid.step
    }


def _relevances(case: Case, settings: QuantiseSettings) -> Relevances:
    return Relevances(
        *(case.module, case.train, settings.relevance, case.loop),
        task=case.task,
        rng=seeds.generator(case.seed, "relevance"),
    )


def _epochs(
    case: Case, settings: QuantiseSettings, before_step: Callable[[], None]
) -> Iterator[tuple[int, float]]:
    """Train with one optimiser throughout; yield each epoch's number and mean loss."""
    count = min(len(case.train), settings.samples or len(case.train))
    an_epoch = len(batch_ends(count, settings.batch_size)) + 1
    if not settings.passes:
        return
    losses = []
    training = training_steps(
        *(case.module, case.train, replace(case.loop, steps=an_epoch * settings.passes)),
        task=case.task,
        lr=settings.lr,
        proximal_mu=0.0,
        rng=seeds.generator(case.seed, "training"),
        before_step=before_step,
    )
    for step, loss in enumerate(training, 1):
        losses.append(loss)
        if step % an_epoch == 0:
            yield step // an_epoch, float(torch.stack(losses).mean())
            losses = []
