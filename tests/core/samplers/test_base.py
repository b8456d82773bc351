"""What every walk refuses."""

from __future__ import annotations

import pytest
import torch

from fewstep.core.samplers.ddim import DDIM
from fewstep.core.samplers.lcm import sample_consistency
from fewstep.core.samplers.ode import sample_ode
from fewstep.core.schedules import DiscreteSchedule

SD = DiscreteSchedule.from_betas()


@pytest.mark.parametrize(
    ("times", "words"),
    [
        ([], "no timesteps"),
        ([499, 999], r"must fall.*\[499, 999\]"),
        ([499, 499], "must fall"),
        ([499, -1], "end above -1, which is clean data"),
    ],
)
def test_times_that_do_not_fall_are_refused(times: list[int], words: str) -> None:
    x = torch.ones(1, 1)
    with pytest.raises(ValueError, match=words):
        next(sample_consistency(lambda x_t, t, cond, w: x_t, SD, x, times, None, None, lambda index: x))
    with pytest.raises(ValueError, match=words):
        next(sample_ode(DDIM(SD), lambda x_t, t, cond: x_t, x, times, None))


def test_other_errors_in_words() -> None:
    x = torch.ones(1, 1)
    with pytest.raises(ValueError, match="in 2 steps draws noise between them: pass `noise`"):
        next(sample_consistency(lambda x_t, t, cond, w: x_t, SD, x, [999, 499], None))
    with pytest.raises(ValueError, match="final_timestep 500 lies above the last timestep, 499"):
        next(sample_ode(DDIM(SD), lambda x_t, t, cond: x_t, x, [999, 499], None, final_timestep=500))
