"""FedZip: the largest changes, in few clusters of which one is 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge, Gt, Le

from fedcomp.codecs.base import About
from fedcomp.codecs.clusters import centroids
from fedcomp.codecs.codebook import CodebookCodec
from fedcomp.codecs.coders import Coder  # noqa: TC001  for the settings
from fedcomp.codecs.topk import largest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fedcomp.codecs.base import Context, Mode
    from fedcomp.codecs.numbered import Numbered
    from fedcomp.tensors import Array


@dataclass(frozen=True)
class FedZip(CodebookCodec):
    """C(s) for each tensor, s its ⌈p·n⌉ largest weights and else 0, one centroid of C held at 0.

    Malekijoo, Fadaeieslam, Malekijou, Homayounfar, Alizadeh-Shabdiz, Rawassizadeh, "FEDZIP: A
    Compression Framework for Communication-Efficient Federated Learning", arXiv:2102.01593: top-z
    sparsification, k-means, one of three encodings.  Only its abstract could be read; which z the
    paper takes, and what it does with downlink and feedback, could not.  The defaults are those of
    its first author's code, github.com/malekijoo/FedZip: 20 % of a tensor are kept, and 3 clusters
    hold them and the zeros.  There the middle centroid is a mean, as a rule next to 0, and biases
    are clustered, too; here they go at `fine_step`, as with every codec.

    What is kept goes to the nearest centroid, and 0 is one of them: |w − ŵ| ≤ |w| for each weight.

    Parameters
    ----------
    density
        p; of equal weights at the threshold the first ones are kept.
    clusters
        Most centroids, 0 among them; what is kept and nearer to 0 than to any other becomes 0.
    coder
        How the indices are written; that code counts bits of `huffman`, of positions, and of the
        distances between positions, which is what `golomb` writes.
    """

    name: ClassVar[str] = "fedzip"
    modes: ClassVar[tuple[Mode, ...]] = ("delta",)
    about: ClassVar[About] = About(
        paper="Malekijoo et al., arXiv:2102.01593",
        formula="c_i, i = argmin |s − c_i|, s = w for the ⌈p·n⌉ largest |w|, else 0; a c is 0",
        bias="biased",
        cost="O(n log n)",
    )

    density: Annotated[float, Gt(0), Le(1)] = 0.2
    clusters: Annotated[int, Ge(3), Le(256)] = 3
    coder: Coder = "huffman"

    def numbered(self, name: str, values: Array, context: Context) -> Numbered | None:
        """Return indices and centroids of the largest weights and zeros."""
        kept = largest(values.reshape(-1), self.density).reshape(values.shape)
        return super().numbered(name, kept, context)

    def centres(self, values: Array) -> NDArray[np.float64]:
        """Return the centroids of k-means, one of them 0."""
        return centroids(values, self.clusters, keep_zero=True)
