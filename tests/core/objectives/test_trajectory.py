"""Trajectories on a rectified flow: a network that reads where its steps end learns the flow map, for any steps."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fewstep.core.denoise import Denoiser, toward
from fewstep.core.objectives.base import Batch, Networks
from fewstep.core.objectives.trajectory import Trajectory
from fewstep.core.prediction import Flow
from fewstep.core.profile import SamplingProfile
from fewstep.core.samplers import SAMPLERS
from fewstep.core.schedule import Schedule, Time
from fewstep.core.schedules import RectifiedFlow
from oracle import MixtureWorld, column

X = torch.linspace(-2, 2, 81, dtype=torch.float64)[:, None]
STEPS = (1, 2, 4, 8, 16)


class FlowMap(nn.Module):
    """u(z, t, r) = v(z, t) + (t - r) net(z, t, r): it begins as its teacher, as a student does.

    `toward(r)` is what `denoise.Toward` asks for.
    """

    def __init__(self, world: MixtureWorld) -> None:
        super().__init__()
        self.world, self.schedule = world, world.schedule
        widths = (3, 64, 64, 64)
        layers = [layer for width in pairwise(widths) for layer in (nn.Linear(*width), nn.SiLU())]
        self.net = nn.Sequential(*layers, nn.Linear(64, 1))

    def velocity(self, x_t: Tensor, t: Tensor, r: Time) -> Tensor:
        sigma = column(self.schedule.sigma(t))
        x_0 = self.world.denoise(x_t.double(), t)
        v = (x_t - x_0) / torch.where(sigma == 0, 1.0, sigma)
        end = torch.as_tensor(r, dtype=torch.float64).expand(len(x_t))
        times = torch.stack([t / 500 - 1, end / 500 - 1], 1)
        moved = self.net(torch.cat([x_t, times], 1).float())
        return (v + column((t - end) / 1000) * moved).float()

    def toward(self, r: Time) -> Denoiser[Any]:
        return Denoiser(lambda x_t, t, cond, w: self.velocity(x_t, t, r), self.schedule, Flow())

    def forward(self, x_t: Tensor, t: Time, cond: Any, w: Any = None) -> Tensor:
        return self.toward(self.schedule.clean)(x_t, t, cond, w)


def errors(denoise: Any, schedule: Schedule, kind: Any, sampler: str, exact: Tensor) -> list[float]:
    """How far walks of 1, 2, 4, 8 and 16 steps end from where the flow ends, rms."""
    profile, found = SamplingProfile.default(kind, schedule, Flow()), []
    for steps in STEPS:
        times = SAMPLERS[sampler].times(profile, steps)
        with torch.no_grad():
            *_, end = SAMPLERS[sampler].walk(denoise, profile, X.float(), times, None, None, lambda _: X)
        found.append(float((end.x_t - exact).square().mean().sqrt()))
    return found


@pytest.mark.slow
def test_one_model_of_trajectories_gets_better_with_every_step() -> None:
    """1,000 steps of 256 samples, the real loss (seed 0, about 4 seconds).

    Of the student 0.103, 0.084, 0.069, 0.040, 0.022; of Euler with the teacher 1.06, 0.46, 0.22, 0.11, 0.06.
    """
    world, generator, steps, batch = MixtureWorld(RectifiedFlow()), torch.Generator().manual_seed(0), 1000, 256
    with torch.random.fork_rng():
        torch.manual_seed(0)
        student = FlowMap(world)

    def teacher(x_t: Tensor, t: Any, cond: None, w: Any = None) -> Tensor:
        return world.denoise(x_t.double(), t).float()

    exact = world.flow(X, 1000.0, 0.0)
    before = errors(teacher, world.schedule, "diffusion", "euler", exact)
    networks: Any = Networks(student, world.schedule, teacher=teacher)  # type: ignore[arg-type]
    objective = Trajectory(solver="heun", metric="l2")
    optimizer = torch.optim.Adam(student.parameters())
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps)
    for _ in range(steps):
        x_0, noise = world.sample(batch, generator).float(), torch.randn(batch, 1, generator=generator)
        places, u = torch.randint(50, (batch,), generator=generator), torch.rand(batch, generator=generator)
        loss = objective.loss(networks, Batch(x_0, noise, places, None, u=u)).loss  # type: ignore[arg-type]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
    after = errors(student, world.schedule, "lcm", "flow_map", exact)
    assert after == sorted(after, reverse=True)
    assert max(after) < 0.13
    assert after[-1] < 0.03
    assert all(mine < theirs / 2 for mine, theirs in zip(after, before, strict=True))


def test_a_network_that_reads_where_steps_end_is_told_in_every_loss() -> None:
    """The student is asked towards t_m from t, and its target towards the same t_m from t_n."""
    asked: list[tuple[Tensor, Any]] = []

    class Recording(FlowMap):
        def toward(self, r: Time) -> Any:
            def denoise(x_t: Tensor, t: Tensor, cond: Any, w: Any = None) -> Tensor:
                asked.append((t, r))
                return x_t * 0.5

            return denoise

    world = MixtureWorld(RectifiedFlow(3.0))
    batch: Any = Batch(X, X.flip(0), torch.arange(81) % 50, None, u=torch.linspace(0, 0.99, 81))  # type: ignore[arg-type]
    objective, networks = Trajectory(k=100), Networks(Recording(world), world.schedule, teacher=world.denoise)  # type: ignore
    objective.loss(networks, batch)  # type: ignore[arg-type]
    times = objective.times(batch, world.schedule)
    (t_n, of_target), (t, of_student) = asked
    assert torch.equal(t, times.t)
    assert torch.equal(t_n, times.t_n)
    assert torch.equal(of_target, times.t_m)
    assert torch.equal(of_student, times.t_m)


def test_a_network_that_does_not_is_asked_as_it_is() -> None:
    denoise: Callable[..., Tensor] = MixtureWorld(RectifiedFlow()).denoise
    assert toward(denoise, 100.0) is denoise
