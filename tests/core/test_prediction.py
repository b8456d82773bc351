"""Conversions between eps, v and x_0, and the denoiser made of a network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fewstep.core.prediction import (
    PREDICTION_TYPES,
    Denoiser,
    predict_eps,
    predict_v,
    predict_x0,
    training_target,
)
from fewstep.core.schedule import CLEAN, Schedule
from oracle import GaussianWorld, output_from_x0

SD = Schedule.from_betas()
SCHEDULES = {
    "SD": SD,
    "flow matching": Schedule.from_functions(lambda tau: 1 - 0.999 * tau, lambda tau: tau),
}
numbers = st.floats(-5, 5)
times = st.integers(0, 999)


def scalar(value: float) -> Tensor:
    return torch.tensor([[value]], dtype=torch.float64)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@given(x_0=numbers, noise=numbers, t=times)
def test_each_kind_means_the_same_x0_eps_and_v(schedule: Schedule, x_0: float, noise: float, t: int) -> None:
    """From x_t = alpha x_0 + sigma eps and v = alpha eps - sigma x_0, written out here."""
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    x_t = alpha * scalar(x_0) + sigma * scalar(noise)
    v = alpha * scalar(noise) - sigma * scalar(x_0)
    for kind, output in {"epsilon": scalar(noise), "v_prediction": v, "sample": scalar(x_0)}.items():
        known = (kind, output, x_t, alpha, sigma)
        torch.testing.assert_close(predict_x0(*known), scalar(x_0), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(predict_eps(*known), scalar(noise), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(predict_v(*known), v, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(training_target(kind, scalar(x_0), scalar(noise), alpha, sigma), output)


@pytest.mark.parametrize("kind", PREDICTION_TYPES)
@given(output=numbers, x_t=numbers, t=times)
def test_round_trips(kind: str, output: float, x_t: float, t: int) -> None:
    known = (scalar(x_t), SD.alpha(t), SD.sigma(t))
    x_0 = predict_x0(kind, scalar(output), *known)
    torch.testing.assert_close(output_from_x0(kind, x_0, *known), scalar(output), rtol=1e-9, atol=1e-9)
    for other in PREDICTION_TYPES:
        said = output_from_x0(other, x_0, *known)
        torch.testing.assert_close(predict_x0(other, said, *known), x_0, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", PREDICTION_TYPES)
def test_a_denoiser_of_any_kind_denoises_alike(kind: str) -> None:
    """One estimate of x_0, spoken in three ways; a time per sample or one for all."""
    world, x_t = GaussianWorld(SD), torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]

    def network(x_t: Tensor, t: Tensor, cond: Any, w: Tensor | None) -> Tensor:
        return output_from_x0(kind, world.denoise(x_t, t, cond), x_t, SD.alpha(t), SD.sigma(t))

    denoise = Denoiser(network, SD, kind)
    for t in (700, torch.tensor([0, 19, 400, 800, 999])):
        torch.testing.assert_close(denoise(x_t, t, 0.5), world.denoise(x_t, t, 0.5))


def test_the_network_gets_one_time_and_one_w_per_sample() -> None:
    seen: list[Any] = []

    def network(x_t: Tensor, t: Tensor, cond: Any, w: Tensor | None) -> Tensor:
        seen.append((t, cond, w))
        return x_t

    denoise, x_t = Denoiser(network, SD, "sample"), torch.zeros(3, 4, 2, 2)
    denoise(x_t, 19, "words", 7.5)
    denoise(x_t, torch.tensor([1, 2, 3]), None, torch.tensor([1.0, 2.0, 3.0]))
    denoise(x_t, torch.tensor(7), None)
    (t, cond, w), (times_, _, scales), (t_0, _, nothing) = seen
    assert (t.tolist(), t.dtype, cond) == ([19] * 3, torch.int64, "words")
    assert (w.tolist(), w.dtype) == ([7.5] * 3, torch.float32)
    assert (times_.tolist(), scales.tolist()) == ([1, 2, 3], [1.0, 2.0, 3.0])
    assert (t_0.tolist(), nothing) == ([7] * 3, None)


@pytest.mark.parametrize("kind", PREDICTION_TYPES)
def test_a_half_precision_network_gives_a_float32_estimate(kind: str) -> None:
    denoise = Denoiser(lambda x_t, t, cond, w: x_t.to(torch.bfloat16), SD, kind)
    assert denoise(torch.ones(2, 3), 19, None).dtype == torch.float32
    assert denoise(torch.ones(2, 3, dtype=torch.bfloat16), 19, None).dtype == torch.float32


def test_eps_at_zero_terminal_snr_is_refused_in_words() -> None:
    rescaled = Schedule.from_betas(rescale_zero_terminal_snr=True)
    x = torch.ones(1, 1)
    with pytest.raises(ValueError, match="epsilon prediction cannot recover x_0 where alpha is 0"):
        Denoiser(lambda x_t, t, cond, w: x_t, rescaled, "epsilon")
    with pytest.raises(ValueError, match="zero-terminal-SNR"):
        predict_x0("epsilon", x, x, rescaled.alpha(999), rescaled.sigma(999))
    for kind in ("v_prediction", "sample"):
        assert Denoiser(lambda x_t, t, cond, w: x_t, rescaled, kind)(x, 999, None).isfinite().all()


def test_eps_of_clean_data_is_refused_in_words() -> None:
    x = torch.ones(1, 1)
    with pytest.raises(ValueError, match="sigma is 0"):
        predict_eps("sample", x, x, SD.alpha(CLEAN), SD.sigma(CLEAN))


@pytest.mark.parametrize("call", [predict_x0, predict_eps, predict_v, training_target])
def test_an_unknown_kind_is_refused_in_words(call) -> None:
    x = torch.ones(1, 1)
    with pytest.raises(ValueError, match="'flow'; allowed are epsilon, v_prediction, sample"):
        call("flow", x, x, SD.alpha(5), SD.sigma(5))
    with pytest.raises(ValueError, match="'flow'"):
        Denoiser(lambda x_t, t, cond, w: x_t, SD, "flow")
