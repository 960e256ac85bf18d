"""Write the checked-in payloads that do not exist yet: `python -m tests.golden_files`.

A file that exists is never changed: bytes written by an older version must stay readable.
"""

from __future__ import annotations

from fedcomp.codecs.cast import Cast
from fedcomp.codecs.none import NoCompression
from tests.common import GOLDEN, awkward_tensors, context_for

CODECS = {
    "none": NoCompression(),
    "cast-fp16": Cast(mode="absolute"),
    "cast-bf16": Cast(mode="absolute", dtype="bf16"),
}


def main() -> None:
    """Write what is missing."""
    tensors = awkward_tensors()
    for name, codec in CODECS.items():
        path = GOLDEN / f"{name}.bin"
        if not path.exists():
            path.write_bytes(codec.encode(tensors, context_for(tensors)))


if __name__ == "__main__":
    main()
