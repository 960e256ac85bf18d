"""Published data sets whose addresses and checksums torchvision lists."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import uuid
import zipfile
import zlib
from abc import abstractmethod
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, ClassVar

from fedcomp.data.images import ImageSettings
from fedcomp.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


_UNREADABLE = (
    OSError,
    EOFError,
    MemoryError,  # for a length that no file has
    RuntimeError,  # of zipfile: an unknown compression, a password
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class Published(ImageSettings):
    """Images in the files of their authors, at the place where torchvision keeps them.

    Parameters
    ----------
    download
        Fetch files that are missing.
    verify
        Refuse files that are not the published ones.
    """

    origin: ClassVar[str]
    """Name of the class in `torchvision.datasets`."""

    download: bool = False
    verify: bool = True

    @abstractmethod
    def find(self, data_dir: Path) -> list[Path]:
        """Return the files to read; none where one of them is missing."""

    @abstractmethod
    def fetch(self, data_dir: Path) -> None:
        """Download what is missing."""

    @property
    @abstractmethod
    def layout(self) -> str:
        """What the data folder has to hold, for an error."""

    def locate(self, data_dir: Path) -> list[Path]:
        """Return the files to read, fetched where they are missing and that is asked for."""
        paths = self.find(data_dir)
        if not paths and self.download:
            self.fetch(data_dir)
            paths = self.find(data_dir)
        if not paths:
            msg = (
                f"{self.name}: not found under data_dir={data_dir}, which has to hold"
                f" {self.layout}; dataset.download=true fetches that on a connected machine"
            )
            raise DataError(msg)
        return paths

    @property
    def source(self) -> Any:
        """What torchvision knows of the data set."""
        import torchvision.datasets

        return getattr(torchvision.datasets, self.origin)

    def check(self, path: Path, md5: str) -> None:
        """Raise `DataError` where a file is not the published one."""
        with reading(path), path.open("rb") as stream:
            found = hashlib.file_digest(stream, _md5).hexdigest()
        if found != md5:
            msg = (
                f"{path}: this is not the published file (MD5 {found}, listed: {md5}); put that one"
                " there, or accept a copy that you trust with dataset.verify=false"
            )
            raise DataError(msg)


def download(path: Path, urls: Iterable[str], md5: str) -> None:
    """Fetch a file from the first address that has it; it is there whole or not at all."""
    from torchvision.datasets.utils import download_url

    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    problems = []
    try:
        for url in urls:
            try:
                download_url(url, beside, path.name, md5)
                (beside / path.name).replace(path)
            except (OSError, RuntimeError, HTTPException) as error:
                problems.append(f"{url}: {error}")
            else:
                return
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    msg = f"{path}: cannot be fetched ({'; '.join(problems)}); or put the file there by hand"
    raise DataError(msg)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Say of what the bytes of a file raise that the file cannot be read."""
    try:
        yield
    except _UNREADABLE as error:
        msg = f"{path}: cannot be read: {error or type(error).__name__}"
        raise DataError(msg) from error


def _md5() -> Any:
    return hashlib.md5(usedforsecurity=False)
