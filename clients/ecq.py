"""ECQ and ECQ^x at the client: training with levels of few bits, and the background behind them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge, Le

from fedcomp import seeds
from fedcomp.codecs import ecq as codec
from fedcomp.codecs.levels import Levels
from fedcomp.link.update import Update
from fedcomp.methods import Answer, Recipe, Work
from fedcomp.model_size import share_of_zeros
from fedcomp.training.settings import RelevanceSettings
from fedcomp.wire.keys import TRAIN_LOSS, ZEROS

if TYPE_CHECKING:
    from fedcomp.training.quantised import Layer, Relevant


@dataclass(frozen=True)
class Ecq(Recipe):
    """Train a full-precision background through its quantised self; send the levels.

    The steps are those of the model that came, the same for all clients of a round; the levels are
    twice as many as `bits` says, since weights may grow.  The price of a bit is that of codec `ecq`
    on the uplink, else of the one on the downlink, else the codec's default.  What the background
    has beyond what was sent is kept as feedback, and added to the next model; FedProx pulls to
    that sum.

    Parameters
    ----------
    scaled
        Whether gradients are multiplied by the size of the level that a weight has, as published.
    """

    name: ClassVar[str] = "ecq"
    reports: ClassVar[tuple[str, ...]] = (TRAIN_LOSS, ZEROS)
    keeps_background: ClassVar[bool] = True

    scaled: bool = False

    def fit(self, work: Work) -> Answer:
        """Train, and return levels where the uplink takes the model itself."""
        from clients.local import train_locally
        from fedcomp.models.base import load_tensors
        from fedcomp.training.loop import place
        from fedcomp.training.quantised import QuantisedSteps

        load_tensors(work.module, work.link.background())
        place(work.module, work.settings.train)
        steps = QuantisedSteps(
            work.module, layers(work), relevant=self.relevant(work), scaled=self.scaled
        )
        with steps:
            loss = train_locally(work, steps.before_step)
        background, levels = work.tensors(), steps.quantised()
        absolute = work.link.session.uplink.mode == "absolute"
        symbols, _ = work.link.quantise(background | levels if absolute else background)
        metrics = {TRAIN_LOSS: loss, ZEROS: share_of_zeros(levels.values())}
        return Answer(Update(symbols, background), metrics)

    def relevant(self, work: Work) -> Relevant | None:  # noqa: ARG002
        """Return what tells relevant weights, if anything does."""
        return None


@dataclass(frozen=True)
class EcqX(Ecq):
    """ECQ that spares weights which matter to the prediction, by layer-wise relevance propagation.

    Becking et al., "ECQ^x: Explainability-Driven Quantization for Low-Bit and Sparse DNNs",
    arXiv:2109.04236.

    Parameters
    ----------
    intensity
        p: by how much relevance may lower the share of zeros of a layer.
    relevance
        How it is propagated, and how often.
    """

    name: ClassVar[str] = "ecqx"

    intensity: Annotated[float, Ge(0), Le(1)] = 0.1
    relevance: RelevanceSettings = field(default_factory=RelevanceSettings)

    def relevant(self, work: Work) -> Relevant:
        """Return relevances on mini-batches of the client's own samples."""
        from fedcomp.training.quantised import Relevant
        from fedcomp.training.relevances import Relevances

        run = work.settings
        found = Relevances(
            *(work.module, work.train, self.relevance, run.train),
            task=work.task,
            rng=seeds.generator(run.seed, work.round, "relevance", work.client),
        )
        return Relevant(found.next, self.intensity)


def layers(work: Work) -> dict[str, Layer]:
    """Return the grid of each weight tensor that came, wide enough for weights that grow."""
    from fedcomp.codecs.grid import Grid, grid_for, step_of
    from fedcomp.training.quantised import Layer

    session = work.link.session
    context = session.context("uplink", work.round, {})
    both = (found.at(context) for found in (session.downlink, session.uplink))
    ours = [found for found in both if isinstance(found, codec.Ecq)] or [codec.Ecq()]
    down, up = ours[0], ours[-1]
    found: dict[str, Layer] = {}
    on_grid = isinstance(session.downlink.at(context), codec.Ecq) and down.mode == "absolute"
    came = (work.link.received_symbols or {}) if on_grid else {}
    for spec in session.manifest.weights:
        values, symbol = work.link.received[spec.name], came.get(spec.name)
        step = symbol.step if isinstance(symbol, Levels) else 0.0
        if not step and work.round > 1:  # version 0 lies on a grid by chance at most
            step = step_of(values, down.bits)
        step = step or grid_for(values, down.bits, down.share).step
        if step:  # a tensor of zeros has no grid
            gamma = up.gamma * codec.share_of(spec.name, session.manifest)
            found[spec.name] = Layer(Grid.wider(step, down.bits), gamma, up.bound)
    return found
