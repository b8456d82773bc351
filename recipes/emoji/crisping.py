"""The decoder alone goes on, for edges that are crisp: a critic shall see in its pictures what it sees in real ones.

The encoder is frozen, so no latent changes. The critic learns beside the decoder to tell decoded from real pictures, by
the hinge loss, in patches (PatchGAN: Isola et al. 2017, 1611.07004). The decoder is asked for three things: the old
distance to the picture; the same features in every layer of the critic (a learned similarity: Larsen et al. 2016,
1512.09300); and to pass for real. The features are the critic's own, not those of the eye that evaluations look with:
an eye that a generator has learnt from cannot judge it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from fewstep.train.config import FitConfig
from recipes.emoji.autoencoder import LATENT_NOISE, mode
from recipes.emoji.channels_last_norm import use_channels_last_norms
from recipes.emoji.compositions import Composition
from recipes.emoji.pool import Pool
from recipes.emoji.sharpening import as_input, ladder

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

WIDTHS = (3, 24, 48, 96)
FEATURES = 0.5  # share of the reconstruction's gradient at the picture that the critic's features have
ADVERSARIAL = 0.1  # and the wish to pass for real
TINY = 1e-12
CONFIG = FitConfig(
    pictures=60_000,
    batch_size=32,
    lr=0.002,
    adam_lr=3e-4,
    warmup=2_000,
    cooldown=0.3,
    ema_halflife=4_000,
    precision="bfloat16",
)


class Critic(nn.Module):
    """Patches of a picture (B, 3, H, W) in [-1, 1]: the maps of three layers, and logits (B, 1, H / 8, W / 8), above
    zero for real ones. The last layer begins at zero: a critic that has learnt nothing yet asks for nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 4, stride=2, padding=1), nn.GroupNorm(8, b), nn.LeakyReLU(0.2))
            for a, b in itertools.pairwise(WIDTHS)
        )
        self.last = nn.Conv2d(WIDTHS[-1], 1, 3, padding=1)
        for weight in self.last.parameters():
            nn.init.zeros_(weight)

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        maps = []
        for layer in self.layers:
            x = layer(x)
            maps.append(x)
        return maps, self.last(x)


def learners(vae: AutoencoderKL, critic: Critic) -> nn.Module:
    """What descends: the autoencoder's decoder, with its encoder frozen, and the critic."""
    vae.requires_grad_(False)
    return nn.ModuleList([vae.post_quant_conv, vae.decoder, critic.to(vae.device)]).requires_grad_(True)


class Crisping:
    """The objective of `learners`: decoder and critic descend together, each by its own loss alone."""

    def __init__(self, vae: AutoencoderKL, critic: Critic, pool: Pool) -> None:
        self.vae, self.critic, self.pool = vae, critic, pool
        for each in (vae, critic):
            each.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        use_channels_last_norms(vae)

    def __call__(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        x = as_input(self.pool.draw(len(rows), generator)["pixels"]).to(self.vae.device)
        with torch.no_grad():
            z = mode(self.vae, x)
        noise = torch.randn(z.shape, generator=generator).to(z)
        y = self.vae.decode(z + LATENT_NOISE * noise).sample.float()
        real, passes = self.critic(x)
        _, fails = self.critic(y.detach())
        told = functional.relu(1 - passes.float()).mean() + functional.relu(1 + fails.float()).mean()
        asked, l1 = self._asked(x, y, [each.detach() for each in real])
        return {"loss": asked + told, "l1": l1, "told": told.detach()}

    def _asked(self, x: Tensor, y: Tensor, real: list[Tensor]) -> tuple[Tensor, Tensor]:
        """A scalar whose gradient at the picture is that of the reconstruction, and of the other two their shares."""
        seen = y.detach().requires_grad_(True)
        d = seen - x
        l1 = d.abs().mean()
        distance = l1 + d.square().mean() + d.diff(dim=-1).abs().mean() + d.diff(dim=-2).abs().mean()
        still = {name: weight.detach() for name, weight in self.critic.named_parameters()}
        maps, logits = functional_call(self.critic, still, (seen,))
        alike = torch.stack([(a.float() - b.float()).abs().mean() for a, b in zip(maps, real, strict=True)]).mean()
        gradients = [torch.autograd.grad(term, seen, retain_graph=True)[0] for term in (distance, alike)]
        gradients += torch.autograd.grad(-logits.float().mean(), seen)
        size = gradients[0].norm()
        whole = sum(
            share * size / each.norm().clamp(min=TINY) * each
            for share, each in zip((1.0, FEATURES, ADVERSARIAL), gradients, strict=True)
        )
        return distance.detach() + ((y - y.detach()) * whole).sum(), l1.detach()


def measured(vae: AutoencoderKL, sets: Mapping[str, list[Composition]]) -> dict[str, float]:
    """The decibels of each set, and "edges of" each."""
    return ladder(vae, sets) | {f"edges of {kind}": share for kind, share in crispness(vae, sets).items()}


@torch.no_grad()
def crispness(vae: AutoencoderKL, sets: Mapping[str, list[Composition]], most: int = 96) -> dict[str, float]:
    """How strong the edges of decoded pictures are: the mean |gradient|, as a share of that of the pictures."""
    found = {}
    for kind, some in sets.items():
        x = as_input(torch.from_numpy(np.stack([each.pixels for each in some[:most]]))).to(vae.device)
        y = torch.cat([vae.decode(mode(vae, part)).sample.clamp(-1, 1) for part in x.split(32)])
        found[kind] = (_edges(y) / _edges(x)).item()
    return found


def _edges(x: Tensor) -> Tensor:
    return x.diff(dim=-1).abs().mean() + x.diff(dim=-2).abs().mean()
