"""The denoiser made of a network, and a network of one process seen from another."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from fewstep.core.denoise import Denoiser, Reparametrised
from fewstep.core.prediction import PREDICTIONS, Epsilon, Flow, Prediction, Sample, Trig, Velocity
from fewstep.core.schedule import Schedule
from fewstep.core.schedules import DiscreteSchedule, RectifiedFlow, TrigFlow
from oracle import GaussianWorld, MixtureWorld, output_from_x0

SD = DiscreteSchedule.from_betas()
every_kind = pytest.mark.parametrize("kind", PREDICTIONS.values(), ids=PREDICTIONS)


@every_kind
def test_a_denoiser_of_any_kind_denoises_alike(kind: Prediction) -> None:
    """One estimate of x_0, spoken in five ways; a time per sample or one for all."""
    world, x_t = GaussianWorld(SD), torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]

    def network(x_t: Tensor, t: Tensor, cond: Any, w: Tensor | None) -> Tensor:
        return output_from_x0(kind.name, world.denoise(x_t, t, cond), x_t, SD.alpha(t), SD.sigma(t))

    denoise = Denoiser(network, SD, kind)
    for t in (700, torch.tensor([0, 19, 400, 800, 999])):
        torch.testing.assert_close(denoise(x_t, t, 0.5), world.denoise(x_t, t, 0.5))


def test_the_network_gets_one_time_and_one_w_per_sample() -> None:
    seen: list[Any] = []

    def network(x_t: Tensor, t: Tensor, cond: Any, w: Tensor | None) -> Tensor:
        seen.append((t, cond, w))
        return x_t

    denoise, x_t = Denoiser(network, SD, Sample()), torch.zeros(3, 4, 2, 2)
    denoise(x_t, 19, "words", 7.5)
    denoise(x_t, torch.tensor([1, 2, 3]), None, torch.tensor([1.0, 2.0, 3.0]))
    denoise(x_t, torch.tensor(7), None)
    (t, cond, w), (times_, _, scales), (t_0, _, nothing) = seen
    assert (t.tolist(), t.dtype, cond) == ([19] * 3, torch.int64, "words")
    assert (w.tolist(), w.dtype) == ([7.5] * 3, torch.float32)
    assert (times_.tolist(), scales.tolist()) == ([1, 2, 3], [1.0, 2.0, 3.0])
    assert (t_0.tolist(), nothing) == ([7] * 3, None)


@every_kind
def test_a_half_precision_network_gives_a_float32_estimate(kind: Prediction) -> None:
    denoise = Denoiser(lambda x_t, t, cond, w: x_t.to(torch.bfloat16), SD, kind)
    assert denoise(torch.ones(2, 3), 19, None).dtype == torch.float32
    assert denoise(torch.ones(2, 3, dtype=torch.bfloat16), 19, None).dtype == torch.float32


def test_eps_at_zero_terminal_snr_is_refused_in_words() -> None:
    rescaled = DiscreteSchedule.from_betas(rescale_zero_terminal_snr=True)
    x = torch.ones(1, 1)
    with pytest.raises(ValueError, match="epsilon prediction cannot recover x_0 where alpha is 0"):
        Denoiser(lambda x_t, t, cond, w: x_t, rescaled, Epsilon())
    for kind in (Velocity(), Sample()):
        assert Denoiser(lambda x_t, t, cond, w: x_t, rescaled, kind)(x, 999, None).isfinite().all()


@every_kind
@pytest.mark.parametrize("schedule", [RectifiedFlow(), TrigFlow()], ids=["rectified flow", "TrigFlow"])
def test_real_times_reach_the_network_and_the_coefficients(schedule: Schedule, kind: Prediction) -> None:
    """Numbers, and one per sample; below the last time, where eps says nothing."""
    world, x_t = GaussianWorld(schedule), torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
    seen: list[Tensor] = []

    def network(x_t: Tensor, t: Tensor, cond: Any, w: Tensor | None) -> Tensor:
        seen.append(t)
        return output_from_x0(kind.name, world.denoise(x_t, t, cond), x_t, schedule.alpha(t), schedule.sigma(t))

    denoise = object.__new__(Denoiser)  # eps too, which `Denoiser` refuses for the sake of the last time
    denoise.__dict__.update(network=network, schedule=schedule, prediction=kind)
    for t in (0.3 * schedule.last, schedule.last * torch.tensor([0.1, 0.2, 0.5, 0.8, 0.99], dtype=torch.float64)):
        torch.testing.assert_close(denoise(x_t, t, 0.5), world.denoise(x_t, t, 0.5))
    assert seen[0].tolist() == [0.3 * schedule.last] * 5
    assert seen[1].dtype == torch.float64


@pytest.mark.parametrize("own", [RectifiedFlow(), TrigFlow(), TrigFlow(0.5), SD], ids=["flow", "Trig", "Trig .5", "SD"])
@pytest.mark.parametrize("asked", [RectifiedFlow(), TrigFlow(), TrigFlow(0.5)], ids=["flow", "Trig", "Trig .5"])
def test_the_exact_denoiser_of_one_process_is_that_of_another(own: Schedule, asked: Schedule) -> None:
    """E[x_0 | x_t] depends on the process by its log-SNR and scale alone. SD's table stops short of pure noise."""
    there, here = MixtureWorld(own), MixtureWorld(asked)
    x_t = torch.linspace(-2, 2, 33, dtype=torch.float64)[:, None]
    denoise = Reparametrised(there.denoise, own, asked)
    for share in (0.1, 0.37, 0.8):
        t = float(asked.at(share))
        torch.testing.assert_close(denoise(x_t, t, None), here.denoise(x_t, t))
    t = asked.at(torch.linspace(0.1, 0.8, 33, dtype=torch.float64))
    torch.testing.assert_close(denoise(x_t, t, None), here.denoise(x_t, t))


def test_a_flow_seen_from_trigflow_is_what_sana_sprint_computes() -> None:
    """The conversion that diffusers' SanaSprintPipeline writes around its network (2503.09641, eq. 5), written out."""
    x_t, output = (torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(i)).double() for i in (0, 1))
    asked: list[tuple[Tensor, Tensor]] = []

    def network(z: Tensor, t: Tensor, cond: Any, w: Tensor | None) -> Tensor:
        asked.append((z, t))
        return output

    flow, trig = RectifiedFlow(time_scale=1), TrigFlow()
    for t in (math.pi / 2, 1.3, 0.2):
        x_0 = Reparametrised(Denoiser(network, flow, Flow()), flow, trig)(x_t, t, None)
        s = math.sin(t) / (math.cos(t) + math.sin(t))
        norm = math.sqrt(s**2 + (1 - s) ** 2)
        z = x_t * norm
        said = ((1 - 2 * s) * z + (1 - 2 * s + 2 * s**2) * output) / norm
        torch.testing.assert_close(asked[-1][0], z)
        torch.testing.assert_close(asked[-1][1], torch.full((2,), s, dtype=torch.float64))
        torch.testing.assert_close(x_0, math.cos(t) * x_t - math.sin(t) * said)
        torch.testing.assert_close(x_0, Trig().x0(said, x_t, trig.alpha(t), trig.sigma(t)))
