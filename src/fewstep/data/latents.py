"""The cache of latents and text states: what the frozen parts make of a data set, computed once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor


@dataclass(frozen=True, eq=False)
class LatentCache:
    """A data set as a training loop wants it.

    latents   (N, C, h, w) float32, scaled as the diffusion model sees them
    states    (M, L, D) fp16: the text states of M captions; row 0 is the empty caption
    captions  (N, K) int64: the rows of `states` that describe each picture
    """

    latents: Tensor
    states: Tensor
    captions: Tensor

    def __post_init__(self) -> None:
        if len(self.latents) != len(self.captions) or len(self.latents) == 0:
            raise ValueError(
                f"{len(self.latents)} latents and captions for {len(self.captions)}; need the same, above 0"
            )
        if int(self.captions.max()) >= len(self.states):
            raise ValueError(f"a caption points to row {int(self.captions.max())} of {len(self.states)} text states")

    def __len__(self) -> int:
        return len(self.latents)

    def draw_captions(self, rows: Tensor, generator: torch.Generator, empty: float = 0.0) -> Tensor:
        """One caption's row (B,) for each picture, the empty one with probability `empty`."""
        choice = torch.randint(self.captions.shape[1], (len(rows),), generator=generator)
        drawn = self.captions[rows, choice]
        return torch.where(torch.rand(len(rows), generator=generator) < empty, 0, drawn)

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        tensors = {"latents": self.latents, "states": self.states, "captions": self.captions}
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial)
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> LatentCache:
        return cls(**load_file(path))
