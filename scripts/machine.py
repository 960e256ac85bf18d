"""What figures were measured on."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fedcomp.report.runfolder import versions
from fedcomp.runtime import cpu_count


def measured_on() -> dict[str, Any]:
    """Return today's date, the machine, and the versions that matter."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": {"cores": cpu_count(), "processor": _processor(), "accelerator": _accelerator()},
        "versions": versions(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _accelerator() -> str | None:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None
