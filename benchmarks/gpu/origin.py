"""Where the numbers come from: `benchmarks.report`'s header, and the GPU."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks import report


def origin(command: str, commit: str = "") -> dict[str, Any]:
    """The header of results.json; `commit` is taken where no .git says it."""
    made = report.origin(command)
    if commit and made["commit"] == "unknown":
        made["commit"] = commit
    made["gpu"] = None
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_properties(0)
        made["gpu"] = {
            "name": gpu.name,
            "gib": round(gpu.total_memory / 2**30, 1),
            "multiprocessors": gpu.multi_processor_count,
            "capability": f"{gpu.major}.{gpu.minor}",
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    return made
