"""Objectives over a data set: right captions, right w, gradients to the student alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fewstep.core.denoise import Denoiser
from fewstep.core.guidance import LearntGuidance
from fewstep.core.objectives.base import Networks
from fewstep.core.objectives.consistency import Consistency
from fewstep.core.objectives.diffusion import Diffusion
from fewstep.core.objectives.ends import PhaseEnds
from fewstep.core.objectives.fine_tuning import FineTuning
from fewstep.core.objectives.pairs import Pairs
from fewstep.core.objectives.phases import Phases
from fewstep.core.objectives.trajectory import Trajectory
from fewstep.core.prediction import PREDICTIONS, Sample, Velocity
from fewstep.core.schedules import DiscreteSchedule
from fewstep.data.latents import LatentCache
from fewstep.models.conditioning import Conditioning
from fewstep.train.task import OverCache


class Recording(nn.Module):
    """A linear network that remembers what it was asked; its output depends on the words and on w."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.mix = nn.Conv2d(4, 4, 1)
        self.calls: list[tuple[Tensor, Tensor, Tensor | None]] = []

    def __call__(self, x_t: Tensor, t: Tensor, cond: Conditioning, w: Tensor | None = None) -> Tensor:
        self.calls.append((t, cond.states, w))
        shift = cond.states.mean((1, 2)).view(-1, 1, 1, 1)
        shift = shift if w is None else shift + 0.01 * w.view(-1, 1, 1, 1)
        output: Tensor = self.mix(x_t) + shift
        return output


@pytest.fixture
def cache() -> LatentCache:
    states = torch.arange(7.0).view(7, 1, 1).expand(7, 3, 5).half()
    latents = torch.randn(3, 4, 2, 2, generator=torch.Generator().manual_seed(3))
    return LatentCache(latents, states, torch.tensor([[1, 2], [3, 4], [5, 6]]))


def denoiser(network: Recording) -> Denoiser:
    return Denoiser(network, DiscreteSchedule.from_betas(), Velocity())


def distillation(
    cache: LatentCache, student: Recording, teacher: Recording, kind: type[Consistency] = Consistency, **options: Any
) -> OverCache:
    networks = Networks(denoiser(student), SCHEDULE, teacher=denoiser(teacher))
    return OverCache(kind(**{"w_range": (1.0, 3.0), **options}), networks, cache)


def loss_of(task: OverCache, rows: Tensor, seed: int = 0) -> dict[str, Tensor]:
    return task.loss(task.draw(rows, torch.Generator().manual_seed(seed)))


SCHEDULE = DiscreteSchedule.from_betas()
ROWS = torch.tensor([0, 1, 2] * 30)


def test_diffusion_gives_each_picture_a_caption_of_its_own_or_none(cache: LatentCache) -> None:
    network = Recording()
    scalars = loss_of(OverCache(Diffusion(empty=0.2), Networks(denoiser(network), SCHEDULE), cache), ROWS)
    [(t, states, w)] = network.calls
    words = states[:, 0, 0].long()
    assert bool((((words + 1) // 2 == ROWS + 1) | (words == 0)).all())
    assert 0 < int((words == 0).sum()) < 45
    assert len(t.unique()) > 60
    assert w is None
    assert {"loss", "loss_q1", "loss_q2", "loss_q3", "loss_q4"} == set(scalars)


def test_distillation_asks_the_teacher_with_and_without_words_and_tells_the_student_w(cache: LatentCache) -> None:
    student, teacher = Recording(), Recording()
    loss_of(distillation(cache, student, teacher), ROWS)
    with_words, without = (states for _, states, _ in teacher.calls)
    assert float(without.abs().max()) == 0.0
    assert float(with_words.abs().max()) > 0.0
    assert all(w is None for _, _, w in teacher.calls)
    (t_target, _, w_target), (t, _, w) = student.calls
    assert bool(((t - t_target == 20) | (t == 19)).all())
    assert bool((t % 20 == 19).all())
    assert w is not None
    assert w_target is not None
    assert torch.equal(w, w_target)
    assert 1.0 <= float(w.min()) < 1.3
    assert 2.7 < float(w.max()) <= 3.0


def test_only_the_student_gets_a_gradient_and_the_same_generator_gives_the_same_loss(cache: LatentCache) -> None:
    student, teacher = Recording(), Recording()
    objective = distillation(cache, student, teacher)
    first = loss_of(objective, ROWS, 5)["loss"]
    first.backward()
    assert student.mix.weight.grad is not None
    assert float(student.mix.weight.grad.abs().max()) > 0
    assert teacher.mix.weight.grad is None
    again, other = (loss_of(objective, ROWS, seed)["loss"].item() for seed in (5, 6))
    assert again == first.item()
    assert other != first.item()


def test_fine_tuning_asks_nobody_and_looks_at_the_same_noise_at_both_times(cache: LatentCache) -> None:
    student = Recording()
    seen: list[Tensor] = []

    def spy(x_t: Tensor, t: Tensor, cond: Conditioning, w: Tensor | None = None) -> Tensor:
        seen.append(x_t)
        return student(x_t, t, cond, w)

    networks = Networks(Denoiser(spy, SCHEDULE, Velocity()), SCHEDULE)
    task = OverCache(FineTuning(w_range=(1.0, 3.0), k=100), networks, cache)
    draw = task.draw(ROWS, torch.Generator().manual_seed(0))
    task.loss(draw)["loss"].backward()
    (s, _, w_target), (t, _, w) = student.calls
    assert w is not None
    assert w_target is not None
    assert torch.equal(w, w_target)
    assert bool(((t - s == 100) | (s == 0)).all())
    x_0 = cache.latents[ROWS]
    for x, time in zip(seen, (s, t), strict=True):
        torch.testing.assert_close(x, SCHEDULE.add_noise(x_0, draw.noise, time), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("trained", [(0.0, 6.0), (2.0, 14.0)])
def test_fine_tuning_keeps_what_guidance_did(cache: LatentCache, trained: tuple[float, float]) -> None:
    """The model before answered x_0 = 7 + 2 w where it was trained, and nonsense below: the picture is moved by 2 w."""
    student = Recording()
    schedule = DiscreteSchedule.from_betas()

    def before(x_t: Tensor, t: Any, cond: Any, w: float | Tensor | None = None) -> Tensor:
        by = torch.as_tensor(w).view(-1, 1, 1, 1)
        return torch.zeros_like(x_t) + torch.where(by < trained[0], -99.0, 7.0 + 2.0 * by)

    guidance = LearntGuidance(before, trained)
    networks = Networks(Denoiser(student, schedule, Sample()), schedule, guidance=guidance)
    objective = FineTuning(w_range=(1.0, 3.0), k=1000, metric="l2", distilled=PhaseEnds(4))
    task = OverCache(objective, networks, cache)
    assert objective.arrives(schedule)
    draw = task.draw(ROWS, torch.Generator().manual_seed(0))
    loss = task.loss(draw)["loss"]
    [(t, states, w)] = student.calls  # the target is not asked of the student
    assert w is not None
    x_0 = cache.latents[ROWS].float()
    x_t = schedule.add_noise(x_0, draw.noise, t)
    ends = objective.times(draw, schedule).t_m
    answered = student(x_t, t, Conditioning(states), w)
    found, wanted = (SCHEDULE.transfer(x_t, x, t, ends) for x in (answered, x_0 + 2.0 * w.view(-1, 1, 1, 1)))
    torch.testing.assert_close(loss, (found - wanted).square().mean(), rtol=1e-4, atol=1e-5, check_dtype=False)


@pytest.mark.parametrize(("kind", "options"), [(Consistency, {}), (Trajectory, {}), (Trajectory, {"phases": 2})])
def test_where_targets_are_asked_at_the_end_of_the_way_the_student_is_not_asked_for_them(
    cache: LatentCache, monkeypatch: pytest.MonkeyPatch, kind: type[Consistency], options: dict[str, Any]
) -> None:
    """Nor would its answer be another: to the bit the sample itself."""
    losses, asked = [], []
    for arrives in (True, False):
        student = Recording()
        task = distillation(cache, student, Recording(), kind, k=1000, metric="l2", **options)
        if not arrives:
            monkeypatch.setattr(Pairs, "arrives", lambda *_: False)
        losses.append(loss_of(task, ROWS)["loss"])
        asked.append(len(student.calls))
    assert asked == [1, 2]
    assert torch.equal(*losses)


def test_no_guidance_asks_the_teacher_once_a_step_and_substeps_as_often(cache: LatentCache) -> None:
    student, teacher = Recording(), Recording()
    objective = distillation(cache, student, teacher, w_range=(0.0, 0.0), k=200, substeps=4)
    loss_of(objective, ROWS)
    assert len(teacher.calls) == 4
    times = torch.stack([t for t, _, _ in teacher.calls])
    assert bool((times.diff(dim=0) <= 0).all())
    (s, _, _), (t, _, _) = student.calls
    assert torch.equal(times[0], t)
    assert bool((s == (t - 200).clamp(min=0)).all())


@pytest.mark.parametrize("solver", ["ddim", "dpm++", "heun"])
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize(
    "objective", [Consistency, partial(Phases, phases=4), Trajectory, partial(Trajectory, phases=2, t_m="log_uniform")]
)
def test_every_combination_gives_a_finite_loss_and_gradient(
    cache: LatentCache, solver: str, kind: str, objective: Callable[..., Consistency]
) -> None:
    student, teacher = Recording(), Recording()
    networks = Networks(
        Denoiser(student, SCHEDULE, PREDICTIONS[kind]), SCHEDULE, teacher=Denoiser(teacher, SCHEDULE, PREDICTIONS[kind])
    )
    settings = objective(w_range=(0.0, 6.0), k=300, solver=solver, substeps=25)
    loss = loss_of(OverCache(settings, networks, cache), ROWS)["loss"]
    loss.backward()
    assert bool(loss.isfinite())
    assert student.mix.weight.grad is not None
    assert bool(student.mix.weight.grad.isfinite().all())


def test_trajectories_end_anywhere_between_the_phase_s_end_and_the_target(cache: LatentCache) -> None:
    objective = Trajectory(w_range=(1.0, 3.0), phases=4, k=100)
    draw = objective.draw(ROWS.repeat(20), cache, SCHEDULE, torch.Generator().manual_seed(0))
    grid, at = objective.grid(SCHEDULE), objective.times(draw, SCHEDULE)
    floor = objective.ends.floor(grid, SCHEDULE)[draw.times]
    assert torch.equal(at.t_n, torch.maximum(grid[draw.times] - 100, floor))
    assert bool(((at.t_m >= floor) & (at.t_m <= at.t_n)).all())
    room = at.t_n > floor
    assert bool((at.t_m[room] == floor[room]).any())
    assert bool((at.t_m[room] == at.t_n[room]).any())
    assert len((at.t_n - at.t_m).unique()) > 50


def test_trajectories_as_walks_take_them_end_log_uniformly_and_from_pure_noise_at_the_very_end(
    cache: LatentCache,
) -> None:
    objective = Trajectory(w_range=(1.0, 3.0), phases=2, k=50, t_m="log_uniform")
    draw = objective.draw(ROWS.repeat(200), cache, SCHEDULE, torch.Generator().manual_seed(0))
    at = objective.times(draw, SCHEDULE)
    t, s, end = at.t, at.t_n, at.t_m
    floor = objective.ends.floor(objective.grid(SCHEDULE), SCHEDULE)[draw.times]
    assert bool(((end >= floor) & (end <= s)).all())
    assert torch.equal(end[t >= 900], floor[t >= 900])
    for at_t in (99, 399, 899):  # half of all jumps are shorter than the geometric mean of the ends
        longest = at_t - int(floor[t == at_t][0])
        shorter = (at_t - end[t == at_t]) < (50 * longest) ** 0.5
        assert float(shorter.float().mean()) == pytest.approx(0.5, abs=0.06)
        assert bool((end[t == at_t] == s[t == at_t]).any())


def test_a_part_of_a_batch_costs_what_its_rows_cost_in_the_whole(cache: LatentCache) -> None:
    objective = distillation(cache, Recording(), Recording(), Trajectory, metric="l2")
    draw = objective.draw(ROWS, torch.Generator().manual_seed(1))
    whole = objective.loss(draw)["loss"]
    parts = [objective.loss(draw[slice(i, i + 30)])["loss"] for i in (0, 30, 60)]
    torch.testing.assert_close(torch.stack(parts).mean(), whole)
