"""`LatentModel`: what pipelines, server, training and evaluation see of a model, whatever family it is of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from fewstep.core.denoise import Denoise
    from fewstep.core.profile import SamplingProfile
    from fewstep.core.tiling import Span
    from fewstep.models.adapters.lora.stack import LoraStack
    from fewstep.models.card import ModelCard
    from fewstep.models.conditioning import Conditioning
    from fewstep.models.origin import Origin
    from fewstep.models.text.own_words import Embeddings
    from fewstep.models.traits import Control, Traits


class Described(Protocol):
    """What a request can be checked against: a model, or the outline that its small files give of it.

    loras       the adapters in it that change layers, if any
    steered_by  what pictures may steer it through: the names of ControlNets and T2I-Adapters, then of IP-Adapters
    """

    @property
    def card(self) -> ModelCard: ...

    @property
    def profile(self) -> SamplingProfile: ...

    @property
    def traits(self) -> Traits: ...

    @property
    def loras(self) -> LoraStack | None: ...

    @property
    def steered_by(self) -> tuple[str, ...]: ...

    @property
    def name(self) -> str: ...

    @property
    def precisions(self) -> tuple[str, ...]:
        """What its networks can compute in; the first: what they were loaded in."""
        ...

    @property
    def decoders(self) -> tuple[str, ...]:
        """What can decode, "whole" or "fast"; the first: what does where nothing is said."""
        ...

    def num_windows(self, prompt: str) -> int:
        """How many times the text encoder must read for this prompt."""
        ...

    def unread(self, prompt: str) -> str:
        """What of a prompt lies beyond what is read."""
        ...


class LatentModel(Described, Protocol):
    """Words and pictures in, latents between, pictures out.

    embeddings  the words of one's own that prompts may use, if any
    """

    @property
    def origin(self) -> Origin: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def embeddings(self) -> Embeddings | None: ...

    @property
    def backend(self) -> str:
        """What runs its networks."""
        ...

    def at(self, precision: str, decoder: str) -> LatentModel:
        """The same model in one of its `precisions`, with one of its `decoders`, as quick as may be (`runtime`)."""
        ...

    @property
    def encoders_hash(self) -> str:
        """12 hex digits that change with what makes latents and text states, but not with its precision."""
        ...

    @property
    def denoise(self) -> Denoise[Conditioning]: ...

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

    def as_negative(self, prompt: str, cond: Conditioning) -> Conditioning:
        """What guidance leads away from for this prompt, whose own states are `cond`.

        For an empty one that is what training put in the place of words that were dropped.
        """
        ...

    def conditioned(
        self,
        cond: Conditioning,
        height: int,
        width: int,
        controls: Sequence[Control | None] = (),
        *,
        away: bool = False,
    ) -> Conditioning:
        """Encoded words with all else that the networks read of a picture of that size.

        controls  one or None for each of `steered_by`; none: followed by none
        away      whether guidance leads away from it
        """
        ...

    def sizes(self, picture: tuple[int, int], corner: tuple[int, int], crop: tuple[int, int]) -> tuple[int, ...] | None:
        """The vector of sizes for a picture (height, width), of which a crop with that corner (top, left) is made."""
        ...

    def window(self, cond: Conditioning, rows: Span, columns: Span) -> Conditioning:
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
