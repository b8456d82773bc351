"""What a run can measure of itself without further data: how far its jumps end from where the teacher's paths do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fewstep.core.denoise import Denoise
from fewstep.core.guidance import ClassifierFreeGuidance, EmbeddedGuidance
from fewstep.core.noise import PictureNoise
from fewstep.core.samplers.dpmpp import DPMSolverPP2M
from fewstep.core.samplers.grids import ode_timesteps
from fewstep.core.samplers.ode import sample_ode
from fewstep.models.conditioning import Conditioning
from fewstep.models.latent_model import LatentModel

PATH_STEPS = 20  # of DPM-Solver++(2M)


class TeacherGap:
    """`teacher_gap`: the distance between one step of the student and the end of the teacher's guided path from the
    same noise, relative to the distance of that end from the mean of all ends. It is what distillation is to make
    zero; a student that gives the mean of all pictures has 1.

    teacher  as it was before training; w in LCM's form is the guidance of both
    reads_w  whether w is an input of the teacher's network
    """

    name = "teacher_gap"

    def __init__(
        self,
        teacher: Denoise[Conditioning],
        model: LatentModel,
        prompts: Sequence[str],
        w: float,
        seed: int = 0,
        *,
        reads_w: bool = False,
    ) -> None:
        self.prompts, self.w, self.reads_w = prompts, w, reads_w
        height, width = model.traits.default_size
        self.size = (height, width)
        self.x_T = PictureNoise(range(seed, seed + len(prompts))).draw(model.traits.latent_shape(height, width))
        self.x_T = self.x_T.to(model.device)
        self.teacher = teacher
        self.ends: Tensor | None = None

    @torch.no_grad()
    def __call__(self, model: LatentModel) -> Mapping[str, float]:
        cond = model.conditioned(model.encode_text(self.prompts), *self.size)
        if self.ends is None:
            self.ends = self._paths(model, cond)
        last = model.profile.schedule.last
        w = torch.full((len(self.prompts),), self.w, device=model.device)
        denoise: Denoise[Conditioning] = model.denoise
        if not model.profile.guidance.embedded and model.profile.guidance.w_range == (0.0, 0.0) and self.w:
            denoise = ClassifierFreeGuidance(denoise, self._uncond(model), self.w)
        jumps = denoise(self.x_T, last, cond, w if model.profile.guidance.embedded else None)
        spread = (self.ends - self.ends.mean(0)).square().mean()
        return {self.name: float(((jumps - self.ends).square().mean() / spread).sqrt())}

    def _paths(self, model: LatentModel, cond: Conditioning) -> Tensor:
        guided: Denoise[Conditioning] = (
            EmbeddedGuidance(self.teacher, self.w)
            if self.reads_w
            else ClassifierFreeGuidance(self.teacher, self._uncond(model), self.w)
        )
        schedule = model.profile.for_size(model.traits.tokens(*self.size)).schedule
        times = ode_timesteps(schedule, PATH_STEPS)
        *_, last = sample_ode(DPMSolverPP2M(schedule), guided, self.x_T, times, cond)
        return last.x_t

    def _uncond(self, model: LatentModel) -> Conditioning:
        return model.conditioned(model.encode_negative(""), *self.size).expand(len(self.prompts))
