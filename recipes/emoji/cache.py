"""The teacher's data: latents of every picture that may be seen, text states of four captions each."""

from __future__ import annotations

from pathlib import Path

import torch
from rich.progress import track
from torch import Tensor

import fewstep
from fewstep.data.cache_folder import Manifest, is_cache, write_shard
from fewstep.data.latents import LatentCache
from recipes.emoji import art, autoencoder
from recipes.emoji.words import MAX_TOKENS

STARTER_TEACHER = "starter-teacher"
CAPTIONS = (
    0,
    1,
    5,
    9,
)  # of Picture.captions: label and style; label; label, two tags and style; three tags and style


@torch.no_grad()
def build(folder: Path, device: str = "cpu") -> LatentCache:
    """Encode what `folder` holds with the autoencoder and the text encoder that were trained there."""
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(folder / "vae").eval().to(device)
    pixels = autoencoder.Pixels(folder, held_out=False, device=device)
    chunks = track(range(0, len(pixels), 64), description="pictures to latents")
    latents = torch.cat([autoencoder.mode(vae, pixels[slice(i, i + 64)]).cpu() for i in chunks])
    captions = [_captions(picture) for picture in pixels.pictures]
    texts = list(dict.fromkeys(["", *(text for row in captions for text in row)]))
    row_of = {text: row for row, text in enumerate(texts)}
    states = encode(folder, texts, device)
    return LatentCache(latents, states, torch.tensor([[row_of[text] for text in row] for row in captions]))


def _captions(picture: art.Picture) -> list[str]:
    every = list(picture.captions())
    return [every[i] for i in CAPTIONS]


@torch.no_grad()
def encode(folder: Path, texts: list[str], device: str) -> Tensor:
    """Text states (M, 24, 384) fp16, padded as the pipelines pad."""
    from transformers import CLIPTextModel, CLIPTokenizer

    encoder = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32).eval().to(device)
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    states = []
    for start in track(range(0, len(texts), 256), description="captions to states"):
        ids = tokenizer(
            texts[start : start + 256],
            padding="max_length",
            truncation=True,
            max_length=MAX_TOKENS,
            return_tensors="pt",
        ).input_ids
        states.append(encoder(input_ids=ids.to(device)).last_hidden_state.half().cpu())
    return torch.cat(states)


def as_training_cache(folder: Path, target: Path, teacher: str = STARTER_TEACHER) -> Path:
    """The recipe's latents as a cache that `fewstep distill --teacher TEACHER` reads."""
    if is_cache(target):
        return target
    target.mkdir(parents=True, exist_ok=True)
    cache, model = LatentCache.load(folder / "latents.safetensors"), fewstep.load(teacher, device="cpu")
    whole = {"latents": cache.latents[slice(0, len(cache))].half(), "captions": cache.captions}
    write_shard(target, "latents", 0, whole)
    write_shard(target, "texts", 0, {"states": cache.states[slice(0, len(cache.states))]})
    labels = [picture for picture in art.load(folder)[0] if not picture.held_out][:16]
    Manifest(
        model=model.name,
        encoders=model.encoders_hash,
        source="the starter's art",
        digest="-",
        size=(art.SIZE, art.SIZE),
        pictures=len(cache),
        captions=len(cache.states),
        examples=[next(picture.captions()) for picture in labels],
    ).write(target)
    return target
