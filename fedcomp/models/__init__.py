"""Model families."""

from __future__ import annotations

from fedcomp.models.base import ModelSettings
from fedcomp.registry import Registry

MODELS: Registry[type[ModelSettings]] = Registry(
    "model",
    {
        "mlp": "fedcomp.models.mlp:MLP",
        "small_cnn": "fedcomp.models.small_cnn:SmallCNN",
    },
)

__all__ = ["MODELS", "ModelSettings"]
