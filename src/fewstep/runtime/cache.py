"""Where fewstep keeps what it can make again: one folder, chosen by FEWSTEP_CACHE or the system's custom."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """$FEWSTEP_CACHE, else $XDG_CACHE_HOME/fewstep, else ~/.cache/fewstep. It need not exist."""
    if own := os.environ.get("FEWSTEP_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fewstep"
