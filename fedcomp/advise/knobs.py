"""What of each codec is tried: lines of values of one setting, from the smallest packet on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fedcomp.tensors import Manifest, Tensors

Value = bool | int | float | str | None


class Line(NamedTuple):
    """Values of a setting, the others as they are by default or in `fixed`.

    Attributes
    ----------
    ordered
        Whether packets grow along the values, and lose less up to some value at least, so that
        not all have to be tried.
    """

    key: str
    values: Sequence[Value]
    fixed: Mapping[str, Value] = {}
    ordered: bool = True

    def settings(self, at: int) -> dict[str, Value]:
        """Return the settings at a place."""
        own = {self.key: self.values[at]} if self.key else {}
        return {**self.fixed, **own}

    def with_fixed(self, **settings: Value) -> Line:
        """Return the line with other settings beside the one that changes."""
        return self._replace(fixed={**self.fixed, **settings})


def _digits(value: float, count: int) -> float:
    return float(f"{value:.{count}g}")


_STEPS = [_digits(2.0 ** (at / 16), 4) for at in range(80, -481, -1)]
_SHARES = list(dict.fromkeys(_digits(10 ** (at / 50), 3) for at in range(-250, 1)))
_RATES = list(dict.fromkeys(round(1 - share, 6) for share in _SHARES))
_THRESHOLDS = [_digits(2.0 ** (at / 16), 3) for at in range(112, -97, -1)]
_COUNTS = [*range(2, 9), *(round(2 ** (at / 4)) for at in range(13, 33))]
_LEVELS = [*range(1, 9), *(round(2 ** (at / 4)) for at in range(13, 60)), 32767]

_LINES: dict[str, tuple[Line, ...]] = {
    "cast": (Line("dtype", ("bf16", "fp16"), ordered=False),),
    "cossgd": (Line("bits", range(1, 6)), Line("bits", range(6, 17), {"clip": 0.0})),
    "deepcabac": (Line("step", _STEPS),),
    "ecq": (
        Line("bits", range(2, 9), {"mode": "delta"}),
        Line("gamma", [at / 50 for at in range(50, -1, -1)], {"mode": "delta"}),
        Line("bits", range(2, 9)),
    ),
    "eden": (Line("bits", range(1, 9)), Line("bits", range(1, 9), {"unbiased": False})),
    "fedzip": (
        Line("density", _SHARES),
        Line("density", _SHARES, {"clusters": 15}),
        Line("density", _SHARES, {"clusters": 15, "coder": "cabac"}),
    ),
    "fsfl": tuple(Line("rate", _RATES, {"step": 2.0**-at}) for at in (7, 9, 11, 13)),
    "kmeans": (Line("clusters", _COUNTS),),
    "linear": (Line("bits", range(1, 17)), Line("bits", range(1, 17), {"rotation": "hadamard"})),
    "nnc": tuple(
        Line("step", _STEPS, {"qp": None, "quantiser": quantiser})
        for quantiser in ("uniform", "rate_distortion", "dependent")
    ),
    "powersgd": (Line("rank", range(1, 65)),),
    "qsgd": (Line("s", _LEVELS), Line("s", _LEVELS, {"bucket": None})),
    "randk": (Line("density", _SHARES),),
    "stc": (Line("density", _SHARES), Line("density", _SHARES, {"coder": "cabac"})),
    "terngrad": (Line("clip", (None, 8.0, 5.0, 4.0, 3.0, 2.5, 2.0, 1.5, 1.0), ordered=False),),
    "threshold": (
        Line("relative", _THRESHOLDS),
        Line("relative", _THRESHOLDS, {"bits": 4}),
    ),
    "topk": (
        Line("density", _SHARES),
        Line("density", _SHARES, {"bits": 4}),
        Line("density", _SHARES, {"bits": 4, "scope": "model"}),
    ),
    "uniform": (Line("bits", range(2, 25)), Line("step", _STEPS, {"bits": None})),
}

_AS_IT_IS = Line("", (None,))


def lines(codec: str, change: Tensors, manifest: Manifest) -> tuple[Line, ...]:
    """Return what is tried of a codec; one without an entry is tried as it is.

    All packets of `signsgd` have one size, and ‖w − s·sgn(w)‖ is least with s the mean of |w|.
    """
    if codec == "signsgd":
        weights = [change[s.name].ravel() for s in manifest.weights]
        sizes = np.abs(np.concatenate(weights)) if weights else np.zeros(0)
        if sizes.any():
            return (Line("step", (_digits(float(sizes[sizes > 0].mean()), 3),), ordered=False),)
    return _LINES.get(codec, (_AS_IT_IS,))


def word(key: str, value: Any) -> str:
    """Return a setting as it is written on the command line.

    Examples
    --------
    >>> word("qp", None), word("unbiased", False), word("step", 2.0**-7)
    ('uplink.qp=null', 'uplink.unbiased=false', 'uplink.step=0.0078125')
    """
    text = {None: "null", True: "true", False: "false"}.get(value) if _is_word(value) else None
    return f"uplink.{key}={value if text is None else text}"


def _is_word(value: Any) -> bool:
    return value is None or isinstance(value, bool)
