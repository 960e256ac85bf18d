"""What is quantised, and the samples that it is trained, chosen and judged by."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fedcomp import seeds
from fedcomp.data.base import divide
from fedcomp.errors import ConfigError, DataError
from fedcomp.models.base import load_tensors, manifest_of, read_tensors

if TYPE_CHECKING:
    from torch import nn

    from fedcomp.data.base import Samples
    from fedcomp.quantise.settings import QuantiseSettings
    from fedcomp.settings import Settings
    from fedcomp.tensors import Manifest, Tensors
    from fedcomp.training.settings import TrainSettings


@dataclass(frozen=True)
class Case:
    """A trained net with its data.

    Attributes
    ----------
    model
        The values of the checkpoint.
    validation
        Of the training samples, those that nothing is trained on here; the checkpoint itself may
        well have seen them.
    loop
        How it is trained.
    """

    module: nn.Module
    manifest: Manifest
    model: Tensors
    train: Samples
    validation: Samples
    test: Samples
    task: str
    metric: str
    loop: TrainSettings
    seed: int

    def measure(self, samples: Samples, model: Tensors | None = None) -> dict[str, float]:
        """Return loss and metrics of a model, or of the module as it is."""
        from fedcomp.training.loop import evaluate

        if model is not None:
            load_tensors(self.module, model)
        return evaluate(self.module, samples, self.loop, task=self.task)


def load_case(settings: QuantiseSettings, run: Settings) -> Case:
    """Read checkpoint and data; raise `ConfigError` for what cannot work."""
    from fedcomp.models.weights import fill, read_weights
    from fedcomp.training.loop import check_outputs, pick_device
    from fedcomp.training.tasks import TASKS

    pick_device(run.train.device)
    given = read_weights(settings.checkpoint, "checkpoint")
    try:
        data = run.dataset.open(Path(run.data_dir))
    except DataError as error:
        raise ConfigError(str(error)) from error
    shape, bare = data.input_shape, replace(run.model, pretrained=False, weights=None)
    try:
        module = bare.seeded(shape, data.classes, seeds.seed_from(run.seed, "model"))
        # of no number of outputs a head may start anew: it could not have been trained
        fill(module, given, 0, f"checkpoint={settings.checkpoint}")
        check_outputs(module, data, run.model.name, run.dataset.name)
    except (RuntimeError, MemoryError) as error:
        msg = f"model={run.model.name}: cannot be built with these settings: {error}"
        raise ConfigError(msg) from error
    if len(data.train) < 2:
        msg = f"dataset={run.dataset.name}: has a single training sample; validation needs another"
        raise ConfigError(msg)
    rest, kept = divide(
        *(len(data.train), settings.validation, seeds.generator(run.seed, "validation")),
        run.partition.groups(data.train),
    )
    manifest = manifest_of(module)
    loop = replace(
        *(run.train,),
        optimizer=settings.optimizer,
        lr=settings.lr,
        batch_size=settings.batch_size,
        epochs=1,
        steps=None,
    )
    parts = data.train.take(rest), data.train.take(kept), data.test
    task = data.task, TASKS[data.task].metric
    return Case(module, manifest, read_tensors(module, manifest), *parts, *task, loop, run.seed)
