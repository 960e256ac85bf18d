"""Settings of the link: feedback, checks, and what the server keeps for clients that lag."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt, Le

if TYPE_CHECKING:
    from fedcomp.codecs.base import Codec

MOST_EXAMPLES = 2**31
"""More samples than this no client has."""


@dataclass(frozen=True)
class LinkSettings:
    """The same on both ends.

    Parameters
    ----------
    verify
        Prove in every message that the client's model is the server's public one, to the bit;
        stop the run where it is not.
    feedback
        Whether clients keep what their codec left out and add it next time; `auto`: wherever the
        uplink sends differences by a codec that never moves away from them (`Codec.contracts`);
        with others what is kept may grow without bound.  And wherever the recipe goes on from it
        (`Recipe.keeps_background`).
    feedback_dtype
        How it is stored; `float16` halves the space and rounds.
    feedback_decay
        Factor on what is kept when it is used, an update that never arrived included.
    feedback_max_norm
        Largest L2 norm of what is kept; the rest is given up.
    max_update_norm
        Replies whose update of the parameters has a larger L2 norm are refused.
    max_buffer_norm
        The same for buffers, such as the running statistics of batch norms: those are averaged
        beside the parameters, and their size is another.
    max_examples
        Replies that claim more samples are refused.  Only the clients know how many they have, and
        most strategies weigh replies by it: unless there is a bound, one client can take over.
    history_bytes, history_versions
        Bounds of the packets kept for clients that missed some, the newest aside; a client that
        missed more gets a keyframe.
    """

    verify: bool = False
    feedback: bool | Literal["auto"] = "auto"
    feedback_dtype: Literal["float32", "float16"] = "float32"
    feedback_decay: Annotated[float, Ge(0), Le(1)] = 1.0
    feedback_max_norm: Annotated[float, Gt(0)] | None = None
    max_update_norm: Annotated[float, Gt(0)] | None = None
    max_buffer_norm: Annotated[float, Gt(0)] | None = None
    max_examples: Annotated[int, Ge(1), Le(MOST_EXAMPLES)] | None = None
    history_bytes: Annotated[int, Ge(0)] = 64_000_000
    history_versions: Annotated[int, Ge(1)] = 100

    def feedback_with(self, uplink: Codec, *, background: bool) -> bool:
        """Tell whether clients keep what this codec leaves out.

        Parameters
        ----------
        background
            Whether what the recipe trains is the model and what is kept.
        """
        if self.feedback == "auto":
            return background or (uplink.mode == "delta" and uplink.contracts)
        return self.feedback
