"""Filter-scaled sparse training: weights, what is lost of them, then scale factors that make up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from fedcomp import seeds
from fedcomp.link.update import Update
from fedcomp.methods import Answer, Recipe, Work
from fedcomp.tensors import Kind
from fedcomp.training.settings import ScaleSettings
from fedcomp.wire.keys import TRAIN_LOSS

if TYPE_CHECKING:
    from torch import nn

    from fedcomp.tensors import Tensors


@dataclass(frozen=True)
class Fsfl(Recipe):
    """Train W with S as it came; quantise; train S on the lossy W; keep S if it validates better.

    Becking et al., "Adaptive Differential Filters for Fast and Communication-Efficient Federated
    Learning", CVPR Workshops 2022, arXiv:2204.04424.

    Parameters
    ----------
    scales
        How S is trained.
    """

    name: ClassVar[str] = "fsfl"
    reports: ClassVar[tuple[str, ...]] = (TRAIN_LOSS, "scales_accepted")

    scales: ScaleSettings = field(default_factory=ScaleSettings)

    def attach(self, module: nn.Module) -> None:
        """Give the module scale factors."""
        from fedcomp.models.scaling import attach_scales

        attach_scales(module)

    def export(self, tensors: Tensors) -> Tensors:
        """Multiply the scale factors into the weights."""
        from fedcomp.models.scaling import folded

        return folded(tensors)

    def fit(self, work: Work) -> Answer:
        """Return weights and scale factors, quantised one after the other."""
        from clients.local import train_locally
        from fedcomp.models.base import load_tensors
        from fedcomp.models.scaling import only, scales_of
        from fedcomp.training.loop import evaluate
        from fedcomp.training.scale_training import train_scales

        scales = scales_of(work.module)
        weights = [p for n, p in work.module.named_parameters() if n not in scales]
        if any(weight.requires_grad for weight in weights):
            with only(weights, work.module):
                loss = train_locally(work)
        else:  # scale factors alone are trained
            loss = evaluate(work.module, work.train, work.settings.train, task=work.task)["loss"]
        factors = [s.name for s in work.link.session.manifest.specs if s.kind is Kind.SCALE]
        trained = {n: value for n, value in work.tensors().items() if n not in factors}
        symbols, seen = work.link.quantise(trained)
        load_tensors(work.module, seen)
        found = train_scales(
            work.module,
            work.train,
            work.judged_by,
            settings=self.scales,
            batches=work.settings.train,
            task=work.task,
            rng=seeds.generator(work.settings.seed, work.round, "scales", work.client),
            seen=lambda scales: work.link.quantise(scales)[1],
        )
        more = work.link.unchanged(factors) if found is None else work.link.quantise(found)[0]
        kept = {name: work.link.received[name] for name in factors} if found is None else found
        metrics = {TRAIN_LOSS: loss, "scales_accepted": float(found is not None)}
        return Answer(Update(symbols | more, trained | kept), metrics)
