"""Distillation by whole paths: exact where the path is known, and the right questions to teacher and student."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fewstep.core.denoise import Denoiser
from fewstep.core.objectives import with_options
from fewstep.core.objectives.base import Batch, Networks
from fewstep.core.objectives.path import Path
from fewstep.core.prediction import Sample
from fewstep.core.samplers.grids import phased_timesteps
from fewstep.core.schedules import DiscreteSchedule
from fewstep.data.latents import LatentCache
from fewstep.models.conditioning import Conditioning
from fewstep.train.task import OverCache
from oracle import GaussianWorld

ROWS = torch.tensor([0, 1, 2] * 4)
SCHEDULE = DiscreteSchedule.from_betas()


class Told(nn.Module):
    """Predicts x_0 as the mean of its words plus a weight, however noisy the sample; remembers what it was asked."""

    def __init__(self, shift: float = 0.0) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.tensor(shift))
        self.calls: list[tuple[Tensor, Tensor, Tensor, Tensor | None]] = []

    def __call__(self, x_t: Tensor, t: Tensor, cond: Conditioning, w: Tensor | None = None) -> Tensor:
        self.calls.append((x_t, t, cond.states, w))
        return cond.states.mean((1, 2)).view(-1, 1, 1, 1) + self.shift + 0.0 * x_t


@pytest.fixture
def cache() -> LatentCache:
    states = torch.arange(7.0).view(7, 1, 1).expand(7, 3, 5).half()
    return LatentCache(torch.zeros(3, 4, 2, 2), states, torch.tensor([[1, 2], [3, 4], [5, 6]]))


def paths(cache: LatentCache, student: nn.Module, teacher: nn.Module, **options: Any) -> OverCache:
    networks = Networks(Denoiser(student, SCHEDULE, Sample()), SCHEDULE, teacher=Denoiser(teacher, SCHEDULE, Sample()))
    objective = Path(**{"w_range": (0.0, 0.0), "boundary": "hard", **options})
    return OverCache(objective, networks, cache)


@pytest.mark.parametrize("solver", ["ddim", "dpm++", "heun"])
@pytest.mark.parametrize("phases", [1, 3, 4])
def test_a_student_that_knows_the_picture_has_no_loss(cache: LatentCache, solver: str, phases: int) -> None:
    """The teacher always answers with one picture, so its path is known: the straight one, whatever the solver."""
    objective = paths(cache, Told(), Told(), solver=solver, phases=phases, metric="l2")
    draw = objective.draw(ROWS, torch.Generator().manual_seed(0))
    assert float(objective.loss(draw)["loss"].detach()) < 1e-8


def test_the_loss_of_a_student_that_is_wrong_by_one_is_known(cache: LatentCache) -> None:
    """Off by one in x_0, it is off by alpha_s - (sigma_s / sigma_t) alpha_t in x_s: the mean square over the states."""
    objective = paths(cache, Told(1.0), Told(), metric="l2")
    draw = objective.draw(ROWS, torch.Generator().manual_seed(1))
    ends = [next(end for end in (739, 499, 239, -1) if end < t) for t in draw.times.flatten().tolist()]
    one, none = torch.ones(len(ends), 1), torch.zeros(len(ends), 1)
    expected = SCHEDULE.transfer(none, one, draw.times.flatten(), torch.tensor(ends)).square().mean()
    torch.testing.assert_close(objective.loss(draw)["loss"], expected, rtol=1e-5, atol=1e-7, check_dtype=False)


def test_the_student_learns_the_guided_teacher_and_is_told_w(cache: LatentCache) -> None:
    student, teacher = Told(), Told()
    objective = paths(cache, student, teacher, w_range=(1.0, 3.0), metric="l2", empty=0.0)
    draw = objective.draw(ROWS, torch.Generator().manual_seed(0))
    loss = objective.loss(draw)["loss"]
    [(_, t, states, w)] = student.calls
    assert w is not None
    assert draw.w is not None
    assert torch.equal(w, draw.w.repeat(12))
    assert torch.equal(t, draw.times.T.flatten())
    words = cache.states[draw.captions][:, 0, 0].float()
    assert torch.equal(states[:, 0, 0].float(), words.repeat(12))
    # the guided answer is (1 + w) words - w 0, and the student's is words: wrong by w words, at every state
    ends = torch.tensor([next(end for end in (739, 499, 239, -1) if end < each) for each in t.tolist()])
    wrong = (draw.w * words).repeat(12)[:, None]
    expected = SCHEDULE.transfer(0 * wrong, wrong, t, ends).square().mean()
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-6, check_dtype=False)
    loss.backward()
    assert student.shift.grad is not None
    assert teacher.shift.grad is None


@pytest.mark.parametrize(("solver", "order"), [("ddim", 1), ("dpm++", 2)])
def test_the_teacher_walks_the_guided_flow_to_the_solvers_order(solver: str, order: int) -> None:
    """In a Gaussian world the flow is known: twice the steps bring the phases' ends 2^order times as near."""
    world, w = GaussianWorld(SCHEDULE), torch.tensor([0.0, 1.0, 2.5], dtype=torch.float64)
    mu = torch.tensor([0.5, -1.0, 2.0])
    states = torch.cat([torch.tensor([world.uncond]), mu]).double().view(-1, 1, 1)
    cache = LatentCache(torch.zeros(3, 1), states, torch.tensor([[1], [2], [3]]))

    def teacher(x_t: Tensor, t: Tensor, cond: Conditioning, w: Tensor | None = None) -> Tensor:
        return world.denoise(x_t, t, cond.states.flatten().double())

    x_T = torch.randn(3, 1, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    errors = []
    for substeps in (16, 32):
        objective = Path(w_range=(0.0, 3.0), phases=2, solver=solver)
        networks: Any = Networks(teacher, SCHEDULE, teacher=teacher)  # type: ignore[arg-type]
        falling = [t.round().long() for t in (torch.linspace(999, 499, substeps + 1), torch.linspace(499, 0, substeps))]
        times = torch.cat([falling[0][:-1], falling[1]]).expand(3, -1)
        cond = cache.conditioning(torch.arange(1, 4), torch.arange(3), "cpu")
        walked = objective.walk(networks, Batch(x_T, x_T, times, cond, cache.unconditional(cond), w))
        exact = world.flow(x_T, 999, 499, world.guided_mu(mu, w))
        errors.append(float((walked[substeps] - exact).abs().max()))
    assert 0.7 < math.log2(errors[0] / errors[1]) / order < 1.4


def test_every_path_begins_its_phases_at_their_starts_and_falls(cache: LatentCache) -> None:
    for phases, substeps in ((1, 1), (2, 5), (4, 3), (7, 2)):
        objective = paths(cache, Told(), Told(), phases=phases, substeps=substeps)
        times = objective.draw(ROWS, torch.Generator().manual_seed(2)).times
        assert times.shape == (len(ROWS), phases * substeps)
        assert torch.equal(times[0, ::substeps], Path(phases=phases).starts(SCHEDULE))
        assert bool((times.diff(dim=1) < 0).all())
        assert int(times.min()) >= 0
        assert substeps == 1 or len(times[:, 1].unique()) > 3  # each path has its own


def test_a_batch_in_parts_is_the_batch_in_one(cache: LatentCache) -> None:
    objective = paths(cache, Told(0.3), Told(), w_range=(1.0, 3.0))
    draw = objective.draw(ROWS, torch.Generator().manual_seed(0))
    parts = [objective.loss(draw[place])["loss"] for place in (slice(0, 6), slice(6, 12))]
    torch.testing.assert_close(sum(parts) / 2, objective.loss(draw)["loss"])


def test_a_path_begins_where_the_sampler_does() -> None:
    """On a grid that does not divide the times: 30 of 1000 end at 989."""
    objective = Path(phases=3, original_inference_steps=30)
    assert torch.equal(objective.starts(SCHEDULE), phased_timesteps(SCHEDULE, 3, 3, original_inference_steps=30))


def test_what_paths_cannot_do_is_said() -> None:
    with pytest.raises(ValueError, match="leave k out"):
        with_options(Path(), {"k": 20})
    with pytest.raises(ValueError, match="no trajectory"):
        with_options(Path(), {"trajectory": True})
    with pytest.raises(ValueError, match="t_m is no setting of target='path', which has"):
        with_options(Path(), {"t_m": "uniform"})
