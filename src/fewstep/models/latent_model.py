"""`LatentModel`: what pipelines, server, training and evaluation see of a model, whatever family it is of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from fewstep.core.schedule import Schedule

if TYPE_CHECKING:
    from pathlib import Path

    from fewstep.core.consistency import Scalings
    from fewstep.core.denoise import Denoise
    from fewstep.core.profile import Kind, SamplingProfile
    from fewstep.models.adapters.embeddings import Embeddings
    from fewstep.models.adapters.lora.stack import LoraStack
    from fewstep.models.adapters.record import Adapters
    from fewstep.models.card import ModelCard
    from fewstep.models.conditioning import Conditioning
    from fewstep.models.overrides import Overrides


@dataclass(frozen=True)
class Traits:
    """What the networks' configs fix: known before any weights are read, and what a request is checked against.

    default_size       (height, width) in pixels that the model was trained on
    latent_channels    C of the latents (B, C, h, w)
    pixels_per_latent  along a side
    multiple           pixels: sides that are no multiple of it cannot be halved at every level of the network
    sizes              what files call the vector of sizes that the network reads; None where it reads none
    least_lora_steps   fewer steps with an LCM-LoRA leave a grid in pictures of the default size; 0: none do
    """

    default_size: tuple[int, int]
    latent_channels: int
    pixels_per_latent: int
    multiple: int
    sizes: str | None = None
    least_lora_steps: int = 0

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(C, h, w) of the latents of a picture of `height` x `width` pixels."""
        return self.latent_channels, height // self.pixels_per_latent, width // self.pixels_per_latent


class Described(Protocol):
    """What a request can be checked against: a model, or the outline that its small files give of it."""

    @property
    def card(self) -> ModelCard: ...

    @property
    def profile(self) -> SamplingProfile: ...

    @property
    def traits(self) -> Traits: ...

    @property
    def loras(self) -> LoraStack | None: ...

    @property
    def steered_by(self) -> tuple[str, ...]:
        """What pictures may steer it through: the names of ControlNets and T2I-Adapters, then of IP-Adapters."""
        ...

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> Kind: ...

    @property
    def schedule(self) -> Schedule: ...

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(C, h, w) of the latents of a picture of `height` x `width` pixels."""
        ...

    def num_windows(self, prompt: str) -> int:
        """How many times the text encoder must read for this prompt."""
        ...

    def unread(self, prompt: str) -> str:
        """What of a prompt lies beyond what is read."""
        ...


class LatentModel(Described, Protocol):
    """Words and pictures in, latents between, pictures out.

    adapters              those in it and beside it; loras and embeddings are two of their kinds
    folder, weight_files  where it was read from; None and empty for a model in the making
    reference             a name that loads the same model elsewhere (built in, or on the hub)
    overrides             what it was loaded with in place of what its files say
    """

    @property
    def described(self) -> str:
        """What it was taken for, in a line."""
        ...

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def embeddings(self) -> Embeddings | None: ...

    @property
    def adapters(self) -> Adapters: ...

    @property
    def folder(self) -> Path | None: ...

    @property
    def reference(self) -> str | None: ...

    @property
    def weight_files(self) -> tuple[Path, ...]: ...

    @property
    def hash(self) -> str:
        """The first 12 hex digits of a SHA-256 over all weight files; "unsaved" without files."""
        ...

    @property
    def encoders_hash(self) -> str:
        """12 hex digits that change with what makes latents and text states, but not with its precision."""
        ...

    @property
    def overrides(self) -> Overrides: ...

    @property
    def scalings(self) -> Scalings:
        """The boundary scalings t -> (c_skip, c_out) that the model was distilled with."""
        ...

    @property
    def denoise(self) -> Denoise: ...

    def encode_text(self, texts: Sequence[str], lora_weights: Sequence[float] = ()) -> Conditioning:
        """Texts to the letter, as captions are read, to a `Conditioning` of as many rows; warns of what is cut off.

        lora_weights  how much of each of the adapters, in their order; none: as by default
        """
        ...

    def encode_prompts(self, prompts: Sequence[str], lora_weights: Sequence[float] = ()) -> Conditioning:
        """Prompts with their marks (`prompt_weights.parse`); all must be equally long (`num_windows`)."""
        ...

    def encode_negative(self, prompt: str, lora_weights: Sequence[float] = ()) -> Conditioning:
        """What guidance leads away from, one row."""
        ...

    def framed(self, cond: Conditioning, height: int, width: int) -> Conditioning:
        """With the sizes that the network wants to know, of an uncropped picture."""
        ...

    def window(self, cond: Conditioning, rows: slice, columns: slice) -> Conditioning:
        """What belongs to a part, in latents, of the picture."""
        ...

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) in [-1, 1] to scaled latents (B, C, h, w) float32."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents (B, C, h, w) to pixels (B, 3, H, W) float32 in [-1, 1]."""
        ...

    def take_less(self) -> str | None:
        """After a picture did not fit: take less of the device's memory from now on. Says how; None: no way is left."""
        ...
