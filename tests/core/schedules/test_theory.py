"""The theory of consistency models on processes with real times: all of it holds for any alpha and sigma."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fewstep.core.consistency import ConsistencyFunction, TrajectoryFunction, no_scalings
from fewstep.core.denoise import Denoise, Denoiser
from fewstep.core.objectives.base import Batch, Networks, Objective
from fewstep.core.objectives.consistency import Consistency
from fewstep.core.objectives.diffusion import Diffusion
from fewstep.core.objectives.ends import CleanData, Ends
from fewstep.core.objectives.fine_tuning import FineTuning
from fewstep.core.objectives.pairs import Pairs
from fewstep.core.objectives.path import Path
from fewstep.core.objectives.phases import Phases
from fewstep.core.objectives.trajectory import Trajectory
from fewstep.core.prediction import Flow, Prediction, Trig
from fewstep.core.profile import KINDS, SamplingProfile
from fewstep.core.samplers import SAMPLERS, SOLVERS
from fewstep.core.samplers.grids import consistency_timesteps, ode_timesteps, phase_ends, phased_timesteps
from fewstep.core.samplers.lcm import sample_consistency
from fewstep.core.samplers.ode import Solver, sample_ode
from fewstep.core.samplers.tcd import sample_trajectory
from fewstep.core.schedule import Schedule
from fewstep.core.schedules import RectifiedFlow, TrigFlow
from oracle import ExactFlow, GaussianWorld, MixtureWorld, column, output_from_x0, output_of

PROCESSES: dict[str, tuple[Schedule, Prediction]] = {
    "rectified flow": (RectifiedFlow(), Flow()),
    "shifted": (RectifiedFlow(shift=3.0), Flow()),
    "TrigFlow": (TrigFlow(), Trig()),
}
every_process = pytest.mark.parametrize(("schedule", "kind"), PROCESSES.values(), ids=PROCESSES)
X = torch.linspace(-1.5, 1.5, 25, dtype=torch.float64)[:, None]
MU = torch.linspace(-1.0, 1.0, 25, dtype=torch.float64)
W = torch.linspace(0.0, 14.0, 25, dtype=torch.float64)
COUNT = 40_000


def draw(seed: int, count: int = 25) -> Tensor:
    return torch.randn(count, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def spread(schedule: Schedule, num: int = 25) -> Tensor:
    """Rising times as the model lays them out, the last one pure noise."""
    return schedule.at(torch.arange(1, num + 1, dtype=torch.float64) / num)


@pytest.mark.slow
@every_process
def test_the_consistency_function_in_closed_form(schedule: Schedule, kind: Prediction) -> None:
    """f = mu + s (x - alpha mu) / sqrt(alpha^2 s^2 + sigma^2): the oracle's, and where the ODE ends.

    By UniPC in 4,000 steps, to 1e-6.
    """
    world, mu, t = GaussianWorld(schedule), 0.4, float(schedule.at(0.7))
    alpha, sigma, s = float(schedule.alpha(t)), float(schedule.sigma(t)), world.s
    by_hand = mu + s * (X - alpha * mu) / (alpha**2 * s**2 + sigma**2) ** 0.5
    torch.testing.assert_close(world.f(X, t, mu), by_hand)
    times = schedule.at(0.7 * torch.linspace(1, 0, 4001, dtype=torch.float64))[:-1]
    *_, end = sample_ode(SOLVERS["unipc"](schedule), world.denoise, X, times, mu)
    torch.testing.assert_close(end.x_t, by_hand, rtol=0, atol=1e-6)
    assert end.t == schedule.clean


@every_process
def test_f_is_one_along_a_trajectory_and_the_sample_itself_at_its_end(schedule: Schedule, kind: Prediction) -> None:
    world, t = MixtureWorld(schedule), float(schedule.at(0.8))
    for s in (float(schedule.at(0.5)), float(schedule.at(0.01))):
        on_the_way = world.flow(X, t, s)
        torch.testing.assert_close(
            world.flow(on_the_way, s, schedule.clean), world.flow(X, t, schedule.clean), rtol=1e-7, atol=1e-7
        )
    torch.testing.assert_close(GaussianWorld(schedule).f(X, schedule.clean, 0.3), X)


@every_process
def test_a_network_of_this_process_is_f_without_scalings(schedule: Schedule, kind: Prediction) -> None:
    """Whatever it says, f is x_t at clean data; and with the right output it is the exact f."""
    world = GaussianWorld(schedule)

    def network(x_t: Tensor, t: Tensor, cond: Any, w: Any) -> Tensor:
        return output_from_x0(kind.name, world.f(x_t, t, cond), x_t, schedule.alpha(t), schedule.sigma(t))

    f = ConsistencyFunction(Denoiser(network, schedule, kind), no_scalings)
    times = spread(schedule)
    torch.testing.assert_close(f(X, times, MU), world.f(X, times, MU))
    wild = ConsistencyFunction(Denoiser(lambda x_t, *_: 5 + x_t**2, schedule, kind), no_scalings)
    torch.testing.assert_close(wild(X, schedule.clean, None), X)


class Itself(CleanData):
    """For an f that is given as such, and not as a denoiser."""

    def function(self, denoise: Denoise, *_: Any) -> Denoise:
        return denoise


class OnRealTimes(Pairs):
    """At 25 times that end with pure noise, each in a pair with the one before, with f as it is."""

    @property
    def ends(self) -> Ends:
        return Itself()

    def grid(self, schedule: Schedule) -> Tensor:
        return spread(schedule)

    def interval(self, schedule: Schedule) -> float:
        return schedule.num_train_timesteps / 25


class Distilled(OnRealTimes, Consistency):
    def __init__(self, solver: Any, substeps: int = 1) -> None:
        super().__init__(metric="l2", substeps=substeps)
        object.__setattr__(self, "made", solver)

    def ode(self, schedule: Schedule) -> Solver:
        made: Solver = self.made  # type: ignore[attr-defined]
        return made


class Tuned(OnRealTimes, FineTuning):
    """Fine-tuning of the same f at the same times."""


def distil(schedule: Schedule, f: Any, **changes: Any) -> float:
    """The distillation loss, each sample with its own mu and w."""
    world = GaussianWorld(schedule)
    asked: dict[str, Any] = {
        "x_0": MU[:, None] + world.s * draw(1),
        "noise": draw(2),
        "times": torch.arange(25),
        "cond": MU,
        "uncond": world.uncond,
        "w": W,
    }
    objective = Distilled(changes.pop("solver", ExactFlow(world, W)), changes.pop("substeps", 1))
    networks = Networks(f, schedule, world.f, changes.pop("teacher", world.denoise))
    return float(objective.loss(networks, Batch(**asked | changes)).loss)


@every_process
def test_distillation_loss_is_zero_for_the_exact_f_and_an_exact_step_alone(
    schedule: Schedule, kind: Prediction
) -> None:
    world = GaussianWorld(schedule)
    assert distil(schedule, world.f) < 1e-20
    assert distil(schedule, lambda x_t, t, cond, w: world.f(x_t, t, cond, w) + 0.01) > 1e-5
    assert distil(schedule, lambda x_t, t, cond, w: world.f(x_t, t, cond, w + 0.1)) > 1e-5
    assert distil(schedule, lambda x_t, t, cond, w: world.f(x_t, 0.97 * t, cond, w)) > 1e-5
    assert distil(schedule, world.denoise) > 1e-3
    assert distil(schedule, world.f, uncond=-world.uncond, solver=SOLVERS["heun"](schedule)) > 1e-3


@every_process
def test_a_real_step_of_the_teacher_leaves_little_and_substeps_less(schedule: Schedule, kind: Prediction) -> None:
    """Away from clean data, to which a step is DDIM's: half the step quarters Heun's error, its square a 16th."""
    f, solver = GaussianWorld(schedule).f, SOLVERS["heun"](schedule)
    times = torch.arange(13, 24).repeat(3)[:25]
    few, many = (distil(schedule, f, solver=solver, times=times, substeps=m) for m in (8, 16))
    assert many < 1e-7
    assert few / many == pytest.approx(16, rel=0.2)


@every_process
def test_substeps_divide_real_times_evenly(schedule: Schedule, kind: Prediction) -> None:
    asked: list[Tensor] = []

    def teacher(x_t: Tensor, t: Tensor, cond: Any, w: Any = None) -> Tensor:
        asked.append(t)
        return x_t

    distil(schedule, GaussianWorld(schedule).f, teacher=teacher, solver=SOLVERS["ddim"](schedule), w=None, substeps=3)
    t = spread(schedule)
    way = t.diff(prepend=t.new_tensor([schedule.clean]))
    for index, times in enumerate(asked):
        torch.testing.assert_close(times, t - index * way / 3)


@every_process
def test_consistency_training_is_zero_for_one_point_of_data(schedule: Schedule, kind: Prediction) -> None:
    world, point = GaussianWorld(schedule, s=0.0), torch.full((25, 1), 0.3, dtype=torch.float64)

    def loss(f: Any) -> float:
        indices = torch.arange(25).clamp(min=1)  # above clean data
        batch: Any = Batch(point, draw(2), indices, 0.3)  # type: ignore[arg-type]
        return float(Tuned(metric="l2").loss(Networks(f, schedule, f), batch).loss)

    assert loss(world.f) < 1e-20
    assert loss(GaussianWorld(schedule, s=0.7).f) > 1e-4


@every_process
def test_diffusion_loss_is_least_at_the_posterior_mean(schedule: Schedule, kind: Prediction) -> None:
    """The exact network beats itself moved by +-5 % or with the sign reversed, on 40,000 pairs at times of its own."""
    world = GaussianWorld(schedule)
    t = schedule.draw_times(COUNT, torch.Generator().manual_seed(3))

    def loss_at(scale: float) -> float:
        def network(x_t: Tensor, t: Tensor, cond: Any, w: Any) -> Tensor:
            x_0 = world.denoise(x_t, t, cond)
            return scale * output_from_x0(kind.name, x_0, x_t, schedule.alpha(t), schedule.sigma(t))

        batch: Any = Batch(0.5 + 0.7 * draw(1, COUNT), draw(2, COUNT), t, 0.5)  # type: ignore[arg-type]
        return float(Diffusion().loss(Networks(Denoiser(network, schedule, kind), schedule), batch).loss)

    assert loss_at(1.0) < min(loss_at(0.95), loss_at(1.05), loss_at(-1.0))


@every_process
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_consistency_sampling_reproduces_mean_and_deviation(schedule: Schedule, kind: Prediction, steps: int) -> None:
    """The exact f from pure noise: every step renews the sample and keeps its law. Four standard errors are allowed."""
    world, times = GaussianWorld(schedule), spread(schedule, steps).flip(0)
    path = list(
        sample_consistency(world.f, schedule, draw(0, COUNT), times, 0.5, 2.0, lambda index: draw(1 + index, COUNT))
    )
    result, mu = path[-1].x_t, float(world.guided_mu(0.5, 2.0))
    assert [step.t for step in path] == [*times.tolist()[1:], schedule.clean]
    assert float(result.mean()) == pytest.approx(mu, abs=4 * 0.7 / COUNT**0.5)
    assert float(result.std()) == pytest.approx(0.7, abs=4 * 0.7 / (2 * COUNT) ** 0.5)


@every_process
@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0])
def test_trajectory_sampling_keeps_the_noise_at_what_the_time_asks_for(
    schedule: Schedule, kind: Prediction, gamma: float
) -> None:
    """One point of data: after every step x_t is alpha mu + sigma eps, of which gamma says how much is fresh."""
    world, times = GaussianWorld(schedule, s=0.0), spread(schedule, 4).flip(0)
    path = sample_trajectory(
        world.denoise, schedule, draw(0, COUNT), times, 0.5, None, lambda index: draw(1 + index, COUNT), gamma=gamma
    )
    for step in path:
        noise = step.x_t - schedule.alpha(step.t) * 0.5
        sigma = float(schedule.sigma(step.t))
        assert float(noise.mean()) == pytest.approx(0.0, abs=4 * sigma / COUNT**0.5 + 1e-12)
        assert float(noise.std()) == pytest.approx(sigma, abs=4 * sigma / (2 * COUNT) ** 0.5 + 1e-12)
        if step.index < 3:
            below = (1 - gamma) * step.t
            ratio = schedule.alpha(step.t) / schedule.alpha(below) * schedule.sigma(below) / schedule.sigma(step.t)
            kept = float((noise * draw(0, COUNT)).mean() / sigma)
            if step.index == 0:
                assert kept == pytest.approx(float(ratio), abs=0.02)
    assert step.t == schedule.clean


@every_process
def test_a_trajectory_function_is_a_step_to_any_real_time(schedule: Schedule, kind: Prediction) -> None:
    """Of one point of data it is the flow itself; at t = end it is the identity to the bit."""
    world = GaussianWorld(schedule, s=0.0)
    t, end = spread(schedule), 0.37 * spread(schedule)
    g = TrajectoryFunction(world.denoise, schedule, end)
    flow = column(schedule.alpha(end)) * MU[:, None] + column(schedule.sigma(end) / schedule.sigma(t)) * (
        X - column(schedule.alpha(t)) * MU[:, None]
    )
    torch.testing.assert_close(g(X, t, MU), flow)
    for same in (t, torch.full_like(t, schedule.clean)):
        assert torch.equal(TrajectoryFunction(lambda x_t, *_: 3 - x_t, schedule, same)(X, same, None), X)


@every_process
@pytest.mark.parametrize("name", SOLVERS)
def test_ode_sampling_from_pure_noise_reproduces_mean_and_deviation(
    schedule: Schedule, kind: Prediction, name: str
) -> None:
    """Fifty steps of a network that speaks the process's own prediction; DDIM's deviation is a few percent small."""
    world = GaussianWorld(schedule)

    def network(x_t: Tensor, t: Tensor, cond: Any, w: Any) -> Tensor:
        x_0 = world.denoise(x_t, t, cond)
        return output_from_x0(kind.name, x_0, x_t, schedule.alpha(t), schedule.sigma(t))

    denoise, times = Denoiser(network, schedule, kind), spread(schedule, 50).flip(0)
    *_, end = sample_ode(SOLVERS[name](schedule), denoise, draw(0, COUNT), times, 0.5)
    assert float(end.x_t.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(end.x_t.std()) == pytest.approx(0.7, abs=0.035)


def test_an_euler_step_of_a_flow_is_ddim_s() -> None:
    """z + (s' - s) u, with u = eps - x_0: what diffusers' FlowMatchEulerDiscreteScheduler does."""
    schedule = RectifiedFlow()
    z, u = draw(0), draw(1)
    denoise = Denoiser(lambda *_: u, schedule, Flow())
    stepped, _ = SOLVERS["ddim"](schedule).step(denoise, z, 750.0, 300.0, None, None)
    torch.testing.assert_close(stepped, z + (0.3 - 0.75) * u)


@pytest.mark.parametrize("times", [[500.0, 500.0], [500.0, 0.0], torch.tensor([200.0, 700.0])])
def test_real_times_must_fall_and_end_above_clean_data(times: Any) -> None:
    with pytest.raises(ValueError, match="end above 0, which is clean data"):
        next(sample_ode(SOLVERS["ddim"](RectifiedFlow()), lambda x_t, t, cond: x_t, X, times, None))


class Student(nn.Module):
    """Says that all data is one point, `shift` beside the right one; what it says of clean data is of no account."""

    def __init__(self, schedule: Schedule, kind: Prediction, shift: float) -> None:
        super().__init__()
        self.schedule, self.kind = schedule, kind
        self.shift = nn.Parameter(torch.tensor(shift, dtype=torch.float64))

    def forward(self, x_t: Tensor, t: Tensor, cond: Any, w: Any) -> Tensor:
        x_0 = torch.full_like(x_t, cond) + self.shift * (1 + column(self.schedule.tau(t)))
        alpha, sigma = column(self.schedule.alpha(t)), column(self.schedule.sigma(t))
        eps = (x_t - alpha * x_0) / torch.where(sigma == 0, 1.0, sigma)
        return output_of(self.kind.name, x_0, eps, alpha, sigma)


class Pictures:
    """Noise and captions for a draw."""

    def draw_noise(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        return torch.randn(len(rows), 1, generator=generator, dtype=torch.float64)

    def draw_captions(self, rows: Tensor, generator: torch.Generator, empty: float) -> Tensor:
        return rows


OBJECTIVES: list[Objective] = [
    Consistency(w_range=(0.0, 0.0), k=100, substeps=2),
    Trajectory(w_range=(0.0, 0.0), k=100),
    Trajectory(w_range=(0.0, 0.0), k=50, t_m="log_uniform", phases=2),
    Phases(w_range=(0.0, 0.0), k=100),
    Path(w_range=(0.0, 0.0)),
    FineTuning(w_range=(0.0, 0.0)),
]


@every_process
@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: objective.name)
def test_every_objective_is_zero_for_what_is_right_and_only_for_it(
    schedule: Schedule, kind: Prediction, objective: Objective
) -> None:
    """One point of data, where every step is exact: with the times that the objective draws on this process itself."""
    drawn = objective.draw(torch.arange(400), Pictures(), schedule, torch.Generator().manual_seed(0))
    mu = torch.full((400, 1), 0.3, dtype=torch.float64)
    words: Any = Words(0.3)

    def loss(shift: float) -> tuple[float, Student]:
        student = Student(schedule, kind, shift)
        networks = Networks(Denoiser(student, schedule, kind), schedule, None, GaussianWorld(schedule, s=0.0).denoise)
        result = objective.loss(networks, Batch(mu, drawn.noise, drawn.times, words, words, drawn.w, drawn.u))
        result.loss.backward()
        assert bool(((result.t > schedule.clean) & (result.t <= schedule.last)).all())
        return float(result.loss.detach()), student

    assert loss(0.0)[0] < 1e-9
    value, student = loss(0.5)
    assert value > 1e-6
    assert student.shift.grad is not None
    assert bool(student.shift.grad.isfinite())


class Words(float):
    """The mean as a condition, the same for all rows."""

    def repeat(self, n: int) -> Words:
        return self


@every_process
def test_where_trajectories_end_is_real_and_below_the_target(schedule: Schedule, kind: Prediction) -> None:
    for objective in (each for each in OBJECTIVES if isinstance(each, Trajectory)):
        drawn = objective.draw(torch.arange(2000), Pictures(), schedule, torch.Generator().manual_seed(0))
        times = objective.times(drawn, schedule)
        floor = objective.ends.floor(objective.grid(schedule), schedule)[drawn.times]
        assert bool(((floor <= times.t_m) & (times.t_m <= times.t_n) & (times.t_n < times.t)).all())
        assert bool((times.t_m[schedule.tau(times.t) > 0.9] <= times.t_n[schedule.tau(times.t) > 0.9]).all())
        assert len(times.t_m.unique()) > 500
        assert times.t_m.dtype == torch.float64


def test_walks_over_a_shifted_flow_lie_on_its_grid() -> None:
    """Four steps: 1, 38/50, 25/50, 13/50 of the way, as an LCM's; phases end and start at quarters of it."""
    flow = RectifiedFlow(3.0)
    shares = torch.tensor([50, 38, 25, 13]) / 50
    assert consistency_timesteps(flow, 4).tolist() == pytest.approx(flow.at(shares).tolist())
    assert phase_ends(flow, 2).tolist() == pytest.approx([0.0, 750.0])
    assert phased_timesteps(flow, 2, 2).tolist() == pytest.approx([1000.0, 750.0])
    assert ode_timesteps(flow, 4).tolist() == pytest.approx([1000.0, 900.0, 750.0, 500.0])
    assert ode_timesteps(flow, 4, 0.5).tolist() == pytest.approx([750.0, 500.0])
    with pytest.raises(ValueError, match="1 point or more; got 0"):
        ode_timesteps(flow, 0)


@every_process
def test_every_sampler_walks_a_profile_of_this_process(schedule: Schedule, kind: Prediction) -> None:
    """From pure noise to the one point of data there is, whatever the sampler."""
    world = GaussianWorld(schedule, s=0.0)
    for name, sampler in SAMPLERS.items():
        profiles = (SamplingProfile.default(each, schedule, kind) for each in KINDS)
        profile = next((each for each in profiles if sampler.accepts(each)), None)
        if profile is None:
            continue  # a flow's own, or a table's
        times = sampler.times(profile, 4)
        *_, end = sampler.walk(world.denoise, profile, draw(0), times, 0.3, None, lambda index: draw(index + 1))
        assert times[0] == schedule.last, name
        torch.testing.assert_close(end.x_t, torch.full_like(end.x_t, 0.3))
