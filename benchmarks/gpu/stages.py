"""The stages, in the order of their worth: who has only four minutes gets the first ones."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """A module with `run(bench)`, and the seconds that its process may take."""

    name: str
    module: str
    seconds: float


STAGES = (
    Stage("tests", "benchmarks.gpu.gpu_tests", 90),
    Stage("ceilings", "benchmarks.gpu.ceilings", 25),
    Stage("starter", "benchmarks.gpu.starter", 45),
    Stage("sd15", "benchmarks.gpu.sd15", 110),
    Stage("sdxl", "benchmarks.gpu.sdxl", 75),
    Stage("training", "benchmarks.gpu.training", 80),
    Stage("live", "benchmarks.gpu.live", 45),
    Stage("compiled", "benchmarks.gpu.compiled", 70),
)
BUDGET = 540.0
LEAST = 10.0  # seconds under which no stage is begun: it would only import
