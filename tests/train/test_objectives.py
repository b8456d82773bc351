"""The objectives hand the right things to the losses: right captions, right w, gradients to the student alone."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from fewstep.core.consistency import ConsistencyFunction, boundary_scalings
from fewstep.core.prediction import Denoiser
from fewstep.core.schedule import Schedule
from fewstep.data.latents import LatentCache
from fewstep.models.conditioning import Conditioning
from fewstep.train.objectives import Diffusion, Distillation


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
    return Denoiser(network, Schedule.from_betas(), "v_prediction")


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
