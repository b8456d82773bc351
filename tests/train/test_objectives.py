"""The objectives hand the right things to the losses: right captions, right w, gradients to the student alone."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fewstep.core.consistency import ConsistencyFunction, boundary_scalings
from fewstep.core.denoise import Denoiser
from fewstep.core.guidance import LearntGuidance
from fewstep.core.prediction import PREDICTIONS, Sample, Velocity
from fewstep.core.schedules import DiscreteSchedule
from fewstep.data.latents import LatentCache
from fewstep.models.conditioning import Conditioning
from fewstep.train.objectives import Diffusion, Distillation, FineTuning


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


def distillation(cache: LatentCache, student: Recording, teacher: Recording, **options: object) -> Distillation:
    f = ConsistencyFunction(denoiser(student), partial(boundary_scalings, timestep_scaling=10.0))
    return Distillation(f, denoiser(teacher), cache, **{"w_range": (1.0, 3.0), **options})  # type: ignore[arg-type]


ROWS = torch.tensor([0, 1, 2] * 30)


def test_diffusion_gives_each_picture_a_caption_of_its_own_or_none(cache: LatentCache) -> None:
    network = Recording()
    scalars = Diffusion(denoiser(network), cache, empty=0.2)(ROWS, torch.Generator().manual_seed(0))
    [(t, states, w)] = network.calls
    words = states[:, 0, 0].long()
    assert bool((((words + 1) // 2 == ROWS + 1) | (words == 0)).all())
    assert 0 < int((words == 0).sum()) < 45
    assert len(t.unique()) > 60
    assert w is None
    assert {"loss", "loss_q1", "loss_q2", "loss_q3", "loss_q4"} == set(scalars)


def test_distillation_asks_the_teacher_with_and_without_words_and_tells_the_student_w(cache: LatentCache) -> None:
    student, teacher = Recording(), Recording()
    distillation(cache, student, teacher)(ROWS, torch.Generator().manual_seed(0))
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
    first = objective(ROWS, torch.Generator().manual_seed(5))["loss"]
    first.backward()
    assert student.mix.weight.grad is not None
    assert float(student.mix.weight.grad.abs().max()) > 0
    assert teacher.mix.weight.grad is None
    again, other = (objective(ROWS, torch.Generator().manual_seed(seed))["loss"].item() for seed in (5, 6))
    assert again == first.item()
    assert other != first.item()


def test_fine_tuning_asks_nobody_and_looks_at_the_same_noise_at_both_times(cache: LatentCache) -> None:
    student = Recording()
    seen: list[Tensor] = []
    f = ConsistencyFunction(denoiser(student), partial(boundary_scalings, timestep_scaling=10.0))

    def spy(x_t: Tensor, t: Tensor, cond: Conditioning, w: Tensor | None = None) -> Tensor:
        seen.append(x_t)
        return f(x_t, t, cond, w)

    objective = FineTuning(spy, DiscreteSchedule.from_betas(), cache, w_range=(1.0, 3.0), k=100)  # type: ignore[arg-type]
    draw = objective.draw(ROWS, torch.Generator().manual_seed(0))
    objective.loss(draw)["loss"].backward()
    (s, _, w_target), (t, _, w) = student.calls
    assert w is not None
    assert w_target is not None
    assert torch.equal(w, w_target)
    assert bool(((t - s == 100) | (s == 0)).all())
    schedule, x_0 = DiscreteSchedule.from_betas(), cache.latents[ROWS]
    for x, time in zip(seen, (s, t), strict=True):
        torch.testing.assert_close(x, schedule.add_noise(x_0, draw.noise, time), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("trained", [(0.0, 6.0), (2.0, 14.0)])
def test_fine_tuning_keeps_what_guidance_did(cache: LatentCache, trained: tuple[float, float]) -> None:
    """The model before answered x_0 = 7 + 2 w where it was trained, and nonsense below: the picture is moved by 2 w."""
    student = Recording()
    schedule = DiscreteSchedule.from_betas()
    f = ConsistencyFunction(Denoiser(student, schedule, Sample()), partial(boundary_scalings, timestep_scaling=10.0))

    def before(x_t: Tensor, t: Any, cond: Any, w: float | Tensor | None = None) -> Tensor:
        told = torch.as_tensor(w).view(-1, 1, 1, 1)
        return torch.zeros_like(x_t) + torch.where(told < trained[0], -99.0, 7.0 + 2.0 * told)

    guidance = LearntGuidance(before, trained)
    objective = FineTuning(f, schedule, cache, guidance=guidance, w_range=(1.0, 3.0), k=1000, phases=4, metric="l2")
    assert objective.arrives
    draw = objective.draw(ROWS, torch.Generator().manual_seed(0))
    loss = objective.loss(draw)["loss"]
    [(t, states, w)] = student.calls  # the target is not asked of the student
    assert w is not None
    x_0 = cache.latents[ROWS].float()
    x_t = schedule.add_noise(x_0, draw.noise, t)
    ends = objective.floor[draw.times]
    answered = student(x_t, t, Conditioning(states), w)
    found, wanted = (schedule.transfer(x_t, x, t, ends) for x in (answered, x_0 + 2.0 * w.view(-1, 1, 1, 1)))
    torch.testing.assert_close(loss, (found - wanted).square().mean(), rtol=1e-4, atol=1e-5, check_dtype=False)


@pytest.mark.parametrize("options", [{}, {"trajectory": True}, {"phases": 2, "trajectory": True}])
def test_where_targets_are_asked_at_the_end_of_the_way_the_student_is_not_asked_for_them(
    cache: LatentCache, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    """Nor would its answer be another: to the bit the sample itself."""
    losses, asked = [], []
    for arrives in (True, False):
        student = Recording()
        objective = distillation(cache, student, Recording(), k=1000, metric="l2", **options)
        if not arrives:
            monkeypatch.setattr(Distillation, "arrives", False)
        losses.append(objective(ROWS, torch.Generator().manual_seed(0))["loss"])
        asked.append(len(student.calls))
    assert asked == [1, 2]
    assert torch.equal(*losses)


def test_no_guidance_asks_the_teacher_once_a_step_and_substeps_as_often(cache: LatentCache) -> None:
    student, teacher = Recording(), Recording()
    objective = distillation(cache, student, teacher, w_range=(0.0, 0.0), k=200, substeps=4)
    objective(ROWS, torch.Generator().manual_seed(0))
    assert len(teacher.calls) == 4
    times = torch.stack([t for t, _, _ in teacher.calls])
    assert bool((times.diff(dim=0) <= 0).all())
    (s, _, _), (t, _, _) = student.calls
    assert torch.equal(times[0], t)
    assert bool((s == (t - 200).clamp(min=0)).all())


@pytest.mark.parametrize("solver", ["ddim", "dpm++", "heun"])
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize(
    "options", [{}, {"phases": 4}, {"trajectory": True}, {"phases": 2, "trajectory": True, "ends": "walks"}]
)
def test_every_combination_gives_a_finite_loss_and_gradient(
    cache: LatentCache, solver: str, kind: str, options: dict[str, object]
) -> None:
    student, teacher = Recording(), Recording()
    f = ConsistencyFunction(Denoiser(student, DiscreteSchedule.from_betas(), PREDICTIONS[kind]))
    other = Denoiser(teacher, DiscreteSchedule.from_betas(), PREDICTIONS[kind])
    arguments = {"w_range": (0.0, 6.0), "k": 300, "solver": solver, "substeps": 25, **options}
    objective = Distillation(f, other, cache, **arguments)  # type: ignore[arg-type]
    loss = objective(ROWS, torch.Generator().manual_seed(0))["loss"]
    loss.backward()
    assert bool(loss.isfinite())
    assert student.mix.weight.grad is not None
    assert bool(student.mix.weight.grad.isfinite().all())


def test_trajectories_end_anywhere_between_the_phase_s_end_and_the_target(cache: LatentCache) -> None:
    objective = distillation(cache, Recording(), Recording(), phases=4, trajectory=True, k=100)
    draw = objective.draw(ROWS.repeat(20), torch.Generator().manual_seed(0))
    floor = objective.floor[draw.times]
    s = torch.maximum(objective.grid[draw.times] - 100, floor)
    end = objective._leading_to(objective.f, draw, floor).end  # type: ignore[attr-defined]
    assert bool(((end >= floor) & (end <= s)).all())
    room = s > floor
    assert bool((end[room] == floor[room]).any())
    assert bool((end[room] == s[room]).any())
    assert len((s - end).unique()) > 50


def test_trajectories_as_walks_take_them_end_log_uniformly_and_from_pure_noise_at_the_very_end(
    cache: LatentCache,
) -> None:
    objective = distillation(cache, Recording(), Recording(), phases=2, trajectory=True, k=50, ends="walks")
    draw = objective.draw(ROWS.repeat(200), torch.Generator().manual_seed(0))
    t, floor = objective.grid[draw.times], objective.floor[draw.times]
    s = torch.maximum(t - 50, floor)
    end = objective._leading_to(objective.f, draw, floor).end  # type: ignore[attr-defined]
    assert bool(((end >= floor) & (end <= s)).all())
    assert torch.equal(end[t >= 900], floor[t >= 900])
    for at in (99, 399, 899):  # half of all jumps are shorter than the geometric mean of the ends
        longest = at - int(floor[t == at][0])
        shorter = (at - end[t == at]) < (50 * longest) ** 0.5
        assert float(shorter.float().mean()) == pytest.approx(0.5, abs=0.06)
        assert bool((end[t == at] == s[t == at]).any())


def test_a_part_of_a_batch_costs_what_its_rows_cost_in_the_whole(cache: LatentCache) -> None:
    objective = distillation(cache, Recording(), Recording(), metric="l2", trajectory=True)
    draw = objective.draw(ROWS, torch.Generator().manual_seed(1))
    whole = objective.loss(draw)["loss"]
    parts = [objective.loss(draw[slice(i, i + 30)])["loss"] for i in (0, 30, 60)]
    torch.testing.assert_close(torch.stack(parts).mean(), whole)
