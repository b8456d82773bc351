"""Conversions between eps, v, x_0, flow and TrigFlow outputs, on every process."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fewstep.core.prediction import PREDICTIONS, Epsilon, Flow, Prediction, Sample, Trig, Velocity
from fewstep.core.schedule import Schedule
from fewstep.core.schedules import CLEAN, DiscreteSchedule, RectifiedFlow, TrigFlow
from oracle import output_from_x0, output_of

SD = DiscreteSchedule.from_betas()
SCHEDULES = {"SD": SD, "rectified flow": RectifiedFlow(), "TrigFlow": TrigFlow()}
numbers = st.floats(-5, 5)
shares = st.floats(0.02, 0.98)

every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
every_kind = pytest.mark.parametrize("kind", PREDICTIONS.values(), ids=PREDICTIONS)


def scalar(value: float) -> Tensor:
    return torch.tensor([[value]], dtype=torch.float64)


@every_schedule
@given(x_0=numbers, noise=numbers, share=shares)
def test_each_kind_means_the_same_x0_and_eps(schedule: Schedule, x_0: float, noise: float, share: float) -> None:
    """Outputs as the oracle spells them, from the papers: eps; alpha eps - sigma x_0; x_0; eps - x_0; the angle's."""
    t = schedule.at(share)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    x_t = alpha * scalar(x_0) + sigma * scalar(noise)
    for name, kind in PREDICTIONS.items():
        output = output_of(name, scalar(x_0), scalar(noise), alpha, sigma)
        torch.testing.assert_close(kind.x0(output, x_t, alpha, sigma), scalar(x_0), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(kind.eps(output, x_t, alpha, sigma), scalar(noise), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(kind.target(scalar(x_0), scalar(noise), alpha, sigma), output)


@every_schedule
@every_kind
@settings(max_examples=25)  # of each kind under each schedule
@given(output=numbers, x_t=numbers, share=shares)
def test_round_trips(kind: Prediction, schedule: Schedule, output: float, x_t: float, share: float) -> None:
    t = schedule.at(share)
    known = (scalar(x_t), schedule.alpha(t), schedule.sigma(t))
    x_0 = kind.x0(scalar(output), *known)
    for name, other in PREDICTIONS.items():
        said = kind.to(other, scalar(output), *known)
        torch.testing.assert_close(said, output_from_x0(name, x_0, *known), rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(other.to(kind, said, *known), scalar(output), rtol=1e-8, atol=1e-8)


@every_schedule
@every_kind
def test_float32_is_exact_to_1e_minus_5(kind: Prediction, schedule: Schedule) -> None:
    """The samples in float32, the coefficients finer: x_0 of 4,096 numbers at 25 times, one or per sample."""
    generator = torch.Generator().manual_seed(0)
    x_0, noise = (torch.randn(25, 4096, generator=generator) for _ in range(2))
    t = schedule.at(torch.linspace(0.04, 0.8, 25, dtype=torch.float64))
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    output = kind.target(x_0, noise, alpha, sigma)
    torch.testing.assert_close(
        kind.x0(output, schedule.add_noise(x_0, noise, t), alpha, sigma), x_0, rtol=1e-5, atol=1e-5
    )
    one = kind.x0(output[3:4], schedule.add_noise(x_0, noise, t)[3:4], alpha[3], sigma[3])
    torch.testing.assert_close(one, x_0[3:4], rtol=1e-5, atol=1e-5)


def test_the_numbers_of_each_kind() -> None:
    """alpha 0.8, sigma 0.6, x_0 = 2, eps = 1: x_t 2.2, v = 0.8 - 1.2, u = 1 - 2."""
    alpha, sigma, x_t = torch.tensor(0.8).double(), torch.tensor(0.6).double(), scalar(2.2)
    said = {Epsilon(): 1.0, Velocity(): -0.4, Sample(): 2.0, Flow(): -1.0, Trig(): -0.4, Trig(0.5): 0.8 - 4 * 1.2}
    for kind, output in said.items():
        assert float(kind.target(scalar(2.0), scalar(1.0), alpha, sigma)) == pytest.approx(output)
    for kind in (Epsilon(), Velocity(), Sample(), Flow(), Trig()):
        assert float(kind.x0(scalar(said[kind]), x_t, alpha, sigma)) == pytest.approx(2.0)
        assert float(kind.eps(scalar(said[kind]), x_t, alpha, sigma)) == pytest.approx(1.0)


@given(x_0=numbers, noise=numbers, share=st.floats(0.0, 1.0))
def test_trigflow_in_the_paper_s_words(x_0: float, noise: float, share: float) -> None:
    """x_t = cos(t) x_0 + sin(t) z with z ~ N(0, sigma_data^2), f = cos(t) x_t - sigma_data sin(t) F (2410.11081)."""
    sigma_data = 0.5
    schedule, kind = TrigFlow(sigma_data), Trig(sigma_data)
    t, z = float(schedule.at(share)), sigma_data * noise
    x_t = schedule.add_noise(scalar(x_0), scalar(noise), t)
    assert float(x_t) == pytest.approx(math.cos(t) * x_0 + math.sin(t) * z, abs=1e-12)
    output = kind.target(scalar(x_0), scalar(noise), schedule.alpha(t), schedule.sigma(t))
    velocity = math.cos(t) * z - math.sin(t) * x_0  # dx_t / dt = sigma_data F
    assert sigma_data * float(output) == pytest.approx(velocity, abs=1e-12)
    f = kind.x0(output, x_t, schedule.alpha(t), schedule.sigma(t))
    assert float(f) == pytest.approx(math.cos(t) * float(x_t) - sigma_data * math.sin(t) * float(output), abs=1e-12)
    assert float(f) == pytest.approx(x_0, abs=1e-12)


def test_trig_is_v_and_flow_is_a_velocity_along_a_straight_line() -> None:
    x_0, noise, t = torch.randn(5, 3).double(), torch.randn(5, 3).double(), torch.linspace(0.1, 1.4, 5).double()
    trig, flow = TrigFlow(), RectifiedFlow()
    weights = (trig.alpha(t), trig.sigma(t))
    torch.testing.assert_close(Trig().target(x_0, noise, *weights), Velocity().target(x_0, noise, *weights))
    later, earlier = (flow.add_noise(x_0, noise, time) for time in (700.0, 400.0))
    torch.testing.assert_close((later - earlier) / 0.3, Flow().target(x_0, noise, flow.alpha(500.0), flow.sigma(500.0)))


@pytest.mark.parametrize("kind", [Velocity(), Flow(), Trig()], ids=lambda kind: kind.name)
@every_schedule
def test_clean_data_is_its_own_x0(kind: Prediction, schedule: Schedule) -> None:
    """With sigma 0, x_0 = x_t whatever the network says: f needs no boundary scalings."""
    x, output = torch.randn(3, 2), torch.randn(3, 2)
    alpha, sigma = schedule.alpha(schedule.clean), schedule.sigma(schedule.clean)
    torch.testing.assert_close(kind.x0(output, x, alpha, sigma), x)


@every_kind
def test_half_precision_is_promoted(kind: Prediction) -> None:
    x = torch.ones(2, 3, dtype=torch.bfloat16)
    assert kind.x0(x, x, SD.alpha(19), SD.sigma(19)).dtype == torch.float32


def test_eps_at_pure_noise_is_refused_in_words() -> None:
    rescaled, x = DiscreteSchedule.from_betas(rescale_zero_terminal_snr=True), torch.ones(1, 1)
    for schedule in (rescaled, RectifiedFlow(), TrigFlow()):
        with pytest.raises(ValueError, match=r"cannot recover x_0 where alpha is 0.*zero-terminal-SNR"):
            Epsilon().x0(x, x, schedule.alpha(schedule.last), schedule.sigma(schedule.last))
        for kind in (Velocity(), Sample(), Flow(), Trig()):
            assert kind.x0(x, x, schedule.alpha(schedule.last), schedule.sigma(schedule.last)).isfinite().all()


def test_eps_of_clean_data_is_refused_in_words() -> None:
    x = torch.ones(1, 1)
    with pytest.raises(ValueError, match="sigma is 0"):
        Sample().eps(x, x, SD.alpha(CLEAN), SD.sigma(CLEAN))
