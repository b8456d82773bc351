"""Walks of diffusers' flow schedulers over random network outputs, to hold ours against."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from fewstep.core.denoise import Denoiser
from fewstep.core.prediction import Flow
from fewstep.core.profile import SamplingProfile
from fewstep.core.samplers import SAMPLERS
from fewstep.core.samplers.base import Step
from fewstep.models.profile import profile_of

SHAPE = (2, 4, 8, 8)
CASES = [(steps, strength) for strength in (1.0, 0.6, 0.3) for steps in (1, 2, 4, 8, 16)]


def randn(seed: int) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def profile(scheduler: Any, tokens: int = 1024) -> SamplingProfile:
    config = {**scheduler.config, "_class_name": type(scheduler).__name__}
    return profile_of(config, embedded=False).for_size(tokens)


def follow(scheduler: Any, strength: float, **extra: Any) -> tuple[list[float], list[Tensor]]:
    """The times and samples of diffusers' steps; strength as in its pipelines (SD3's `get_timesteps`)."""
    num = scheduler.num_inference_steps
    start = int(max(num - min(num * strength, num), 0))
    scheduler.set_begin_index(start)
    x_t, samples, times = randn(-1), [], scheduler.timesteps[start:]
    for index, t in enumerate(times):
        x_t = scheduler.step(randn(index), t, x_t, **extra).prev_sample
        samples.append(x_t)
    return times.tolist(), samples


def walk(profile: SamplingProfile, name: str, steps: int, strength: float) -> tuple[list[float], list[Step]]:
    """Ours, with the noise that diffusers draws from the seed 5."""
    outputs = iter(range(steps))
    denoise: Denoiser[Any] = Denoiser(lambda *_: randn(next(outputs)), profile.schedule, Flow())
    generator = torch.Generator().manual_seed(5)
    sampler = SAMPLERS[name]
    assert sampler.accepts(profile)
    times = sampler.times(profile, steps, strength)
    path = sampler.walk(
        denoise, profile, randn(-1), times, None, None, lambda _: torch.randn(SHAPE, generator=generator)
    )
    return times.tolist(), list(path)


def assert_same(ours: tuple[list[float], Iterable[Step]], theirs: tuple[list[float], list[Tensor]]) -> None:
    """In float32, as diffusers computes."""
    torch.testing.assert_close(torch.tensor(ours[0]), torch.tensor(theirs[0]), rtol=1e-6, atol=1e-3)
    samples = [step.x_t for step in ours[1]]
    assert len(samples) == len(theirs[1])
    for mine, other in zip(samples, theirs[1], strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=2e-5)
