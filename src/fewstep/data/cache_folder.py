"""The cache on the disk: latents and text states in shards of safetensors, and a manifest that says of what.

manifest.json               what was encoded, by which encoders, into which shapes; what was left out, and why
latents-00000.safetensors   latents (n, C, h, w) float16, captions (n, K); the sizes (n, m) that a network reads,
                            under its family's name for them
texts-00000.safetensors     states (m, L, D) float16, where they are read pooled (m, P) float16 and mask (m, L);
                            the first row of all is the empty caption
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fewstep.data.latents import LatentCache, Rows
from fewstep.errors import InvalidData

MANIFEST = "manifest.json"
FORMAT = 2
PICTURES_PER_SHARD = 4096


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a cache is of.

    encoders        a hash of the autoencoder, the text encoders and the tokenizers that made it
    source, digest  where the pictures lay, and what changes when they do
    size            (height, width) in pixels; with aspect buckets, what all are about as large as
    shapes          how many pictures there are of each size, as in "512x640": height x width
    settings        how they were prepared: flips, the captions' suffix
    examples        a few of the captions
    skipped         for each reason, the names of the pictures left out
    """

    model: str
    encoders: str
    source: str
    digest: str
    size: tuple[int, int]
    pictures: int
    captions: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    examples: Sequence[str] = ()
    skipped: Mapping[str, Sequence[str]] = field(default_factory=dict)
    shapes: Mapping[str, int] = field(default_factory=dict)
    format: int = FORMAT

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Raises `InvalidData` for what is no manifest of ours."""
        path = folder / MANIFEST
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            manifest = cls(**{**values, "size": tuple(values["size"])})
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InvalidData(f"{path} is no manifest of a cache: {error}") from error
        if manifest.format != FORMAT:
            raise InvalidData(
                f"{folder} is a cache of format {manifest.format}; this fewstep reads {FORMAT}: make it anew"
            )
        return manifest

    def write(self, folder: Path) -> None:
        text = json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False)
        (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def is_cache(folder: Path) -> bool:
    return (folder / MANIFEST).is_file()


def write_shard(folder: Path, kind: str, index: int, tensors: Mapping[str, Tensor | None]) -> None:
    """One file of the cache; `kind` is "latents" or "texts"."""
    present = {name: tensor.contiguous() for name, tensor in tensors.items() if tensor is not None}
    save_file(present, folder / f"{kind}-{index:05d}.safetensors")


@dataclass(frozen=True)
class Stored:
    """A tensor of a file, of which only the rows asked for are read, and nothing stays mapped."""

    file: Path
    name: str
    shape: torch.Size

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Tensor) -> Tensor:
        with safe_open(self.file, "pt") as file:
            tensor = file.get_slice(self.name)
            result = torch.empty(len(rows), *self.shape[1:], dtype=tensor[:0].dtype)
            for place, row in enumerate(rows.tolist()):
                result[place] = tensor[row]
        return result

    def whole(self) -> Tensor:
        return self[torch.arange(len(self))]


def read_cache(folder: Path, manifest: Manifest) -> LatentCache:
    """The cache, whose latents and states are read when asked for. Raises `InvalidData` when damaged."""
    latents, texts = (_shards(folder, kind) for kind in ("latents", "texts"))
    pooled, mask = ([shard[name] for shard in texts if name in shard] for name in ("pooled", "mask"))
    sizes = [shard[name].whole() for shard in latents for name in shard.keys() - {"latents", "captions"}]
    cache = LatentCache(
        Rows([shard["latents"] for shard in latents]),
        Rows([shard["states"] for shard in texts]),
        torch.cat([shard["captions"].whole() for shard in latents]),
        Rows(pooled) if pooled else None,
        torch.cat(sizes) if sizes else None,
        Rows(mask) if mask else None,
    )
    if len(cache) != manifest.pictures or len(cache.states) != manifest.captions:
        raise InvalidData(
            f"{folder} is damaged: its manifest counts {manifest.pictures} pictures and {manifest.captions} captions, "
            f"its files hold {len(cache)} and {len(cache.states)}; make it anew"
        )
    return cache


def _shards(folder: Path, kind: str) -> list[dict[str, Stored]]:
    files = sorted(folder.glob(f"{kind}-*.safetensors"))
    if not files:
        raise InvalidData(f"{folder} is damaged: it has no {kind}; make it anew")
    try:
        return [_stored(file) for file in files]
    except (SafetensorError, OSError) as error:
        raise InvalidData(f"{folder} is damaged ({error}); make it anew") from error


def _stored(path: Path) -> dict[str, Stored]:
    with safe_open(path, "pt") as file:
        return {name: Stored(path, name, torch.Size(file.get_slice(name).get_shape())) for name in file.keys()}  # noqa: SIM118
