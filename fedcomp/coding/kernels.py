"""Loops that are compiled when they are first called."""

from __future__ import annotations

from functools import cache, wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable

Function = TypeVar("Function", bound="Callable[..., Any]")


def late_kernel(function: Function) -> Function:
    """Compile a loop at its first call, so that importing its module does not import numba."""

    @cache
    def compiled() -> Callable[..., Any]:
        from fedcomp.coding.nnc_engine import kernel

        return kernel(function)

    @wraps(function)
    def call(*args: Any) -> Any:
        return compiled()(*args)

    return cast("Function", call)
