"""Results with numbers of one's own, to see what is made of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fewstep.evaluate.bootstrap import Measure
from fewstep.evaluate.results import Conditions, Results, Row
from fewstep.evaluate.speed import Speed

CONDITIONS = Conditions(
    features="the eye",
    features_identity="eye 1",
    num_features=256,
    reference="real pictures",
    reference_identity="r1",
    reference_size=1000,
    teacher="teacher, dpm++, 25 steps",
    teacher_hash="t1",
    prompts="builtin",
    prompts_identity="p1",
    num_images=2000,
    per_prompt=4,
    seed=0,
    draws=20,
    height=128,
    width=128,
    device="a processor",
    threads=2,
    dtype="float32",
)


def measure(value: float, error: float = 0.1, phase: int = 0) -> Measure:
    """Draws that alternate around the value; another phase is independent of it, the same one is paired."""
    signs = [(-1) ** (i // 2 if phase else i) for i in range(20)]
    return Measure(value, tuple(value + sign * error * (19 / 20) ** 0.5 for sign in signs))


def row(
    role: str, steps: int, fd: float, retrieval: float = 0.8, *, p50: float = 0.0, phase: int = 0, **more: Any
) -> Row:
    line = {"model": "lcm", "teacher": "teacher, dpm++", "solver": "teacher, unipc"}[role]
    measures: dict[str, Measure] = {
        "fd": measure(fd, phase=phase),
        "retrieval": measure(retrieval, 0.005, phase),
        **{name: measure(value, 0.005, phase) for name, value in more.items()},
    }
    speed = Speed(p50 or 0.01 * steps, 0.02 * steps, 50.0 / steps, 16, 2**29, 9)
    unit = "step" if steps == 1 else "steps"
    return Row(f"{line}, {steps} {unit}", line, role, line, "h", "lcm", steps, 3.0, (999,), measures, speed)


def results(*rows: Row, conditions: Mapping[str, Any] | None = None) -> Results:
    from dataclasses import replace

    return Results("lcm", "fewstep evaluate lcm", "0", replace(CONDITIONS, **(conditions or {})), rows)
