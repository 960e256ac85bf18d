"""The server's own samples, without labels: a method may distil its model on them.

    synthetic         made of nothing, once: images of dead leaves, sounds of a synthetic voice
    held_out:SHARE    a share of the training samples, which no client gets
    folder:PATH       files anywhere below a folder in data_dir (or an absolute one)
    NAME              the images of another data set in data_dir

They get the shape and type of what the clients have, so that models take both alike.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from fedcomp import seeds
from fedcomp.data.files import below, fill, sound
from fedcomp.data.likeness import likened
from fedcomp.data.store import fingerprint, stored
from fedcomp.errors import DataError, suggest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fedcomp.data.base import Dataset, DatasetSettings
    from fedcomp.data.store import Writer
    from fedcomp.tensors import Array

log = logging.getLogger(__name__)

_NAME = "server_data"
_AT_A_TIME = 256


@dataclass(frozen=True)
class Source:
    """Where the samples come from: a word of the grammar above, or a data set's name, and a value.

    Attributes
    ----------
    share
        Of the training samples, that of the server.
    """

    word: str
    value: str = ""
    share: float = 0.0

    @classmethod
    def of(cls, settings: DatasetSettings) -> Source:
        """Read the setting `server_data`; `ValueError` says what is allowed."""
        text = settings.server_data
        word, colon, value = text.partition(":")
        if text == "synthetic":
            return cls(text)
        if word == "held_out":
            return cls(word, value, _share(value, text))
        if word == "folder":
            if not value.strip():
                msg = f"server_data={text}: names no folder; give one in data_dir as folder:PATH"
                raise ValueError(msg)
            return cls(word, value)
        _check_name(text, "" if colon else word, settings)
        return cls(word)


def _share(value: str, text: str) -> float:
    try:
        share = float(value)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        msg = (
            f"server_data={text}: held_out takes the server's share of the training samples, above"
            " 0 and below 1, such as held_out:0.05"
        )
        raise ValueError(msg)
    return share


def _check_name(text: str, name: str, settings: DatasetSettings) -> None:
    """Refuse what is not the name of another data set of images, for one of images."""
    from fedcomp.data import DATASETS

    kinds = {known: DATASETS.get(known).kind for known in DATASETS.names()}
    images = {known for known, kind in kinds.items() if kind == "images"} - {"folder"}
    others = images - {settings.name} if settings.kind == "images" else set()
    if name in others:
        return
    if name == settings.name:
        why = "is the clients' own data set, of which held_out:SHARE takes a part"
    elif name in kinds:
        why = f"has {kinds[name]}, and dataset={settings.name} {settings.kind}"
    else:
        why = "there is no such source"
    allowed = {"synthetic", "held_out:SHARE", "folder:PATH"} | others
    msg = f"server_data={text}: {why}{suggest(text, allowed)}"
    raise ValueError(msg)


def server_inputs(
    settings: DatasetSettings, dataset: Dataset, data_dir: Path, count: int, seed: int
) -> Array:
    """Return at most `count` inputs such as a data set's, from a source outside of it."""
    source = Source.of(settings)
    if source.word == "synthetic":
        return _synthetic(settings, dataset, data_dir, count, seed)
    if source.word == "folder":
        return _of_folder(settings, dataset, data_dir, source.value, count, seed)
    return _of_dataset(settings, dataset, data_dir, source.word, count, seed)


def chosen(available: int, count: int, seed: int) -> Array:
    """Return which of the available samples are taken, ascending: all, or `count` at random."""
    order = seeds.generator(seed, _NAME, "choice").permutation(available)
    return np.sort(order[:count])


def _synthetic(
    settings: DatasetSettings, dataset: Dataset, data_dir: Path, count: int, seed: int
) -> Array:
    make = settings.synthesiser(dataset)

    def build(writer: Writer) -> None:
        array = _array(writer, count, dataset)
        rng = seeds.generator(seed, _NAME, "synthetic")
        for start in range(0, count, _AT_A_TIME):
            part = array[start : start + _AT_A_TIME]
            part[:] = make(len(part), rng)

    key = {"make": _described(make), "version": make.version, "count": count, "seed": seed}
    return _stored(data_dir, key, build)[0]


def _of_folder(
    settings: DatasetSettings, dataset: Dataset, data_dir: Path, path: str, count: int, seed: int
) -> Array:
    where = f"dataset.server_data=folder:{path}"
    read, root = settings.reader(dataset), data_dir / path
    if not root.is_dir():
        msg = f"{where}: there is no folder {root} (data_dir={data_dir}); put {settings.kind} there"
        raise DataError(msg)
    files = [file for file in below(root) if file.suffix.lower() in read.suffixes]
    if not files:
        kinds = ", ".join(sorted(read.suffixes))
        msg = (
            f"{where}: no file of {settings.kind} lies in {root} or below ({kinds}); put some there"
        )
        raise DataError(msg)

    def build(writer: Writer) -> None:
        order = seeds.generator(seed, _NAME, "choice").permutation(len(files))
        kept: list[Path] = []
        skipped: list[str] = []
        while len(order) and len(kept) < count:
            batch, order = np.split(order, [min(count - len(kept), _AT_A_TIME)])
            good, bad = sound([files[at] for at in batch], read, root, skip=True)
            kept += good
            skipped += [why for _, why in bad]
        if not kept:
            msg = f"{where}: none of its {len(files)} files can be read; the first: {skipped[0]}"
            raise DataError(msg)
        kept.sort()
        fill([_array(writer, len(kept), dataset)], kept, lambda file: (read(file),))
        writer.notes["skipped"] = skipped

    key = {"read": _described(read), "root": path, "files": fingerprint(files, root)}
    inputs, skipped = _stored(data_dir, {**key, "count": count, "seed": seed}, build)
    if skipped:
        log.warning(
            "%s: %d of %d files cannot be used and are left out, the first: %s",
            *(where, len(skipped), len(files), skipped[0]),
        )
    return inputs


def _of_dataset(
    settings: DatasetSettings, dataset: Dataset, data_dir: Path, name: str, count: int, seed: int
) -> Array:
    from fedcomp.data import DATASETS

    cls = DATASETS.get(name)
    known = {field.name for field in fields(cls)} & {"download", "verify", "skip_corrupt"}
    given = {key: getattr(settings, key) for key in sorted(known) if hasattr(settings, key)}
    like = dataset.train.inputs
    try:
        inputs = cls(**given).open(data_dir).train.inputs
        taken = inputs[chosen(len(inputs), count, seed)]
        return likened(taken, like.shape[1:], str(like.dtype))
    except DataError as error:
        msg = (
            f"dataset.server_data={name}: {error} (what dataset={settings.name} has of download,"
            " verify and skip_corrupt holds for both)"
        )
        raise DataError(msg) from error


def _described(part: Any) -> dict[str, Any]:
    """Return what tells a dataclass from others, for keys."""
    return {"kind": type(part).__name__, **asdict(part)}


def _array(writer: Writer, count: int, dataset: Dataset) -> Array:
    like = dataset.train.inputs
    return writer.array("inputs", (count, *like.shape[1:]), str(like.dtype))


def _stored(
    data_dir: Path, key: dict[str, Any], build: Callable[[Writer], None]
) -> tuple[Array, tuple[str, ...]]:
    """Return stored inputs, and the files that were left out."""
    store = stored(data_dir, _NAME, key, build)
    return store["inputs"], store.skipped
