"""k-means: the codebook of least squared error for each tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedcomp.codecs.base import About
from fedcomp.codecs.clusters import centroids
from fedcomp.codecs.codebook import CodebookCodec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fedcomp.tensors import Array


@dataclass(frozen=True)
class KMeans(CodebookCodec):
    """c_i for each weight, i = argmin |w − c_i| and c the k centroids of least ‖w − C(w)‖².

    Lloyd, "Least squares quantization in PCM", IEEE Transactions on Information Theory 28(2), 1982;
    Han, Mao, Dally, "Deep Compression", ICLR 2016, arXiv:1510.00149, for weights.  A mean is the
    point of least squared distance, so that no cluster is farther from its own than from 0.

    Parameters
    ----------
    keep_zero
        Hold the centroid nearest to 0 at 0, so that weights which do not change stay as they are.
    """

    name: ClassVar[str] = "kmeans"
    about: ClassVar[About] = About(
        paper="Lloyd, IEEE T-IT 1982; Han et al., ICLR 2016, arXiv:1510.00149",
        formula="c_i, i = argmin |w − c_i|, c = argmin ‖w − C(w)‖²",
        bias="biased",
        cost="O(n log n)",
    )

    keep_zero: bool = False

    def centres(self, values: Array) -> NDArray[np.float64]:
        """Return the centroids of k-means."""
        return centroids(values, self.clusters, keep_zero=self.keep_zero)
