"""The trunk's data and loss: compositions as latents and token ids, text states computed as they are needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fewstep.core.objectives.base import Batch, Networks
from fewstep.core.objectives.diffusion import Diffusion
from fewstep.models.conditioning import Conditioning
from fewstep.models.model import Model
from fewstep.models.text.tokenizer import Tokenizer
from fewstep.train.task import scalars
from recipes.emoji import autoencoder
from recipes.emoji.captions import MOST
from recipes.emoji.compositions import compose, evaluation_sets
from recipes.emoji.pool import Pool, Shard
from recipes.emoji.words import MAX_TOKENS
from recipes.emoji.world import World

if TYPE_CHECKING:
    from transformers import CLIPTextModel

EMPTY = 0.1  # of the captions are dropped, for guidance
AT_ONCE = 64
TIMES = (125, 375, 625, 875)  # at which a training is watched


class Encoder:
    """What becomes of pictures and captions; `each` is called before every few pictures."""

    def __init__(self, model: Model, each: Callable[[], None] = lambda: None) -> None:
        self.model, self.each = model, each

    def shard(self, world: World, seed: int, number: int, size: int) -> Shard:
        """Pictures `number * size` and the following of the row of `seed`."""
        drawn = []
        for place in range(size):
            if place % AT_ONCE == 0:
                self.each()
            drawn.append(compose(world, seed, number * size + place))
        return self.encoded([each.pixels for each in drawn], [each.captions for each in drawn])

    @torch.no_grad()
    def encoded(self, pixels: Sequence[np.ndarray], captions: Sequence[Sequence[str]]) -> dict[str, Tensor]:
        """latents (N, 16, 8, 8) float16; ids (N, 6, 24) int16, a caption a row; count (N,) int8: how many there are."""
        latents = []
        for start in range(0, len(pixels), AT_ONCE):
            self.each()
            some = torch.from_numpy(np.stack(pixels[start : start + AT_ONCE])).to(self.model.device)
            x = (some.permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
            latents.append(autoencoder.mode(self.model.autoencoder.module, x).half().cpu())
        ids = torch.zeros(len(captions), MOST, MAX_TOKENS, dtype=torch.int16)
        for place, texts in enumerate(captions):
            ids[place, : len(texts)] = tokenized(self.model.text.tokenizers["tokenizer"], texts).short()
        count = torch.tensor([len(some) for some in captions], dtype=torch.int8)
        return {"latents": torch.cat(latents), "ids": ids, "count": count}


def tokenized(tokenizer: Tokenizer, texts: Sequence[str]) -> Tensor:
    """(N, 24) int64, cut and padded as the pipelines do it."""
    start, end, pad = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    read = (tokenizer(text, add_special_tokens=False, truncation=False, verbose=False).input_ids for text in texts)
    rows = [[start, *ids[: MAX_TOKENS - 2], end] for ids in read]
    return torch.tensor([row + [pad] * (MAX_TOKENS - len(row)) for row in rows])


@dataclass(frozen=True, eq=False)
class Drawn:
    """What a step is about: latents (B, 16, 8, 8), ids (B, 24) int64, unit noise like the latents, times (B,) int64."""

    latents: Tensor
    ids: Tensor
    noise: Tensor
    times: Tensor

    def tensors(self) -> dict[str, Tensor]:
        return {"latents": self.latents, "ids": self.ids, "noise": self.noise, "times": self.times}

    def __len__(self) -> int:
        return len(self.times)

    def __getitem__(self, part: slice) -> Drawn:
        return Drawn(**{name: tensor[part] for name, tensor in self.tensors().items()})


class Composed:
    """The objective: denoise compositions at uniformly drawn times, each by one of its captions or by none."""

    def __init__(self, model: Model, pool: Pool) -> None:
        self.model, self.pool = model, pool
        self.nothing = tokenized(model.text.tokenizers["tokenizer"], [""])

    def draw(self, rows: Tensor, generator: torch.Generator) -> Drawn:
        """`rows` says how many; which ones the pool draws."""
        drawn = self.pool.draw(len(rows), generator)
        place = (torch.rand(len(rows), generator=generator) * drawn["count"]).long()
        ids = drawn["ids"][torch.arange(len(rows)), place].long()
        dropped = torch.rand(len(rows), generator=generator) < EMPTY
        ids = torch.where(dropped.unsqueeze(1), self.nothing, ids)
        times = self.model.profile.schedule.draw_times(len(rows), generator)
        latents = drawn["latents"].float()
        return Drawn(latents, ids, torch.randn(latents.shape, generator=generator), times)

    def loss(self, drawn: Drawn) -> dict[str, Tensor]:
        device = self.model.device
        latents, ids, noise, _ = (tensor.to(device) for tensor in drawn.tensors().values())
        cond = Conditioning(states_of(self.model.text.encoders["text_encoder"], ids).float())
        networks = Networks(self.model.denoise, self.model.profile.schedule)
        loss = Diffusion().loss(networks, Batch(latents, noise, drawn.times, cond))
        return scalars(loss, self.model.profile.schedule)


@torch.no_grad()
def states_of(encoder: CLIPTextModel, ids: Tensor) -> Tensor:
    """Text states (B, 24, 384); what is said several times is read once."""
    each, place = torch.unique(ids, dim=0, return_inverse=True)
    states: Any = encoder(input_ids=each).last_hidden_state
    return states[place]


def evaluation_shards(world: World, encoder: Encoder) -> dict[str, Shard]:
    """What a training is watched by, encoded: held-out combinations by kind, held-out and trained drawings."""
    sets = evaluation_sets(world)
    return {
        kind: encoder.encoded([each.pixels for each in some], [each.captions[:1] for each in some])
        for kind, some in sets.items()
    }


@torch.no_grad()
def watched(objective: Composed, shards: Mapping[str, Shard]) -> dict[str, float]:
    """The loss on each set, by the first caption, at `TIMES` from noise that is always the same."""
    found = {}
    for kind, shard in shards.items():
        generator = torch.Generator().manual_seed(0)
        losses = []
        for t in TIMES:
            noise = torch.randn(shard["latents"].shape, generator=generator)
            for rows in torch.arange(len(noise)).split(AT_ONCE):
                times = torch.full((len(rows),), t)
                with torch.autocast(objective.model.device.type, torch.bfloat16):
                    drawn = Drawn(shard["latents"][rows].float(), shard["ids"][rows, 0].long(), noise[rows], times)
                    loss = objective.loss(drawn)
                losses.append(float(loss["loss"]) * len(rows))
        found[kind] = sum(losses) / (len(shard["latents"]) * len(TIMES))
    return found
