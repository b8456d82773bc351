"""Which step count may I ship? Quality, faithfulness, variety and speed of every candidate, measured side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fewstep.lazily import offered

if TYPE_CHECKING:
    from fewstep.evaluate.config import EvaluateConfig as EvaluateConfig
    from fewstep.evaluate.run import evaluate as evaluate

_HOMES = {"EvaluateConfig": "fewstep.evaluate.config", "evaluate": "fewstep.evaluate.run"}
__all__ = [*_HOMES]
__getattr__ = offered(__name__, _HOMES)
