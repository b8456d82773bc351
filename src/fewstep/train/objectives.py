"""The objectives of the loop: they draw times, noise, captions and w, and hand them to the losses of `core`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from fewstep.core.consistency import ConsistencyFunction, TrajectoryFunction
from fewstep.core.denoise import Denoise, Denoiser
from fewstep.core.losses import (
    METRICS,
    Loss,
    consistency_distillation_loss,
    consistency_training_loss,
    diffusion_loss,
)
from fewstep.core.samplers import SOLVERS
from fewstep.core.samplers.grids import phase_ends, training_grid
from fewstep.core.schedule import Schedule
from fewstep.data.latents import LatentCache
from fewstep.models.conditioning import Conditioning


@dataclass(frozen=True, eq=False)
class Draw:
    """All that is random about a batch, on the CPU: drawn for the whole batch, and divided among processes afterwards.

    rows, captions  (B,) int64: the pictures, and the text states that were drawn for them
    times           (B,): t itself, or its place on the grid
    noise           (B, C, h, w) unit noise
    w               (B,) guidance in LCM's form
    share           (B,) in [0, 1): how far down from the target's time a trajectory ends (`trajectory_ends`)
    """

    rows: Tensor
    captions: Tensor
    times: Tensor
    noise: Tensor
    w: Tensor | None = None
    share: Tensor | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, part: slice) -> Draw:
        return Draw(**{name: tensor[part] for name, tensor in self.tensors().items()})

    def tensors(self) -> dict[str, Tensor]:
        fields = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        return {name: tensor for name, tensor in fields.items() if tensor is not None}


def draw_w(w_range: tuple[float, float], count: int, generator: torch.Generator) -> Tensor:
    """(count,) uniformly from the range."""
    low, high = w_range
    return low + (high - low) * torch.rand(count, generator=generator)


def trajectory_ends(law: str, t: Tensor, s: Tensor, floor: Tensor, share: Tensor, total: int) -> Tensor:
    """Where trajectories from t end that are held against a target at s: (B,) int64 in floor .. s.

    law    `uniform` or `walks` (`config.ConsistencyConfig.ends`)
    share  (B,) in [0, 1): uniform noise, 0 for the longest way of a uniform law and the shortest of the other
    total  the number of times, of which the last tenth counts as pure noise
    """
    if law == "uniform":
        return floor + (share * (s - floor + 1)).long()
    shortest, longest = (t - s).double().clamp(min=1), (t - floor).double()
    jump = (shortest * (longest / shortest) ** share.double()).round().long()
    return torch.where(t >= 0.9 * total, floor, (t - jump).clamp(min=floor, max=s))


def told_w(w_range: tuple[float, float], draw: Draw, device: torch.device | str) -> float | Tensor:
    """What was drawn, or the number 0 where there is no guidance, which spends no second call of the teacher."""
    assert draw.w is not None
    return 0.0 if w_range == (0.0, 0.0) else draw.w.to(device)


class Diffusion:
    """A teacher's objective: denoise at uniformly drawn times; `empty` of the captions are dropped, for guidance."""

    def __init__(
        self, denoiser: Denoiser, cache: LatentCache, *, empty: float = 0.1, device: torch.device | str = "cpu"
    ) -> None:
        self.denoiser, self.cache, self.empty, self.device = denoiser, cache, empty, device

    def __call__(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        return self.loss(self.draw(rows, generator))

    def draw(self, rows: Tensor, generator: torch.Generator) -> Draw:
        t = self.denoiser.schedule.draw_times(len(rows), generator)
        noise = self.cache.draw_noise(rows, generator)
        return Draw(rows, self.cache.draw_captions(rows, generator, self.empty), t, noise)

    def loss(self, draw: Draw) -> dict[str, Tensor]:
        x_0, noise, t = (x.to(self.device) for x in (self.cache.latents[draw.rows].float(), draw.noise, draw.times))
        cond = self.cache.conditioning(draw.captions, draw.rows, self.device)
        return scalars(diffusion_loss(self.denoiser, x_0, noise, t, cond), draw.times, self.denoiser.schedule)


@dataclass(frozen=True, eq=False)
class _Asked:
    """What the losses of `core` compare two answers on; the names are theirs."""

    schedule: Schedule
    grid: Tensor
    k: int
    x_0: Tensor
    noise: Tensor
    indices: Tensor
    cond: Conditioning
    w: float | Tensor
    floor: Tensor


class _Consistency:
    """What distillation and fine-tuning have in common: the grid, w, the phases, and where trajectories end."""

    def __init__(
        self,
        f: ConsistencyFunction,
        schedule: Schedule,
        cache: LatentCache,
        *,
        w_range: tuple[float, float],
        metric: str = "huber",
        original_inference_steps: int = 50,
        k: int | None = None,
        empty: float = 0.05,
        phases: int = 1,
        trajectory: bool = False,
        ends: str = "uniform",
        f_target: ConsistencyFunction | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.f, self.f_target, self.schedule, self.cache = f, f_target or f, schedule, cache
        self.w_range, self.metric, self.empty, self.device = w_range, METRICS[metric], empty, device
        self.phases, self.trajectory, self.ends = phases, trajectory, ends
        sizes = {"num_train_timesteps": schedule.num_train_timesteps}
        self.grid = training_grid(schedule.num_train_timesteps, original_inference_steps)
        self.k = k or schedule.num_train_timesteps // original_inference_steps
        floors = phase_ends(phases, original_inference_steps=original_inference_steps, **sizes)
        self.floor = floors[torch.searchsorted(floors, self.grid) - 1] if phases > 1 else torch.zeros_like(self.grid)

    @property
    def arrives(self) -> bool:
        """Whether every target is asked at the end of its phase, where the answer is the sample itself."""
        return self.k >= int((self.grid - self.floor).max())

    def __call__(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        return self.loss(self.draw(rows, generator))

    def draw(self, rows: Tensor, generator: torch.Generator) -> Draw:
        w = draw_w(self.w_range, len(rows), generator)
        indices = torch.randint(len(self.grid), (len(rows),), generator=generator)
        noise = self.cache.draw_noise(rows, generator)
        captions = self.cache.draw_captions(rows, generator, self.empty)
        share = torch.rand(len(rows), generator=generator) if self.trajectory else None
        return Draw(rows, captions, indices, noise, w, share)

    def loss(self, draw: Draw) -> dict[str, Tensor]:
        x_0, noise, indices = (
            x.to(self.device) for x in (self.cache.latents[draw.rows].float(), draw.noise, draw.times)
        )
        cond = self.cache.conditioning(draw.captions, draw.rows, self.device)
        floor = self.floor[draw.times]
        f = self._leading_to(self.f, draw, floor)
        f_target = _arrived if self.arrives else self._leading_to(self.f_target, draw, floor)
        w = told_w(self.w_range, draw, self.device)
        asked = _Asked(self.schedule, self.grid, self.k, x_0, noise, indices, cond, w, floor.to(self.device))
        return scalars(self._compare(f, f_target, asked), self.grid[draw.times], self.schedule)

    def _leading_to(self, f: ConsistencyFunction, draw: Draw, floor: Tensor) -> Denoise:
        """f itself, or for phases and trajectories the step along the same estimate to where each of them ends."""
        if self.phases == 1 and draw.share is None:
            return f
        end = floor
        if draw.share is not None:
            t = self.grid[draw.times]
            s, total = torch.maximum(t - self.k, floor), self.schedule.num_train_timesteps
            end = trajectory_ends(self.ends, t, s, floor, draw.share, total)
        return TrajectoryFunction(f.denoise, self.schedule, end.to(self.device))

    def _compare(self, f: Denoise, f_target: Denoise, asked: _Asked) -> Loss:
        raise NotImplementedError


def _arrived(x_t: Tensor, t: Any, cond: Any, w: Any = None) -> Tensor:
    return x_t


class Teacher(Denoise, Protocol):
    """A `Denoise` that knows its schedule."""

    @property
    def schedule(self) -> Schedule: ...


class Distillation(_Consistency):
    """Latent consistency distillation (LCM, Algorithm 1), target = the student itself without gradient.

    w_range   w ~ U[w_range], in LCM's form (guidance_scale - 1); embedded by the student, obeyed by the teacher
    empty     share of empty captions, so that the student also knows the unconditional picture
    k         the skipping interval; default: the grid's spacing
    solver, substeps  how the teacher goes from t to t - k
    phases, trajectory, ends  where the student's steps end (`config.ConsistencyConfig`)
    f_target  the target, where it is another than f
    """

    def __init__(
        self,
        f: ConsistencyFunction,
        teacher: Teacher,
        cache: LatentCache,
        *,
        solver: str = "ddim",
        substeps: int = 1,
        **options: Any,
    ) -> None:
        super().__init__(f, teacher.schedule, cache, **options)
        self.teacher, self.solver, self.substeps = teacher, SOLVERS[solver](teacher.schedule), substeps

    def _compare(self, f: Denoise, f_target: Denoise, asked: _Asked) -> Loss:
        return consistency_distillation_loss(
            f,
            f_target,
            self.teacher,
            self.solver,
            **vars(asked),
            uncond=self.cache.unconditional(asked.cond),
            metric=self.metric,
            substeps=self.substeps,
        )


class FineTuning(_Consistency):
    """Latent consistency fine-tuning (LCM, Algorithm 4): the same noise at both times takes the teacher's place.

    guidance  what w did in the model as it was: the picture is moved by it (`core.losses`). Without it nothing obeys w,
              which is still drawn and told
    The rest as for `Distillation`.
    """

    def __init__(
        self,
        f: ConsistencyFunction,
        schedule: Schedule,
        cache: LatentCache,
        *,
        guidance: Denoise | None = None,
        **options: Any,
    ) -> None:
        super().__init__(f, schedule, cache, **options)
        self.guidance = guidance

    def _compare(self, f: Denoise, f_target: Denoise, asked: _Asked) -> Loss:
        return consistency_training_loss(f, f_target, **vars(asked), metric=self.metric, guidance=self.guidance)


def scalars(result: Loss, t: Tensor, schedule: Schedule) -> dict[str, Tensor]:
    """What a step reports: the loss, and its mean in each quarter of the noise scale."""
    by_time = _by_time(result.per_sample.detach().cpu(), t, total=schedule.num_train_timesteps)
    return {"loss": result.loss, **by_time}


def _by_time(per_sample: Tensor, t: Tensor, bins: int = 4, total: int = 1000) -> dict[str, Tensor]:
    """The mean loss in each quarter of the noise scale; NaN-free: an empty quarter repeats the batch's mean."""
    quarter = t * bins // total
    means = [per_sample[quarter == i] for i in range(bins)]
    return {f"loss_q{i + 1}": (m.mean() if len(m) else per_sample.mean()) for i, m in enumerate(means)}
