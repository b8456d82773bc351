"""The objectives of the loop: they draw times, noise, captions and w, and hand them to the losses of `core`."""

from __future__ import annotations

import torch
from torch import Tensor

from fewstep.core.consistency import ConsistencyFunction
from fewstep.core.losses import METRICS, consistency_distillation_loss, diffusion_loss
from fewstep.core.prediction import Denoiser
from fewstep.core.schedule import training_grid
from fewstep.core.solvers import DDIM
from fewstep.data.latents import LatentCache
from fewstep.models.conditioning import Conditioning


class Diffusion:
    """A teacher's objective: denoise at uniformly drawn times; `empty` of the captions are dropped, for guidance."""

    def __init__(self, denoiser: Denoiser, cache: LatentCache, *, empty: float = 0.1, device: str = "cpu") -> None:
        self.denoiser, self.cache, self.empty, self.device = denoiser, cache, empty, device

    def __call__(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        x_0 = self.cache.latents[rows]
        t = torch.randint(self.denoiser.schedule.num_train_timesteps, (len(rows),), generator=generator)
        noise = torch.randn(x_0.shape, generator=generator)
        states = self.cache.states[self.cache.draw_captions(rows, generator, self.empty)]
        cond = Conditioning(states.to(self.device).float())
        result = diffusion_loss(self.denoiser, x_0.to(self.device), noise.to(self.device), t.to(self.device), cond)
        return {"loss": result.loss, **_by_time(result.per_sample.detach().cpu(), t)}


class Distillation:
    """Latent consistency distillation (LCM, Algorithm 1), target = the student itself without gradient.

    w_range  w ~ U[w_range], in LCM's form (guidance_scale - 1); embedded by the student, obeyed by the teacher
    empty    share of empty captions, so that the student also knows the unconditional picture
    """

    def __init__(
        self,
        f: ConsistencyFunction,
        teacher: Denoiser,
        cache: LatentCache,
        *,
        w_range: tuple[float, float],
        metric: str = "huber",
        original_inference_steps: int = 50,
        empty: float = 0.05,
        device: str = "cpu",
    ) -> None:
        self.f, self.teacher, self.cache = f, teacher, cache
        self.w_range, self.metric, self.empty, self.device = w_range, METRICS[metric], empty, device
        self.schedule = teacher.schedule
        self.k = self.schedule.num_train_timesteps // original_inference_steps
        self.grid = training_grid(self.schedule.num_train_timesteps, original_inference_steps)
        self.uncond = Conditioning(cache.states[:1].to(device).float())

    def __call__(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        x_0 = self.cache.latents[rows]
        low, high = self.w_range
        w = low + (high - low) * torch.rand(len(rows), generator=generator)
        indices = torch.randint(len(self.grid), (len(rows),), generator=generator)
        noise = torch.randn(x_0.shape, generator=generator)
        states = self.cache.states[self.cache.draw_captions(rows, generator, self.empty)]
        result = consistency_distillation_loss(
            self.f,
            self.f,
            self.teacher,
            DDIM(self.schedule),
            self.schedule,
            self.grid,
            self.k,
            x_0.to(self.device),
            noise.to(self.device),
            indices.to(self.device),
            Conditioning(states.to(self.device).float()),
            self.uncond.expand(len(rows)),
            w.to(self.device),
            metric=self.metric,
        )
        times = self.grid[indices]
        return {"loss": result.loss, **_by_time(result.per_sample.detach().cpu(), times)}


def _by_time(per_sample: Tensor, t: Tensor, bins: int = 4, total: int = 1000) -> dict[str, Tensor]:
    """The mean loss in each quarter of the noise scale; NaN-free: an empty quarter repeats the batch's mean."""
    quarter = t * bins // total
    means = [per_sample[quarter == i] for i in range(bins)]
    return {f"loss_q{i + 1}": (m.mean() if len(m) else per_sample.mean()) for i, m in enumerate(means)}
