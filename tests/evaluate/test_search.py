"""The search for times, on costs whose best times are known, and on the miniature."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fewstep.core.samplers.grids import consistency_timesteps
from fewstep.core.schedules import DiscreteSchedule
from fewstep.errors import InvalidRequest
from fewstep.evaluate.config import EvaluateConfig
from fewstep.evaluate.run import search
from fewstep.evaluate.search import descend

SD = DiscreteSchedule.from_betas()
GRID = SD.grid(50).tolist()


@pytest.mark.parametrize("best", [(999, 619, 379, 99), (999, 979, 959, 19), (999, 59, 39, 19)])
def test_the_best_times_are_found(best: tuple[int, ...]) -> None:
    asked = set()

    def cost(times: tuple[int, ...]) -> float:
        asked.add(times)
        return sum(abs(t - s) for t, s in zip(times, best, strict=True))

    start = tuple(consistency_timesteps(SD, 4).tolist())
    found = start
    for _ in range(3):
        found = descend(found, GRID, cost)
    assert found == best
    assert len(asked) < 250  # of 18,424 settings


def test_times_that_are_best_already_stay() -> None:
    start = tuple(consistency_timesteps(SD, 4).tolist())
    assert descend(start, GRID, lambda times: sum(abs(t - s) for t, s in zip(times, start, strict=True))) == start
    assert descend((999,), GRID, lambda _: 0.0) == (999,)


@pytest.mark.slow
def test_on_a_model(miniature: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text(
        "\n".join(f"a {color} {what}" for color in ("red", "blue") for what in ("cat", "dog", "fox", "sun"))
    )
    config = EvaluateConfig(
        model=str(miniature),
        teacher=str(miniature / "teacher"),
        prompts=str(prompts),
        reference="none",
        features="eye",
        steps=(1, 2),
        teacher_steps=2,
        solvers=(),
        num_images=32,
        per_prompt=4,
        draws=4,
        batch_size=16,
        device="cpu",
    )
    (found,) = search(config, tmp_path / "out")
    assert (found.steps, found.usual) == (2, (999, 499))
    assert found.searched[1] <= found.searched[0]
    assert found.times[0] == 999
    assert (tmp_path / "out" / "timesteps.json").is_file()
    with pytest.raises(InvalidRequest, match="nothing to search"):
        search(replace(config, steps=(1,)), tmp_path / "out")
    with pytest.raises(InvalidRequest, match="something to come near to"):
        search(replace(config, teacher="none"), tmp_path / "out")
