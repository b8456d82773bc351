"""The eye that ships: a tiny CLIP whose image tower learnt to meet the starter's text encoder on real drawings only.

2.6 million weights, 5 MB. It never met a generator: neither its pictures nor its gradients. `recipes/emoji/eye.py`
trains it; `benchmarks/eye_trust.py` shows how far it may be trusted.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

SIDE = 128  # pixels that the tower reads; other sizes are scaled to it, without aliasing
STEM = (3, 16, 32)
WIDTHS = (32, 64, 128, 256)
TEXT_WIDTH = 384  # of the starter's pooled text state
EMBEDDING = 256
EARLY = 2  # maps beside the last one among the features


class Block(nn.Module):
    """x + conv(act(norm(conv(x)))), the second convolution starting at zero; sizes stay as they are."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(8, width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(8, width)
        nn.init.zeros_(self.norm2.weight)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.silu(self.norm1(self.conv1(x)))
        return functional.silu(x + self.norm2(self.conv2(y)))


def _halving(a: int, b: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(a, b, 3, stride=2, padding=1, bias=False), nn.GroupNorm(8, b), nn.SiLU())


@dataclass(frozen=True, eq=False)
class EyeSees:
    """Of B pictures.

    pooled      (B, 352): the first two maps and the last, averaged over places: strokes and their sharpness, to which
                the last alone is blind (it learnt to see through a little blur), and what they mean
    embeddings  (B, 256): of unit length, near the words
    """

    pooled: Tensor
    embeddings: Tensor


class EyeNetwork(nn.Module):
    """An image tower, and a linear map for the pooled states of the frozen text encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*(_halving(a, b) for a, b in itertools.pairwise(STEM)))
        stages = [nn.Sequential(_halving(a, b), Block(b)) for a, b in itertools.pairwise(WIDTHS)]
        self.stages = nn.ModuleList(stages)
        self.project = nn.Linear(WIDTHS[-1] * 5, EMBEDDING)
        self.project_text = nn.Linear(TEXT_WIDTH, EMBEDDING, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(3.0))

    def see(self, pixels: Tensor) -> EyeSees:
        """Pictures (B, 3, H, W) in [-1, 1], of any size."""
        if pixels.shape[-2:] != (SIDE, SIDE):
            pixels = functional.interpolate(pixels, (SIDE, SIDE), mode="bicubic", antialias=True).clamp(-1.0, 1.0)
        maps = [self.stem(pixels)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        places = [functional.adaptive_avg_pool2d(maps[-1], side).flatten(1) for side in (1, 2)]
        pooled = torch.cat([*(x.mean((2, 3)) for x in maps[:EARLY]), places[0]], dim=1)
        return EyeSees(pooled, functional.normalize(self.project(torch.cat(places, dim=1)), dim=-1))

    def embed_text(self, pooled: Tensor) -> Tensor:
        """Pooled text states (B, 384) to unit embeddings (B, 256)."""
        return functional.normalize(self.project_text(pooled), dim=-1)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.see(pixels).embeddings
