"""The distillation loss: zero where the theory says so, falling at the solver's order, able to teach a network."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from fewstep.core.consistency import ConsistencyFunction, scalings_of
from fewstep.core.denoise import Denoise, Denoiser
from fewstep.core.objectives.base import Batch, Loss, Networks
from fewstep.core.objectives.consistency import Consistency
from fewstep.core.objectives.ends import CleanData, Ends
from fewstep.core.objectives.metrics import METRICS
from fewstep.core.prediction import Flow, Prediction, Velocity
from fewstep.core.samplers import SOLVERS
from fewstep.core.samplers.ddim import DDIM
from fewstep.core.samplers.heun import Heun
from fewstep.core.samplers.ode import Solver
from fewstep.core.schedule import Schedule
from fewstep.core.schedules import DiscreteSchedule, RectifiedFlow, TrigFlow
from oracle import ExactFlow, GaussianWorld, MixtureWorld

SD = DiscreteSchedule.from_betas()
WORLD = GaussianWorld(SD)
GRID = SD.grid(50)
EVERY_INDEX = torch.arange(50)
W = torch.linspace(0.0, 14.0, 50, dtype=torch.float64)
MU = torch.linspace(-1.0, 1.0, 50, dtype=torch.float64)


def draw(seed: int, count: int = 50) -> Tensor:
    return torch.randn(count, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Itself(CleanData):
    """For an f that is given as such, and not as a denoiser."""

    def function(self, denoise: Denoise, *_: Any) -> Denoise:
        return denoise


class Exactly(Consistency):
    """With f as it is, and any solver."""

    solvers: ClassVar[list[Any]] = []

    @property
    def ends(self) -> Ends:
        return Itself()

    def ode(self, schedule: Schedule) -> Solver:
        solver: Solver = self.solvers[-1]
        return solver


def distil(f: Any = WORLD.f, solver: Any = None, kind: type[Exactly] = Exactly, **changes: Any) -> Loss:
    """The distillation loss at every index of LCM's grid, each with its own mu and w."""
    asked = {
        "f_target": WORLD.f, "teacher": WORLD.denoise, "schedule": SD, "times": EVERY_INDEX,
        "x_0": MU[:, None] + WORLD.s * draw(1), "noise": draw(2), "cond": MU, "uncond": WORLD.uncond, "w": W,
    }  # fmt: skip
    asked |= {name: changes.pop(name) for name in list(changes) if name in asked}
    Exactly.solvers.append(solver or ExactFlow(WORLD, W))
    networks = Networks(f, asked.pop("schedule"), asked.pop("f_target"), asked.pop("teacher"))
    return kind(**{"metric": "l2", "k": 20, **changes}).loss(networks, Batch(**asked))


@pytest.mark.parametrize("metric", METRICS)
def test_distillation_loss_is_zero_for_the_exact_f_and_an_exact_step(metric: Any) -> None:
    loss = distil(metric=metric)
    assert float(loss.loss) < 1e-12
    torch.testing.assert_close(loss.prediction, loss.target, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(lambda x_t, t, cond, w: WORLD.f(x_t, t, cond, w) + 0.01, id="an offset"),
        pytest.param(lambda x_t, t, cond, w: WORLD.f(x_t, t, cond, w + 0.1), id="another w"),
        pytest.param(lambda x_t, t, cond, w: WORLD.f(x_t, t, cond, None), id="no w"),
        pytest.param(lambda x_t, t, cond, w: WORLD.f(x_t, (t - 20).clamp(min=0), cond, w), id="another time"),
        pytest.param(lambda x_t, t, cond, w: WORLD.denoise(x_t, t, cond), id="the teacher"),
    ],
)
def test_distillation_loss_is_positive_off_f(wrong: Any, metric: Any) -> None:
    assert float(distil(wrong, metric=metric).loss) > 1e-6


class OnSixteen(Exactly):
    """k a sixteenth of all times, from a quarter of them on."""

    def grid(self, schedule: Schedule) -> Tensor:
        return schedule.grid(16)[3:14]

    def interval(self, schedule: Schedule) -> float:
        return schedule.num_train_timesteps / 16


@pytest.mark.parametrize("schedule", [TrigFlow(), RectifiedFlow()], ids=["TrigFlow", "rectified flow"])
@pytest.mark.parametrize("name", SOLVERS)
def test_distillation_loss_shrinks_at_the_order_of_the_solver(name: str, schedule: Schedule) -> None:
    """With the exact f, the solver's error over k is all that is left: half the step divides it by 2^order.

    Measured at 16 to 64 substeps: DDIM 1.00, DPM-Solver++(2M) 2.01, Heun 2.00.
    """
    world = GaussianWorld(schedule)
    changes = {
        "kind": OnSixteen,
        "f_target": world.f,
        "teacher": world.denoise,
        "schedule": schedule,
        "times": torch.arange(11).repeat(5)[:50],
    }
    errors = [float(distil(world.f, SOLVERS[name](schedule), substeps=m, **changes).loss.sqrt()) for m in (16, 32, 64)]
    orders = [math.log2(coarse / half) for coarse, half in itertools.pairwise(errors)]
    assert orders == pytest.approx([SOLVERS[name].order] * 2, abs=0.1)  # type: ignore[attr-defined]


def test_the_exact_f_is_nearly_consistent_on_lcms_own_grid() -> None:
    """One step over k = 20 of 1000 leaves it 4e-7 with DDIM and 2e-10 with Heun; guided away, it is 1e-2."""
    assert float(distil(solver=DDIM(SD)).loss) < 1e-6
    assert float(distil(solver=Heun(SD)).loss) < 1e-9
    assert float(distil(solver=Heun(SD), uncond=-WORLD.uncond).loss) > 5e-3


@dataclass
class Spy:
    """A `Denoise` that notes what it was asked and answers with x_t times a weight."""

    weight: Tensor = field(default_factory=lambda: torch.ones((), dtype=torch.float64, requires_grad=True))
    seen: list[tuple[Tensor, Tensor, Any, Any]] = field(default_factory=list)

    def __call__(self, x_t: Tensor, t: Any, cond: Any, w: Any = None) -> Tensor:
        self.seen.append((x_t, t, cond, w))
        return x_t * self.weight


def test_who_is_asked_what_in_distillation() -> None:
    f, target, teacher = Spy(), Spy(), Spy()
    loss = distil(f, DDIM(SD), f_target=target, teacher=teacher, cond="c", uncond="u")
    (x_t, t, cond, w), (x_s, s, cond_s, w_s) = f.seen[0], target.seen[0]
    assert t.tolist() == list(range(19, 1000, 20))
    assert s.tolist() == [0, *range(19, 980, 20)], "the first pair is 19 -> 0, not -1"
    assert [(call[2], call[3]) for call in teacher.seen] == [("c", None), ("u", None)]
    assert (cond, cond_s) == ("c", "c")
    assert w is W
    assert w_s is W
    torch.testing.assert_close(x_t, SD.add_noise(MU[:, None] + WORLD.s * draw(1), draw(2), t))
    guided = x_t.detach()
    torch.testing.assert_close(x_s, DDIM(SD).step(lambda *_: guided, x_t, t, s, None, None)[0])
    assert torch.equal(loss.prediction, x_t)
    assert torch.equal(loss.target, x_s)


def test_the_gradient_flows_through_f_alone() -> None:
    f, target, teacher = Spy(), Spy(), Spy()
    loss = distil(f, DDIM(SD), f_target=target, teacher=teacher)
    loss.loss.backward()
    assert f.weight.grad is not None
    assert target.weight.grad is None
    assert teacher.weight.grad is None
    assert loss.per_sample.shape == (50,)
    torch.testing.assert_close(loss.loss, loss.per_sample.mean())
    same = Spy()
    distil(same, DDIM(SD), f_target=same).loss.backward()
    prediction, goal = same.seen[0][0], same.seen[1][0]
    assert prediction.shape == goal.shape
    half = 2 * (loss.prediction - loss.target).detach() * loss.prediction.detach()
    torch.testing.assert_close(f.weight.grad, half.mean())


def test_substeps_divide_the_interval_in_whole_times() -> None:
    teacher = Spy()
    distil(solver=DDIM(SD), teacher=teacher, w=None, substeps=3)
    asked = torch.stack([call[1] for call in teacher.seen])
    assert asked[:, -1].tolist() == [999, 992, 985]
    assert asked[:, 0].tolist() == [19, 12, 6]


class SmallNetwork(nn.Module):
    """(x_t, log-SNR or tau) -> v or u, three hidden layers of 64."""

    def __init__(self, schedule: Schedule = SD) -> None:
        super().__init__()
        self.schedule = schedule
        widths = (3, 64, 64, 64)
        hidden = [layer for w in itertools.pairwise(widths) for layer in (nn.Linear(*w), nn.SiLU())]
        self.layers = nn.Sequential(*hidden, nn.Linear(64, 1))

    def forward(self, x_t: Tensor, t: Tensor, cond: None, w: Any) -> Tensor:
        flow = self.schedule.clean == 0  # whose log-SNR is infinite at both ends
        level = (2 * self.schedule.tau(t) - 1 if flow else self.schedule.log_snr(t) / 8).float()[:, None]
        return self.layers(torch.cat([x_t, level, torch.sin(3 * level)], dim=1))


@pytest.mark.slow
def test_a_network_distilled_on_a_mixture_reaches_the_known_f() -> None:
    """A small network, 1500 steps of 256 samples, the real loss: f is within 0.06 rms of the exact one everywhere.

    Measured over x_t in [-2, 2] at t = 999, 759, 499, 259, for data of deviation 0.95 (seed 0, about 6 seconds):
    0.038, 0.038, 0.037, 0.029. Untrained: 1.00, 0.82, 0.50, 0.23. The teacher, taken for f: 0.99, 0.83, 0.52, 0.22.
    """
    f, errors, teacher = distilled(SD, Velocity(), (999, 759, 499, 259), steps=1500)
    assert max(errors(f)) < 0.06
    assert max(errors(teacher)) > 0.5
    x_t = torch.linspace(-2, 2, 81)[:, None]
    assert torch.equal(f(x_t, 0, None), x_t)


@pytest.mark.slow
def test_so_does_a_network_on_a_rectified_flow() -> None:
    """The velocity of a flow, at real times and without boundary scalings, from pure noise down (about 5 seconds).

    0.058, 0.057, 0.058, 0.081 at t = 1000, 900, 750, 400. The teacher, taken for f: 1.06, 0.99, 0.80, 0.31.
    """
    f, errors, teacher = distilled(RectifiedFlow(), Flow(), (1000.0, 900.0, 750.0, 400.0), steps=1500)
    assert max(errors(f)) < 0.1
    assert min(errors(teacher)) > 0.3


def distilled(schedule: Schedule, kind: Prediction, times: Sequence[float], steps: int) -> tuple[Any, Any, Any]:
    """f of a small network after so many steps, how far an estimate is from the exact f at the times, the teacher."""
    world, generator, batch = MixtureWorld(schedule), torch.Generator().manual_seed(0), 256
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = SmallNetwork(schedule)
    denoiser = Denoiser(network, schedule, kind)
    f = ConsistencyFunction(denoiser, scalings_of(schedule))
    x_t = torch.linspace(-2, 2, 81, dtype=torch.float64)[:, None]

    def errors(estimate: Any) -> list[float]:
        with torch.no_grad():
            differences = [estimate(x_t.float(), t, None) - world.flow(x_t, t, 0) for t in times]
            return [float(d.square().mean().sqrt()) for d in differences]

    def teacher(x_t: Tensor, t: Any, cond: None, w: Any = None) -> Tensor:
        return world.denoise(x_t.double(), t).float()

    assert min(errors(f)) > 0.2
    networks = Networks(denoiser, schedule, teacher=teacher)
    objective = Consistency(solver="heun", metric="l2")
    optimizer = torch.optim.Adam(network.parameters())
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps)
    for _ in range(steps):
        x_0 = world.sample(batch, generator).float()
        noise = torch.randn(batch, 1, generator=generator)
        indices = torch.randint(50, (batch,), generator=generator)
        loss = objective.loss(networks, Batch(x_0, noise, indices, None)).loss  # type: ignore[arg-type]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
    return f, errors, teacher


@pytest.mark.parametrize(
    ("lacking", "message"),
    [({"teacher": None}, "a distillation needs a teacher"), ({"uncond": None}, "conditioning of the empty caption")],
)
def test_what_guidance_needs_is_missed_in_words(lacking: dict[str, None], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        distil(**lacking)


def test_without_guidance_nothing_is_led_away_from() -> None:
    unguided = distil(solver=ExactFlow(WORLD, 0.0), w=None, uncond=None)
    assert torch.isfinite(unguided.per_sample).all()
