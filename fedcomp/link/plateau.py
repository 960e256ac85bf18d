"""When a loss stops falling: what adaptive schedules follow."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedcomp.codecs.base import Codec


class Plateau:
    """Counts how often so many rounds have passed without a loss below its least.

    Examples
    --------
    >>> plateau = Plateau(2)
    >>> counts = []
    >>> for loss in (5, 4, 4, 4, 3, 3, 3, 3, 3):
    ...     plateau.observe(loss)
    ...     counts.append(plateau.count)
    >>> counts
    [0, 0, 0, 1, 1, 1, 2, 2, 3]
    """

    def __init__(self, patience: int) -> None:
        self.count = 0
        self._patience = patience
        self._least = math.inf
        self._waited = 0

    @classmethod
    def of(cls, codec: Codec) -> Plateau | None:
        """Return what counts for a codec, if it wants to know."""
        return None if codec.patience is None else cls(codec.patience)

    def observe(self, loss: float) -> None:
        """Take up the loss of one more round."""
        if loss < self._least:
            self._least, self._waited = loss, 0
        else:
            self._waited += 1
        if self._waited == self._patience:
            self.count, self._waited = self.count + 1, 0

    def save(self) -> list[float]:
        """Return the state as values for JSON."""
        return [self.count, self._waited, min(self._least, 1e308)]

    def load(self, values: list[float]) -> None:
        """Take up a saved state."""
        count, waited, self._least = values
        self.count, self._waited = int(count), int(waited)
