"""What a recipe hands to the link where it has quantised its tensors itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedcomp.codecs.base import Symbols
    from fedcomp.tensors import Tensors


@dataclass(frozen=True)
class Update:
    """A finished answer of a recipe.

    Attributes
    ----------
    symbols
        What `ClientLink.quantise` made of the tensors, in one or several calls.
    target
        The tensors that the recipe would have sent without loss.
    side
        Named arrays for the server step.
    """

    symbols: Symbols
    target: Tensors = field(repr=False)
    side: Tensors = field(default_factory=dict, repr=False)
