"""How one layer shares relevance, as a rule about pseudo-gradients G = R / x.

With R_j = z_j·G_j at the outputs of a layer, z = W·x + b, its rules are

    epsilon   G_i = Σ_j w_ij · r_j·G_j,         r = z / (z + ε·sign z)
    z+        G_i = Σ_j (w_ij x_i)⁺/x_i · c_j·G_j,   c = z / (Σ_i (w_ij x_i)⁺ + b_j⁺ + ε)
    α, β      α · that − β · the same of the negative parts, α − β = 1
    flat      R_i = Σ_j z_j·G_j / (inputs of j)
    pass      R_i = R_j; lost where x_i is 0, as behind ReLU
    norms     LayerNorm and GroupNorm are linear with their deviation held: epsilon's rule

and the relevance of its weights is w ⊙ ∂/∂w with r·G, by epsilon's rule, under all of them.  For
what has no bias and is linear, ReLU, pooling and residual additions plain gradients do already.

Bach et al., "On Pixel-Wise Explanations for Non-Linear Classifier Decisions by Layer-Wise Relevance
Propagation", PLOS ONE 2015; α = 1 and β = 0 make z+, here with inputs of either sign.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPSILON = 1e-6

Operation: TypeAlias = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""Inputs, weights and biases to outputs."""

Rule: TypeAlias = Callable[[Operation, Tensor, Tensor, Tensor | None], Tensor]


class _Share(torch.autograd.Function):
    """A value whose G goes to several tensors, to each times its own factor; None counts as 1."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, *pairs: Tensor | None) -> Tensor:
        ctx.mark_dirty(value)  # so it needs no copy; what follows may change it in place
        ctx.save_for_backward(*pairs[1::2])
        return value

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (given,) = gradients
        found: list[Tensor | None] = [None]
        for factor, needed in zip(ctx.saved_tensors, ctx.needs_input_grad[1::2], strict=True):
            share = given if factor is None else given * factor
            found += [share if needed else None, None]
        return tuple(found)


def share(value: Tensor, *pairs: tuple[Tensor, Tensor | None]) -> Tensor:
    """Return a value; tensors of its shape get its G times a factor."""
    flat = [tensor for pair in pairs for tensor in pair]
    found: Tensor = _Share.apply(value.detach(), *flat)
    return found


def stabilised(values: Tensor) -> Tensor:
    """Return x + ε·sign x, the sign of 0 being +1.

    Examples
    --------
    >>> stabilised(torch.tensor([-1.0, 0.0, 1.0])).tolist()
    [-1.0000009536743164, 9.999999974752427e-07, 1.0000009536743164]
    """
    return torch.where(values < 0, values - EPSILON, values + EPSILON)


def epsilon(op: Operation, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Share among all that adds up to z, in proportion."""
    z = op(x, weight, bias)
    return share(z, (z, _ratio(z.detach())))


def flat(op: Operation, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Share evenly among the inputs of each output; what x gets is R itself instead of G."""
    z = op(x.detach(), weight, bias)
    ones = share(torch.ones_like(x), (x, None))
    inputs = op(ones, torch.ones_like(weight), None)
    value = z.detach()
    return share(z, (z, _ratio(value)), (inputs, value / (inputs.detach() + EPSILON)))


def z_plus(op: Operation, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Share among what adds to z; inputs of either sign can."""
    return _signed(op, x, weight, bias, 1, 0)


def alpha2_beta1(op: Operation, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Share twice among what adds to z, and take away what a share among the rest would be."""
    return _signed(op, x, weight, bias, 2, 1)


def _signed(
    op: Operation, x: Tensor, weight: Tensor, bias: Tensor | None, alpha: int, beta: int
) -> Tensor:
    z = op(x.detach(), weight, bias)
    value = z.detach()
    fixed, shift = weight.detach(), None if bias is None else bias.detach()
    parts = (fixed.clamp(min=0), fixed.clamp(max=0))
    pairs = [(z, _ratio(value))]
    either = bool((x.detach() < 0).any())
    for sign, factor in ((1, alpha), (-1, -beta)):
        if factor == 0:
            continue
        limit = {"min": 0.0} if sign > 0 else {"max": 0.0}
        side = None if shift is None else shift.clamp(**limit)
        total = op(x.clamp(min=0) if either else x, parts[sign < 0], side)
        if either:
            total = total + op(x.clamp(max=0), parts[sign > 0], None)
        # fast algorithms of convolution may miss 0 by more than ε, and by either sign
        size = (sign * total.detach()).clamp_(min=0).add_(EPSILON)
        pairs.append((total, (value / size).mul_(sign * factor)))
    return share(z, *pairs)


def pass_on(x: Tensor, y: Tensor, *, raw: bool = False) -> Tensor:
    """Return y, an element of which hands its R to the one of x in its place.

    Parameters
    ----------
    raw
        Whether R itself is what arrives, as it is before a flat layer.
    """
    return share(y, (x, None if raw else y / stabilised(x.detach())))


def standardised(norm: Any, input: Tensor) -> Tensor:  # noqa: A002  as torch's norms name it
    """Return what a norm of single samples gives, and share it as if the deviation were constant.

    R / x would explode where x is near 0, as it may be in the sums of a transformer: Ali et al.,
    "XAI for Transformers: Better Explanations through Conservative Propagation", ICML 2022,
    arXiv:2202.07304.
    """
    x, layer = input, isinstance(norm, nn.LayerNorm)
    last = -len(norm.normalized_shape) if layer else 0
    flat = x.flatten(last) if layer else x.reshape(len(x), norm.num_groups, -1)
    rate = (flat.detach().var(-1, unbiased=False, keepdim=True) + norm.eps).rsqrt()
    z = ((flat - flat.mean(-1, keepdim=True)) * rate).reshape(x.shape)
    for number, value in enumerate((norm.weight, norm.bias)):
        if value is not None:
            fixed = value.detach() if layer else value.detach().reshape(-1, *[1] * (x.ndim - 2))
            z = z + fixed if number else z * fixed
    return share(z, (z, _ratio(z.detach())))


def _ratio(z: Tensor) -> Tensor:
    """Return z / (z + ε·sign z)."""
    size = z.abs()
    return size.div_(size + EPSILON)


def operation(layer: nn.Module, *options: Any) -> Operation:
    """Return what a linear layer or a convolution does, for any weights and biases."""
    if isinstance(layer, nn.Linear):
        return F.linear
    if isinstance(layer, nn.modules.conv._ConvTransposeNd):
        return _transposed(layer, *options)
    return layer._conv_forward  # type: ignore[return-value]


def _transposed(
    layer: nn.modules.conv._ConvTransposeNd, output_size: list[int] | None = None
) -> Operation:
    dimensions = layer.weight.ndim - 2
    function: Any = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[dimensions - 1]

    def run(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        sizes: Any = (layer.stride, layer.padding, layer.kernel_size, dimensions, layer.dilation)
        padding = layer._output_padding(x, output_size, *sizes)
        options = (layer.stride, layer.padding, padding, layer.groups, layer.dilation)
        found: Tensor = function(x, weight, bias, *options)
        return found

    return run


def merged(
    layer: nn.Module, norm: nn.modules.batchnorm._BatchNorm | None
) -> tuple[Tensor, Tensor | None]:
    """Return weights and biases of a layer, with those of a batch norm after it taken in.

    w' = w·γ/σ,  b' = (b − μ)·γ/σ + β; what w' hands to w by the chain rule is the same relevance.
    """
    weight: Tensor = layer.weight  # type: ignore[assignment]
    bias: Tensor | None = layer.bias  # type: ignore[assignment]
    if norm is None:
        return weight, bias
    assert norm.running_mean is not None  # noqa: S101  such a norm is never taken in
    assert norm.running_var is not None  # noqa: S101
    scale = (norm.running_var + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight
    shift = -norm.running_mean * scale if bias is None else (bias - norm.running_mean) * scale
    if norm.bias is not None:
        shift = shift + norm.bias
    if isinstance(layer, nn.modules.conv._ConvTransposeNd):
        # (inputs, outputs of a group, …): a group's inputs meet the outputs of that group alone
        each = scale.reshape(layer.groups, 1, -1).expand(-1, len(weight) // layer.groups, -1)
        return weight * each.reshape(*weight.shape[:2], *[1] * (weight.ndim - 2)), shift
    return weight * scale.reshape(-1, *[1] * (weight.ndim - 1)), shift


def is_gated(part: nn.Module) -> bool:
    """Tell torchvision's squeeze-and-excitation, without loading torchvision for nets of others."""
    names = (f"{kind.__module__}.{kind.__name__}" for kind in type(part).__mro__)
    return "torchvision.ops.misc.SqueezeExcitation" in names


def gate(part: Any, x: Tensor) -> Tensor:
    """Return gated features; the gate counts as a constant."""
    with torch.no_grad():
        scale: Tensor = part._scale(x)
    return x * scale
