"""The server step of methods that have none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedcomp.methods import ServerStep, StepSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fedcomp.setup import Setup
    from fedcomp.tensors import Tensors


class Keep(ServerStep):
    """Publishes the aggregate as it is."""

    def after_aggregate(
        self,
        model: Tensors,
        side: Mapping[str, Tensors],  # noqa: ARG002
        metrics: Mapping[str, float],  # noqa: ARG002
        round_number: int,  # noqa: ARG002
    ) -> tuple[Tensors, Tensors]:
        """Return the aggregate."""
        return model, {}


@dataclass(frozen=True)
class NoStep(StepSettings):
    """Publish the aggregate as it is."""

    name: ClassVar[str] = "none"

    def create(self, setup: Setup) -> ServerStep:  # noqa: ARG002
        """Return a step that changes nothing."""
        return Keep()
