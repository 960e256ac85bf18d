"""An update to try codecs on: recorded here, kept, or read from files.

A file holds what a client received and what it made of it: `before.<tensor>`, `after.<tensor>`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import load, save

from fedcomp import seeds
from fedcomp.data.store import stored
from fedcomp.errors import ConfigError, DataError
from fedcomp.tensors import below, contiguous, full_digest

if TYPE_CHECKING:
    from torch import Tensor

    from fedcomp.data.store import Writer
    from fedcomp.setup import Setup
    from fedcomp.tensors import Tensors
    from fedcomp.training.settings import TrainSettings

ROUNDS, CLIENTS, SAMPLES = 3, 2, 1000
"""Rounds of averaging, with how many clients, and the most samples that each trains on in one."""

_BEFORE, _AFTER = "before.", "after."


@dataclass(frozen=True)
class Update:
    """A model as a client received it, and as it was after local training."""

    before: Tensors = field(repr=False)
    after: Tensors = field(repr=False)
    source: str = ""

    def to_bytes(self) -> bytes:
        """Return the update as a file holds it."""
        parts = {_BEFORE: self.before, _AFTER: self.after}
        return save({p + n: contiguous(v) for p, found in parts.items() for n, v in found.items()})

    @classmethod
    def from_bytes(cls, data: bytes, source: str) -> Update:
        """Read what `to_bytes` wrote."""
        found = load(data)
        before, after = (below(prefix, found) for prefix in (_BEFORE, _AFTER))
        return cls(before, after, source)


def recorded(setup: Setup) -> Update:
    """Return an update of plain local training; it is recorded once and then kept with the data."""
    settings = setup.settings
    shortened = _shortened(settings.train, len(setup.client_indices(0)[0]))
    sites = range(min(CLIENTS, settings.clients))
    parts = {site: setup.client_samples(site)[0] for site in sites}
    data = {f"{site} inputs": np.asarray(part.inputs) for site, part in parts.items()}
    data |= {f"{site} targets": np.asarray(part.targets) for site, part in parts.items()}
    key = {
        "model": full_digest(setup.initial).hex(),
        "data": full_digest(data).hex(),
        "augment": repr(setup.dataset.train.preparation),
        "train": asdict(shortened),
        "rounds": [ROUNDS, settings.rounds],
        "seed": settings.seed,
    }

    def build(writer: Writer) -> None:
        data = _train(setup, shortened).to_bytes()
        writer.put("update", np.frombuffer(data, np.uint8))
        writer.notes["digest"] = sha256(data).hexdigest()

    store = stored(Path(settings.data_dir), "update", key, build)
    held = store["update"].tobytes()
    if sha256(held).hexdigest() != store.notes["digest"]:
        msg = (
            f"the update that was recorded in {Path(settings.data_dir) / '.fedcomp'} is damaged:"
            " remove the folders update-… there, and it will be recorded anew"
        )
        raise DataError(msg)
    cut = "" if shortened == settings.train else f" of {shortened.steps} steps, fewer than a run's"
    source = f"what one client learns in round {ROUNDS}{cut}"
    return Update.from_bytes(held, source)


def _shortened(train: TrainSettings, samples: int) -> TrainSettings:
    """Return local training on at most so many samples a round."""
    batches = max(round(samples / train.batch_size), 1)
    own = train.steps or train.epochs * batches
    most = max(SAMPLES // train.batch_size, 1)
    return train if own <= most else replace(train, steps=most)


def _train(setup: Setup, chosen: TrainSettings) -> Update:
    """Average some clients' models for some rounds; return what the last one's first client did."""
    from fedcomp.models.base import load_tensors, read_tensors
    from fedcomp.training.loop import train

    settings = setup.settings
    before = dict(setup.initial)
    for number in range(1, ROUNDS + 1):
        trained, weights = [], []
        for site in range(min(CLIENTS, settings.clients)):
            samples = setup.client_samples(site)[0]
            load_tensors(setup.module, before)
            train(
                *(setup.module, samples, chosen),
                task=setup.dataset.task,
                lr=chosen.learning_rate(number, settings.rounds),
                proximal_mu=chosen.proximal_mu,
                rng=seeds.generator(settings.seed, number, "train", site),
            )
            trained.append(read_tensors(setup.module, setup.manifest))
            weights.append(len(samples))
            if number == ROUNDS:
                break
        if number < ROUNDS:
            before = _mean(trained, weights)
    after = trained[0]
    if not all(np.isfinite(value).all() for value in after.values()):
        msg = (
            f"train.lr={chosen.lr:g}: training does not end in finite weights, so that there is no"
            " update to try codecs on; lower it"
        )
        raise ConfigError(msg)
    return Update(before, after)


def _mean(models: list[Tensors], weights: list[int]) -> Tensors:
    """Return the mean of floats, and of counters the largest."""
    found: Tensors = {}
    for name, first in models[0].items():
        values = np.stack([model[name] for model in models])
        if first.dtype.kind == "f":
            mean = np.average(values.astype(np.float64), axis=0, weights=weights)
            found[name] = np.asarray(mean).astype(first.dtype)
        else:
            found[name] = np.asarray(values.max(axis=0))
    return found


def read_pair(setup: Setup, before: str, after: str) -> Update:
    """Return the step from one model's file, or run folder, to another's."""
    old, new = _model(setup, "--before", before), _model(setup, "--after", after)
    return Update(old, new, f"{before} to {after}")


def read_update(setup: Setup, path: str) -> Update:
    """Return what `--save` wrote."""
    from fedcomp.models.weights import read_weights

    source = f"--update {path}"
    found = read_weights(path, "--update")
    parts = [below(prefix, found) for prefix in (_BEFORE, _AFTER)]
    if sum(map(len, parts)) != len(found) or not all(parts):
        msg = (
            f"{source}: its tensors are to be called {_BEFORE}… and {_AFTER}…, as --save writes"
            " them; two models of their own are --before FILE --after FILE"
        )
        raise ConfigError(msg)
    before, after = (_fitted(setup, part, source) for part in parts)
    return Update(before, after, path)


def save_update(update: Update, path: str) -> None:
    """Write an update to a file."""
    try:
        Path(path).write_bytes(update.to_bytes())
    except OSError as error:
        msg = f"--save {path}: cannot be written: {error}"
        raise DataError(msg) from error


def _model(setup: Setup, flag: str, path: str) -> Tensors:
    from fedcomp.models.weights import read_weights

    folder = Path(path)
    file = str(folder / "model.safetensors") if folder.is_dir() else path
    return _fitted(setup, read_weights(file, flag), f"{flag} {path}")


def _fitted(setup: Setup, given: dict[str, Tensor], source: str) -> Tensors:
    """Return the tensors that travel, if they fit the model."""
    from fedcomp.models.base import read_tensors
    from fedcomp.models.weights import fill

    fill(setup.module, given, 0, source)
    return read_tensors(setup.module, setup.manifest)
