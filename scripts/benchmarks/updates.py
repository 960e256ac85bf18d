"""Updates of clients that were recorded in a few rounds on the digits."""

from __future__ import annotations

from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from fedcomp.advise.record import recorded
from fedcomp.codecs.fsfl import Fsfl
from fedcomp.codecs.topk import largest
from fedcomp.config import compose_config
from fedcomp.settings import parse
from fedcomp.setup import Setup
from fedcomp.tensors import subtract

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fedcomp.tensors import Manifest, Tensors

_SPARSE_QP = -28


@dataclass(frozen=True, eq=False)
class ModelUpdate:
    """What training changed of a model's floats, and the quantisation parameter of its weights."""

    name: str
    manifest: Manifest
    change: Tensors
    qp: int

    @property
    def weights(self) -> int:
        """Number of elements of all tensors."""
        return sum(value.size for value in self.change.values())


def updates(models: tuple[str, ...], qp: int) -> Iterator[ModelUpdate]:
    """Yield the update of each model, and what FSFL sends of the last one's at its own step."""
    for model in models:
        update = _recorded(model, qp)
        yield update
    sparse = {
        name: largest(value.reshape(-1), 1 - Fsfl().rate).reshape(value.shape)
        if update.manifest.by_name[name].is_weight
        else value
        for name, value in update.change.items()
    }
    name = f"{update.name}, {100 * Fsfl().rate:.0f} % sparse"
    yield ModelUpdate(name, update.manifest, sparse, _SPARSE_QP)


def _recorded(model: str, qp: int) -> ModelUpdate:
    with TemporaryDirectory() as folder:
        words = ["method=fedavg", f"model={model}", "train.steps=20", f"data_dir={folder}"]
        setup = Setup(parse(compose_config(words)))
        update = recorded(setup)
    found = subtract(update.after, update.before)
    floats = [spec.name for spec in setup.manifest.specs if found[spec.name].dtype.kind == "f"]
    return ModelUpdate(model, setup.manifest, {name: found[name] for name in floats}, qp)
