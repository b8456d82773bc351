"""The cache of latents and text states: what the frozen parts make of a data set, computed once."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import load_file
from torch import Tensor

from fewstep.files import write_tensors
from fewstep.models.conditioning import Conditioning


class Part(Protocol):
    """Rows of one shape: a tensor, or what reads them from a file."""

    @property
    def shape(self) -> torch.Size: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Tensor, /) -> Tensor: ...


class Rows:
    """Parts one after the other along their first axis; only the rows asked for are read."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts
        self.ends = torch.tensor(list(accumulate(len(part) for part in parts)))

    def __len__(self) -> int:
        return int(self.ends[-1])

    def by_shape(self) -> list[Tensor]:
        """The rows of each shape, in the order in which the shapes come first."""
        starts = [0, *self.ends.tolist()]
        groups: dict[torch.Size, list[Tensor]] = {}
        for part, (start, end) in zip(self.parts, pairwise(starts), strict=True):
            groups.setdefault(part.shape[1:], []).append(torch.arange(start, end))
        return [torch.cat(some) for some in groups.values()]

    def __getitem__(self, rows: Tensor | slice[int, int, int | None]) -> Tensor:
        if isinstance(rows, slice):
            rows = torch.arange(*rows.indices(len(self)))
        of_part = torch.searchsorted(self.ends, rows.contiguous(), right=True)
        local = rows - torch.cat([self.ends.new_zeros(1), self.ends])[of_part]
        found = {part: self.parts[part][local[of_part == part]] for part in of_part.unique().tolist()}
        first = next(iter(found.values()))
        result = first.new_empty(len(rows), *first.shape[1:])
        for part, some in found.items():
            result[of_part == part] = some
        return result


@dataclass(frozen=True, eq=False)
class LatentCache:
    """A data set as a training loop wants it.

    latents   (N, C, h, w), scaled as the diffusion model sees them; in `Rows` h and w may differ
    states    (M, L, D) fp16: the text states of M captions; row 0 is the empty caption
    captions  (N, K) int64: the rows of `states` that describe each picture
    pooled    (M, P) fp16: the pooled text states, for networks that want them
    sizes     (N, n) int64: the sizes and crops, for networks that read them
    mask      (M, L) bool: which of the token states count, for networks that want to know
    """

    latents: Tensor | Rows
    states: Tensor | Rows
    captions: Tensor
    pooled: Tensor | Rows | None = None
    sizes: Tensor | None = None
    mask: Tensor | Rows | None = None

    def __post_init__(self) -> None:
        if len(self.latents) != len(self.captions) or len(self.latents) == 0:
            raise ValueError(
                f"{len(self.latents)} latents and captions for {len(self.captions)}; need the same, above 0"
            )
        if int(self.captions.max()) >= len(self.states):
            raise ValueError(f"a caption points to row {int(self.captions.max())} of {len(self.states)} text states")

    def __len__(self) -> int:
        return len(self.latents)

    def groups(self) -> list[Tensor]:
        """The rows that may share a batch: all of them, or those of each shape."""
        return self.latents.by_shape() if isinstance(self.latents, Rows) else [torch.arange(len(self))]

    def draw_noise(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Unit noise (B, C, h, w) in the shape of the pictures, which have the same."""
        shape = self.latents[rows[:1]].shape[1:]
        return torch.randn(len(rows), *shape, generator=generator)

    def draw_captions(self, rows: Tensor, generator: torch.Generator, empty: float = 0.0) -> Tensor:
        """One caption's row (B,) for each picture, the empty one with probability `empty`."""
        choice = torch.randint(self.captions.shape[1], (len(rows),), generator=generator)
        drawn = self.captions[rows, choice]
        return torch.where(torch.rand(len(rows), generator=generator) < empty, 0, drawn)

    def conditioning(self, captions: Tensor, rows: Tensor, device: torch.device | str) -> Conditioning:
        """What the network reads beside pictures (B,) `rows`, with the captions (B,) that were drawn for them."""
        pooled = None if self.pooled is None else self.pooled[captions].to(device).float()
        sizes = None if self.sizes is None else self.sizes[rows].to(device)
        mask = None if self.mask is None else self.mask[captions].to(device)
        return Conditioning(self.states[captions].to(device).float(), pooled, sizes, mask=mask)

    def unconditional(self, cond: Conditioning) -> Conditioning:
        """The empty caption's, for as many rows, of the same sizes, on the same device."""
        first = torch.zeros(1, dtype=torch.int64)
        empty = self.conditioning(first, first, cond.states.device)
        return dataclasses.replace(dataclasses.replace(empty, sizes=None).expand(len(cond)), sizes=cond.sizes)

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(path, {name: tensor for name in _FIELDS if (tensor := getattr(self, name)) is not None})

    @classmethod
    def load(cls, path: Path) -> LatentCache:
        return cls(**load_file(path))


_FIELDS = ("latents", "states", "captions", "pooled", "sizes", "mask")
