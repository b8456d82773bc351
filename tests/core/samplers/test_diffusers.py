"""Step by step against diffusers' schedulers, on random network outputs, for every prediction type."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, LCMScheduler, UniPCMultistepScheduler
from torch import Tensor

from fewstep.core.consistency import ConsistencyFunction, boundary_scalings
from fewstep.core.denoise import Denoiser
from fewstep.core.prediction import PREDICTIONS
from fewstep.core.samplers.ddim import DDIM
from fewstep.core.samplers.dpmpp import DPMSolverPP2M
from fewstep.core.samplers.grids import SPACINGS, consistency_timesteps, ode_timesteps
from fewstep.core.samplers.lcm import sample_consistency
from fewstep.core.samplers.ode import sample_ode
from fewstep.core.samplers.unipc import UniPC
from fewstep.core.schedules import DiscreteSchedule

SD = DiscreteSchedule.from_betas()
SHAPE = (2, 4, 8, 8)
PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")  # that these schedulers know
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def randn(seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def random_denoiser(scheduler: Any, kind: str, dtype: torch.dtype = torch.float64) -> Denoiser:
    """A network whose output depends on the time alone, over the scheduler's own table."""
    schedule = DiscreteSchedule.from_alphas_cumprod(scheduler.alphas_cumprod)
    return Denoiser(lambda x_t, t, cond, w: randn(int(t[0]), dtype), schedule, PREDICTIONS[kind])


def follow(scheduler: Any, x_t: Tensor, **extra: Any) -> list[Tensor]:
    """The samples after each of diffusers' steps."""
    samples = []
    for t in scheduler.timesteps.tolist():
        x_t = scheduler.step(randn(t, x_t.dtype), t, x_t, **extra).prev_sample
        samples.append(x_t)
    return samples


def assert_same_path(ours: Any, theirs: Sequence[Tensor], tolerance: float) -> None:
    samples = [step.x_t for step in ours]
    assert len(samples) == len(theirs)
    for mine, other in zip(samples, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=tolerance, atol=tolerance * float(other.abs().max()))


def in_double(scheduler: Any) -> Any:
    """diffusers' scheduler with its own table in float64, so that only the formulae are compared."""
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    scheduler.final_alpha_cumprod = scheduler.final_alpha_cumprod.double()
    return scheduler


@pytest.mark.parametrize("kind", PREDICTION_TYPES)
@pytest.mark.parametrize(("steps", "strength"), [(1, 1.0), (2, 1.0), (4, 1.0), (8, 1.0), (50, 1.0), (4, 0.5), (3, 0.2)])
def test_lcm(steps: int, strength: float, kind: str) -> None:
    scheduler = in_double(LCMScheduler(**BETAS, prediction_type=kind))
    scheduler.set_timesteps(steps, strength=strength)
    theirs = follow(scheduler, randn(-1), generator=torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(5)
    denoise = random_denoiser(scheduler, kind)
    ours = sample_consistency(
        ConsistencyFunction(denoise),
        denoise.schedule,
        randn(-1),
        consistency_timesteps(SD, steps, strength),
        None,
        noise=lambda index: torch.randn(SHAPE, generator=generator, dtype=torch.float64),
    )
    assert_same_path(ours, theirs, 1e-9)


@pytest.mark.parametrize("kind", PREDICTION_TYPES)
def test_lcm_with_custom_times_and_scaling(kind: str) -> None:
    """DMD2's times, and a scaling of time at which c_skip matters."""
    times = [999, 749, 499, 249]
    scheduler = in_double(LCMScheduler(**BETAS, prediction_type=kind, timestep_scaling=0.001))
    scheduler.set_timesteps(timesteps=times)
    theirs = follow(scheduler, randn(-1), generator=torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(5)
    denoise = random_denoiser(scheduler, kind)
    f = ConsistencyFunction(denoise, partial(boundary_scalings, timestep_scaling=0.001))
    ours = sample_consistency(
        f,
        denoise.schedule,
        randn(-1),
        times,
        None,
        noise=lambda index: torch.randn(SHAPE, generator=generator, dtype=torch.float64),
    )
    assert_same_path(ours, theirs, 1e-9)


@pytest.mark.parametrize("kind", PREDICTION_TYPES)
@pytest.mark.parametrize("ends_clean", [True, False])
@pytest.mark.parametrize("spacing", ["trailing", "leading"])
@pytest.mark.parametrize("steps", [1, 4, 10, 50])
def test_ddim(steps: int, spacing: str, ends_clean: bool, kind: str) -> None:
    """diffusers steps by T // N and not to the next time of its list: they agree where N divides T."""
    scheduler = in_double(
        DDIMScheduler(
            **BETAS,
            prediction_type=kind,
            timestep_spacing=spacing,
            set_alpha_to_one=ends_clean,
            steps_offset=1,
            clip_sample=False,
        )
    )
    scheduler.set_timesteps(steps)
    theirs = follow(scheduler, randn(-1))
    denoise = random_denoiser(scheduler, kind)
    times = ode_timesteps(SD, steps, spacing=spacing, steps_offset=1)
    final = -1 if ends_clean else 0
    ours = sample_ode(DDIM(denoise.schedule), denoise, randn(-1), times, None, final_timestep=final)
    assert_same_path(ours, theirs, 1e-9)


@pytest.mark.parametrize("kind", PREDICTION_TYPES)
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("steps", [1, 2, 4, 10, 25])
def test_dpm_solver(steps: int, spacing: str, kind: str) -> None:
    """2M, dpmsolver++, midpoint, ending on clean data; diffusers computes in float32."""
    scheduler = DPMSolverMultistepScheduler(**BETAS, prediction_type=kind, timestep_spacing=spacing)
    scheduler.set_timesteps(steps)
    assert_dpm_solver(scheduler, kind, -1)
    if spacing == "trailing":
        assert scheduler.timesteps.tolist() == ode_timesteps(SD, steps).tolist()


@pytest.mark.parametrize("kind", PREDICTION_TYPES)
def test_dpm_solver_with_custom_times(kind: str) -> None:
    scheduler = DPMSolverMultistepScheduler(**BETAS, prediction_type=kind)
    scheduler.set_timesteps(timesteps=[999, 845, 730, 587, 443, 310, 193, 116, 53, 13])
    assert_dpm_solver(scheduler, kind, -1)


@pytest.mark.parametrize("kind", PREDICTION_TYPES)
@pytest.mark.parametrize("steps", [4, 20])
def test_dpm_solver_ending_at_the_first_time(steps: int, kind: str) -> None:
    """`final_sigmas_type="sigma_min"`. diffusers drops to first order there below 15 steps if not told otherwise."""
    scheduler = DPMSolverMultistepScheduler(
        **BETAS, prediction_type=kind, final_sigmas_type="sigma_min", lower_order_final=False
    )
    scheduler.set_timesteps(steps)
    assert_dpm_solver(scheduler, kind, 0)


def assert_dpm_solver(scheduler: DPMSolverMultistepScheduler, kind: str, final: int) -> None:
    theirs = follow(scheduler, randn(-1, torch.float32))
    denoise = random_denoiser(scheduler, kind, torch.float32)
    solver = DPMSolverPP2M(denoise.schedule)
    x_T = randn(-1, torch.float32)
    ours = sample_ode(solver, denoise, x_T, scheduler.timesteps, None, final_timestep=final)
    assert_same_path(ours, theirs, 1e-4)


@pytest.mark.parametrize("kind", PREDICTION_TYPES)
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 10, 25])
def test_unipc(steps: int, spacing: str, kind: str) -> None:
    """Order 2, bh2, with the corrector at every step; diffusers computes in float32."""
    scheduler = UniPCMultistepScheduler(**BETAS, prediction_type=kind, timestep_spacing=spacing)
    scheduler.set_timesteps(steps)
    theirs = follow(scheduler, randn(-1, torch.float32))
    denoise = random_denoiser(scheduler, kind, torch.float32)
    ours = sample_ode(UniPC(denoise.schedule), denoise, randn(-1, torch.float32), scheduler.timesteps, None)
    assert_same_path(ours, theirs, 2e-4)


def test_noise_is_added_as_diffusers_does() -> None:
    scheduler = in_double(LCMScheduler(**BETAS))
    times = torch.tensor([19, 999])
    theirs = scheduler.add_noise(randn(1), randn(2), times)
    schedule = DiscreteSchedule.from_alphas_cumprod(scheduler.alphas_cumprod)
    torch.testing.assert_close(schedule.add_noise(randn(1), randn(2), times), theirs, rtol=1e-12, atol=1e-12)
