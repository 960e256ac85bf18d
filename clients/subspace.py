"""Training in the subspace in which updates travel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge, Le

from fedcomp.codecs.subspace import Subspace
from fedcomp.methods import Answer, Recipe, Work
from fedcomp.wire.keys import TRAIN_LOSS

if TYPE_CHECKING:
    from fedcomp.tensors import Tensors


@dataclass(frozen=True)
class SubspaceTraining(Recipe):
    """Local training along a random subspace, the uplink codec's, so that few numbers say all.

    Li et al., "Measuring the Intrinsic Dimension of Objective Landscapes", ICLR 2018,
    arXiv:1804.08838, train in one from the start; here clients do, at any optimiser.

    Parameters
    ----------
    gain
        γ: the step of n weights that share a value is n^γ times as long as without.  Adam does not
        see it, for it divides by what gradients are like; FedProx' pull is not part of it.
    """

    name: ClassVar[str] = "subspace"

    gain: Annotated[float, Ge(0), Le(2)] = 0.67

    def fit(self, work: Work) -> Answer:
        """Train, and return what lies in the subspace."""
        from clients.local import train_locally
        from fedcomp.training.subspace import Projection

        codec, session = work.link.codec, work.link.session
        assert isinstance(codec, Subspace)  # noqa: S101  see `fedcomp.conflicts`
        columns = codec.columns(session.manifest, session.seed)
        loss = train_locally(work, Projection(work.module, columns, self.gain).before_step)
        trained: Tensors = dict(work.tensors())
        for name, found in columns.items():  # weight decay and rounding leave the subspace
            before = work.link.received[name]
            moved = found.spread(found.project(trained[name] - before))
            trained[name] = (before + moved.reshape(before.shape)).astype(before.dtype)
        return Answer(trained, {TRAIN_LOSS: loss})
