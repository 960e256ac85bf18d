"""Federated learning on Flower with every byte compressed, both ways, and counted."""

from __future__ import annotations

__version__ = "0.1.0"
