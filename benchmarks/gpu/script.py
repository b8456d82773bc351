"""The arithmetic of a step of diffusers' train_lcm_distill_sd_wds.py and train_lcm_distill_lora_sd_wds.py.

As they run by default, in bfloat16: pictures and captions are encoded at every step, the student, the teacher and the
target are float32 networks under autocast, the teacher is called twice, and of the whole network a second copy, the
target, is averaged. Data loading and logging, which take time there too, are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.gpu.models import SCHEDULER, W_DIM, prompts, randomised, tokenizer
from fewstep.core.guidance import w_embedding
from fewstep.models.families.unet import UNetFamily
from fewstep.models.profile import schedule_of
from fewstep.train.config import LCM_TARGETS

PRECISION = torch.bfloat16
GRID, SKIP = 50, 20
HUBER = 1e-3
EMA_DECAY = 0.95
TIMESTEP_SCALING = 10.0


@dataclass(frozen=True, eq=False)
class Script:
    """target: the averaged copy, or for a LoRA the student itself."""

    unet: Any
    target: Any
    teacher: Any
    autoencoder: Any
    text_encoder: Any
    tokenizer: Any
    optimizer: torch.optim.Optimizer
    guidance: tuple[float, float]

    @classmethod
    def made(cls, shape: UNetFamily, device: str, rank: int | None, guidance: tuple[float, float]) -> Script:
        """With random weights; `rank` of the LoRA, None to train the whole network."""
        torch.manual_seed(0)
        unet, teacher = (randomised(shape.blank("unet"), device, torch.float32) for _ in range(2))
        if rank is None:
            target = randomised(shape.blank("unet"), device, torch.float32)
            unet.requires_grad_(True)
        else:
            from peft import LoraConfig, inject_adapter_in_model

            unet = target = inject_adapter_in_model(LoraConfig(r=rank, target_modules=list(LCM_TARGETS)), unet)
        weights = [weight for weight in unet.parameters() if weight.requires_grad]
        return cls(
            unet=unet.train(),
            target=target,
            teacher=teacher,
            autoencoder=randomised(shape.blank("vae"), device, PRECISION),
            text_encoder=randomised(shape.blank("text_encoder"), device, PRECISION),
            tokenizer=tokenizer(),
            optimizer=torch.optim.AdamW(weights, 1e-5),
            guidance=guidance,
        )

    @property
    def latents(self) -> int:
        return int(self.unet.config.sample_size)

    def step(self, pixels: Tensor) -> float:
        """One step on pictures (B, 3, H, W) in [-1, 1]; returns the loss."""
        device, count = pixels.device, len(pixels)
        alphas, sigmas = _schedule(device)
        with torch.no_grad():
            words, empty = self._words(prompts(count), device), self._words([""] * count, device)
            x_0 = self.autoencoder.encode(pixels.to(PRECISION)).latent_dist.sample()
            x_0 = x_0 * self.autoencoder.config.scaling_factor
        index = torch.randint(0, GRID, (count,), device=device)
        t = (index + 1) * (len(alphas) // GRID) - 1
        s = (t - SKIP).clamp(min=0)
        noisy = _wide(alphas[t]) * x_0 + _wide(sigmas[t]) * torch.randn_like(x_0)
        low, high = self.guidance
        w = (low + (high - low) * torch.rand(count)).to(device)
        told = w_embedding(w, W_DIM).to(PRECISION) if self.unet.config.time_cond_proj_dim else None
        with torch.autocast(device.type, PRECISION):
            answer = self.unet(noisy, t, encoder_hidden_states=words.float(), timestep_cond=told).sample
        predicted = _consistent(answer, noisy, t, alphas, sigmas)
        with torch.no_grad(), torch.autocast(device.type, PRECISION):
            guided = [
                self.teacher(noisy.to(PRECISION), t, encoder_hidden_states=states).sample for states in (words, empty)
            ]
            clean = [(noisy - _wide(sigmas[t]) * each) / _wide(alphas[t]) for each in guided]
            x_hat, noise = (c + _wide(w) * (c - u) for c, u in (clean, guided))
            x_s = _wide(alphas[s]) * x_hat + _wide(sigmas[s]) * noise
            there = self.target(x_s.float(), s, encoder_hidden_states=words.float(), timestep_cond=told).sample
            target = _consistent(there, x_s, s, alphas, sigmas)
        loss = (((predicted.float() - target.float()) ** 2 + HUBER**2).sqrt() - HUBER).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(self.unet.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.target is not self.unet:
            self._average()
        return float(loss.detach())

    @torch.no_grad()
    def _average(self) -> None:
        for average, weight in zip(self.target.parameters(), self.unet.parameters(), strict=True):
            average.mul_(EMA_DECAY).add_(weight, alpha=1 - EMA_DECAY)

    def _words(self, texts: list[str], device: torch.device) -> Tensor:
        ids = self.tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
        states: Tensor = self.text_encoder(ids.to(device))[0]
        return states


def _schedule(device: torch.device) -> tuple[Tensor, Tensor]:
    """(alpha_t, sigma_t) for all times."""
    schedule = schedule_of(SCHEDULER)
    times = torch.arange(schedule.num_train_timesteps)
    return schedule.alpha(times).float().to(device), schedule.sigma(times).float().to(device)


def _consistent(noise: Tensor, x_t: Tensor, t: Tensor, alphas: Tensor, sigmas: Tensor) -> Tensor:
    """c_skip x_t + c_out x_0, with LCM's boundary scalings."""
    scaled = TIMESTEP_SCALING * t
    c_skip, c_out = 0.25 / (scaled**2 + 0.25), scaled / (scaled**2 + 0.25) ** 0.5
    clean = (x_t - _wide(sigmas[t]) * noise) / _wide(alphas[t])
    return _wide(c_skip) * x_t + _wide(c_out) * clean


def _wide(values: Tensor) -> Tensor:
    return values.reshape(-1, 1, 1, 1)
