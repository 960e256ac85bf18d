"""What both ends build from the same settings: data, partition, model, version 0."""

from __future__ import annotations

import logging
from copy import deepcopy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedcomp import seeds
from fedcomp.data.base import Samples, divide
from fedcomp.data.server_data import Source, chosen, server_inputs
from fedcomp.errors import ConfigError, DataError
from fedcomp.link.session import Session
from fedcomp.tensors import Manifest, full_digest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import nn

    from fedcomp.data.base import Dataset
    from fedcomp.settings import Settings
    from fedcomp.tensors import Array, Tensors

log = logging.getLogger(__name__)


class Setup:
    """The parts of a run, each built when first asked for and then kept.

    Parameters
    ----------
    needs_weights
        Whether the file that `model.weights` or `model.pretrained` names has to be here.  A client
        does without: its version 0 is another one then, and it gets the server's as a keyframe.
    own_data
        Whether all samples here belong to one client, as on the machine of a site.
    """

    def __init__(
        self, settings: Settings, *, needs_weights: bool = True, own_data: bool = False
    ) -> None:
        self.settings = settings
        self._needs_weights = needs_weights
        self._own_data = own_data

    @cached_property
    def dataset(self) -> Dataset:
        """The data set with all clients' samples."""
        return self.settings.dataset.open(Path(self.settings.data_dir))

    @cached_property
    def divided(self) -> tuple[Array, Array]:
        """Indices of the training samples that clients get, and of those that the server keeps."""
        settings, samples = self.settings, self.dataset.train
        share = Source.of(settings.dataset).share
        if not share:
            return np.arange(len(samples)), np.arange(0)
        rng = seeds.generator(settings.seed, "held_out")
        rest, kept = divide(len(samples), share, rng, settings.partition.groups(samples))
        if len(kept) > 1.5 * share * len(samples) + 1:
            log.warning(
                "dataset.server_data=%s: the server keeps %d of %d samples, since partition=%s"
                " leaves groups whole",
                *(settings.dataset.server_data, len(kept), len(samples), settings.partition.name),
            )
        return rest, kept

    @cached_property
    def partition(self) -> list[Array]:
        """Indices of each client's training samples."""
        settings, samples = self.settings, self.dataset.train
        rng = seeds.generator(settings.seed, "partition")
        shared, _ = self.divided
        parts = settings.partition.split(samples.outline(shared), settings.clients, rng)
        return [shared[part] for part in parts]

    def server_samples(self, count: int) -> Samples:
        """Return at most `count` samples that the server owns; their targets say nothing."""
        settings, train = self.settings, self.dataset.train
        if Source.of(settings.dataset).share:
            kept = self.divided[1]
            inputs = train.inputs[kept[chosen(len(kept), count, settings.seed)]]
        else:
            place = Path(settings.data_dir)
            inputs = server_inputs(settings.dataset, self.dataset, place, count, settings.seed)
        return Samples(inputs, np.zeros(len(inputs), np.int64), train.preparation)

    def client_indices(self, partition_id: int) -> tuple[Array, Array]:
        """Return which samples a client trains on, and which it keeps for validation."""
        everything = np.arange(len(self.dataset.train)) if self._own_data else None
        mine = self.partition[partition_id] if everything is None else everything
        rng = seeds.generator(self.settings.seed, "validation", partition_id)
        groups = self.settings.partition.groups(self.dataset.train)
        own = None if groups is None else groups[mine]
        rest, validation = divide(len(mine), self.settings.dataset.validation, rng, own)
        return mine[rest], mine[validation]

    def client_samples(self, partition_id: int) -> tuple[Samples, Samples]:
        """Return a client's samples to train on and those it keeps for validation."""
        rest, validation = self.client_indices(partition_id)
        return self.dataset.train.take(rest), self.dataset.train.take(validation)

    @cached_property
    def module(self) -> nn.Module:
        """A module for everybody in this process; who uses it first loads the values it wants."""
        from fedcomp.models.selection import freeze, selected

        settings = self.settings
        seed = seeds.seed_from(settings.seed, "model")
        shape, outputs = self.dataset.input_shape, self.dataset.classes
        try:
            module = settings.model.seeded(shape, outputs, seed)
        except ConfigError as error:
            if self._needs_weights or not settings.model.starts_from_weights:
                raise
            log.warning("%s; the server sends the model instead", error)
            bare = replace(settings.model, pretrained=False, weights=None)
            module = bare.seeded(shape, outputs, seed)
        settings.recipe.attach(module)
        freeze(module, selected(module, settings.train.parameters))
        return module

    @cached_property
    def initial(self) -> Tensors:
        """Version 0 of the model."""
        from fedcomp.models.base import read_tensors

        self.__dict__.pop("module", None)  # one that has been trained is not version 0 any more
        tensors = read_tensors(self.module, self.manifest)
        for value in tensors.values():
            value.flags.writeable = False
        return tensors

    def take_initial(self) -> Tensors:
        """Return version 0 and keep no copy; for whoever asks again it is built anew."""
        initial = self.initial
        del self.initial
        return initial

    @cached_property
    def manifest(self) -> Manifest:
        """Names, shapes, dtypes and kinds of the tensors that travel."""
        from fedcomp.models.selection import selected

        return selected(self.module, self.settings.train.parameters)

    @cached_property
    def prunable(self) -> list[str]:
        """The tensors that travel and may become sparse."""
        from fedcomp.models.shortcuts import prunable

        return prunable(self.module, self.dataset.input_shape, self.manifest)

    @cached_property
    def frozen(self) -> Tensors:
        """The tensors that stay as both ends built them."""
        from fedcomp.models.base import manifest_of, read_tensors

        specs = manifest_of(self.module).specs
        rest = Manifest(tuple(spec for spec in specs if spec.name not in self.manifest.by_name))
        return read_tensors(self.module, rest)

    def export(self, model: Tensors) -> Tensors:
        """Return the whole plain model, of which `model` travels."""
        return self.settings.recipe.export({**self.frozen, **model})

    def session(self, run_id: str) -> Session:
        """Return what both ends of every link of a run agree on."""
        settings = self.settings
        codecs = settings.uplink, settings.downlink
        own = full_digest(self.frozen), settings.recipe.keeps_background
        return Session(self.manifest, run_id, settings.seed, *codecs, settings.link, *own)

    def check_client(self, partition_id: int) -> None:
        """Build what a client needs."""
        from fedcomp.training.loop import pick_device

        pick_device(self.settings.train.device)
        if not len(self.client_samples(partition_id)[0]):
            msg = f"data_dir={self.settings.data_dir}: holds no sample to train on"
            raise DataError(msg)
        self._check_single_samples([partition_id])

    def check(self, *, parts: bool = True) -> None:
        """Build all parts, so that what cannot work fails before anything is started.

        Parameters
        ----------
        parts
            Whether clients' data are here, too.
        """
        from fedcomp.training.loop import check_outputs, pick_device

        self.settings.tracker.check()
        pick_device(self.settings.train.device)
        data, model = self.dataset, self.settings.model.name
        if parts:
            _ = self.partition
        try:
            _ = self.initial
            check_outputs(self.module, data, model, self.settings.dataset.name)
            self._check_single_samples(range(self.settings.clients) if parts else ())
        except (RuntimeError, MemoryError) as error:
            msg = f"model={model}: cannot be built with these settings: {error}"
            raise ConfigError(msg) from error
        misfits = [
            f"{key}.{problem}"
            for key in ("uplink", "downlink")
            for problem in getattr(self.settings, key).misfits(self.manifest)
        ]
        misfits += [
            f"server_step={self.settings.server_step.name}: {problem}"
            for problem in self.settings.server_step.misfits(self.manifest)
        ]
        if misfits:
            raise ConfigError(misfits)
        self.settings.server_step.check(self)

    def _check_single_samples(self, clients: Iterable[int]) -> None:
        """Refuse batches of one sample where batch norm needs two."""
        import torch

        batch = self.settings.train.batch_size
        least = min((len(self.client_indices(at)[0]) for at in clients), default=2)
        if batch > 1 and least > 1:
            return
        try:
            with torch.no_grad():
                deepcopy(self.module).train()(torch.zeros(1, *self.dataset.input_shape))
        except ValueError as error:
            why = f"train.batch_size={batch}" if batch == 1 else "a client has a single sample"
            msg = (
                f"{why}, and a batch norm of model={self.settings.model.name} needs two:"
                " choose larger batches, fewer clients or another model"
            )
            raise ConfigError(msg) from error
