"""An independent eye: a small convolutional network that knows the real art's concepts and never met the generator.

It learns to name the concept of a drawing under heavy changes of place, size, colour and sharpness. A generated picture
is judged by its nearest real drawings in this network's feature space: is the prompt's concept among the nearest 1, 5?
Only pictures that training may see are learnt, so that the held-out pairs tell how far the eye itself can be trusted.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from fewstep.train.config import FitConfig
from fewstep.train.task import Undivided
from recipes.emoji.autoencoder import Pixels
from recipes.emoji.run import run

SIDE = 64
WIDTH = 256
CONFIG = FitConfig(pictures=60_000, batch_size=64, lr=0.01, cooldown=0.7, warmup=2_000, ema_halflife=2_000)


class Eye(nn.Module):
    """Pictures (B, 3, H, W) in [-1, 1] to unit features (B, 256)."""

    def __init__(self, num_concepts: int) -> None:
        super().__init__()
        widths = (3, 32, 64, 128, WIDTH)
        blocks = [
            nn.Sequential(nn.Conv2d(a, b, 3, stride=2, padding=1), nn.GroupNorm(8, b), nn.SiLU())
            for a, b in itertools.pairwise(widths)
        ]
        self.trunk = nn.Sequential(*blocks, nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.GroupNorm(8, WIDTH), nn.SiLU())
        self.project = nn.Linear(WIDTH * 5, WIDTH)
        self.concept_embed = nn.Embedding(num_concepts, WIDTH)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.trunk(functional.interpolate(pixels, size=(SIDE, SIDE), mode="area"))
        places = torch.cat([functional.adaptive_avg_pool2d(x, side).flatten(1) for side in (1, 2)], dim=1)
        return functional.normalize(self.project(places), dim=-1)


class Naming:
    """The objective: name the concept (cosine softmax) of a picture that was moved, scaled, tinted and blurred."""

    def __init__(self, eye: Eye, pixels: Pixels) -> None:
        self.eye, self.pixels = eye, pixels
        self.concepts = {label: i for i, label in enumerate(dict.fromkeys(p.label for p in pixels.pictures))}
        self.targets = torch.tensor([self.concepts[picture.label] for picture in pixels.pictures])

    def __call__(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        features = self.eye(disturbed(self.pixels[rows], generator))
        logits = 16 * features @ functional.normalize(self.eye.concept_embed.weight, dim=-1).T
        targets = self.targets[rows]
        correct = (logits.argmax(-1) == targets).float().mean()
        return {"loss": functional.cross_entropy(logits, targets), "accuracy": correct}


def disturbed(x: Tensor, generator: torch.Generator) -> Tensor:
    """Another place and size, another tint, more or less sharp; white around, as in the art."""

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=generator)

    count = len(x)
    scale, shift = draw(0.85, 1.3, count), draw(-0.15, 0.15, count, 2)
    angle = draw(-0.2, 0.2, count)
    matrix = torch.stack([angle.cos() * scale, -angle.sin() * scale, angle.sin() * scale, angle.cos() * scale], 1)
    grid = functional.affine_grid(
        torch.cat([matrix.view(count, 2, 2), shift.unsqueeze(2)], 2), [count, 3, SIDE, SIDE], align_corners=False
    )
    moved = 1 - functional.grid_sample(1 - x, grid, align_corners=False)
    tinted = (moved - 1) * draw(0.7, 1.2, count, 3, 1, 1) + 1
    coarse = functional.interpolate(functional.avg_pool2d(tinted, 4), size=(SIDE, SIDE), mode="bilinear")
    soft = tinted.lerp(coarse, draw(0, 1, count, 1, 1, 1) ** 2)
    return soft + 0.1 * torch.randn(soft.shape, generator=generator) * draw(0, 1, count, 1, 1, 1)


class Judge:
    """The trained eye with the real drawings that it compares to."""

    def __init__(self, folder: Path) -> None:
        pixels = Pixels(folder, held_out=False)
        self.labels = [picture.label for picture in pixels.pictures]
        self.eye = Eye(len(set(self.labels)))
        self.eye.load_state_dict(load_file(folder / "judge.safetensors"))
        self.eye.eval()
        self.known = torch.cat([self.features(pixels[slice(i, i + 64)]) for i in range(0, len(pixels), 64)])

    @torch.no_grad()
    def features(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.eye(pixels)
        return features

    def ranks(self, pixels: Tensor, concepts: Sequence[str]) -> list[int]:
        """For each picture the rank of its concept among those of the nearest real drawings; 0 is best."""
        order = (self.features(pixels) @ self.known.T).argsort(dim=1, descending=True)
        ranks = []
        for row, concept in zip(order.tolist(), concepts, strict=True):
            near = list(dict.fromkeys(self.labels[i] for i in row))
            ranks.append(near.index(concept) if concept in near else len(near))
        return ranks


def train(folder: Path, minutes: float | None = None) -> None:
    """Train the eye on the art in `folder` and save it there."""
    torch.manual_seed(1)
    pixels = Pixels(folder, held_out=False)
    eye = Eye(len({picture.label for picture in pixels.pictures}))
    config = dataclasses.replace(CONFIG, minutes=minutes)
    with run(eye, Undivided(Naming(eye, pixels)), len(pixels), config, folder / "judge").averaged():
        save_file(
            {name: weight.contiguous() for name, weight in eye.state_dict().items()}, folder / "judge.safetensors"
        )
