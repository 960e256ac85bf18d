"""Symbols that are decoded when somebody looks at them, or all at once on several threads."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fedcomp.codecs.base import Symbols

T = TypeVar("T")
Result = TypeVar("Result")

_WORTH_THREADS = 1 << 16


class LazySymbols(Mapping[str, Any]):
    """Symbols by tensor name; each look-up decodes anew, nothing is kept.

    Parameters
    ----------
    makers
        What decodes each tensor.
    sizes
        Number of values of each tensor.
    """

    def __init__(self, makers: Mapping[str, Callable[[], Any]], sizes: Mapping[str, int]) -> None:
        self._makers = makers
        self._sizes = sizes

    def __getitem__(self, name: str) -> Any:
        return self._makers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)

    def all(self) -> Symbols:
        """Return the symbols of all tensors."""
        sizes = [self._sizes[name] for name in self]
        return dict(zip(self, each(self.__getitem__, list(self), sizes), strict=True))


def each(work: Callable[[T], Result], items: Sequence[T], sizes: Sequence[int]) -> list[Result]:
    """Return the results in order; large tensors first, on as many threads as numba may use."""
    if len(items) < 2 or sum(sizes) < _WORTH_THREADS:
        return [work(item) for item in items]
    import numba

    order = np.argsort(sizes, kind="stable")[::-1].tolist()
    with ThreadPoolExecutor(numba.get_num_threads()) as pool:
        done = dict(zip(order, pool.map(work, [items[i] for i in order]), strict=True))
    return [done[i] for i in range(len(items))]
