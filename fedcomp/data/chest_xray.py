"""Chest X-rays of children with and without pneumonia.

Kermany, Goldbaum et al., "Identifying Medical Diagnoses and Treatable Diseases by Image-Based Deep
Learning", Cell 172 (2018); published as Kermany, Zhang, Goldbaum, "Labeled Optical Coherence
Tomography (OCT) and Chest X-Ray Images for Classification", Mendeley Data, doi:10.17632/rscbjbr9sj.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from fedcomp.data.class_folders import files_of, load_parts
from fedcomp.data.image_files import Fit, ImageFileSettings
from fedcomp.data.preparation import Augment
from fedcomp.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from fedcomp.data.base import Dataset
    from fedcomp.data.class_folders import File

CLASSES = ("NORMAL", "PNEUMONIA")

# measured on the 5,216 training images at 224 × 224 pixels
_STATISTICS = (0.482,), (0.236,)

_AUGMENT = Augment(crop=4)

_PATIENT = re.compile(r"(person\d+|(?:NORMAL2-)?IM-\d+)(?=[-_.])")
_CAUSE = re.compile(r"_(bacteria|virus)_")


@dataclass(frozen=True)
class ChestXRay(ImageFileSettings):
    """5,232 images to train and 624 to test, one channel; in copies with 16 in `val` those train.

    Columns: `patient` and `cause` (normal, bacteria, virus, unknown).  A number that the file names
    use for a patient with bacteria and for one with a virus counts as one patient, so that nobody
    is divided among clients; a file that names nobody is a patient of its own.
    """

    name: ClassVar[str] = "chest_xray"

    fit: Fit = "squash"
    augment: Augment = _AUGMENT

    def load(self, data_dir: Path) -> Dataset:
        """Return the data set; it has to be put in place by hand."""
        root = data_dir / "chest_xray"
        for folder in (root / part / name for part in ("train", "test") for name in CLASSES):
            if not folder.is_dir():
                msg = (
                    f"chest_xray: there is no folder {folder} (data_dir={data_dir}); get the chest"
                    " X-rays of Kermany et al. from Mendeley Data, doi 10.17632/rscbjbr9sj, and put"
                    " them in data_dir as chest_xray/{train,test}/{NORMAL,PNEUMONIA}"
                )
                raise DataError(msg)
        parts = {
            part: [
                replace(file, columns=_columns(file))
                for folder in folders
                for target, name in enumerate(CLASSES)
                if (root / folder / name).is_dir()
                for file in files_of(root / folder / name, target)
            ]
            for part, folders in (("train", ("train", "val")), ("test", ("test",)))
        }
        return load_parts(self, data_dir, root, parts, CLASSES, _STATISTICS)


def _columns(file: File) -> dict[str, str]:
    """Return who an image shows and what the pneumonia came from."""
    patient, cause = _PATIENT.match(file.path.name), _CAUSE.search(file.path.name)
    healthy = CLASSES[file.target] == "NORMAL"
    return {
        "patient": patient[1] if patient else "/".join(file.path.parts[-3:]),
        "cause": "normal" if healthy else cause[1] if cause else "unknown",
    }
