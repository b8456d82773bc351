"""Many pictures, one network: what the sampling of each asks of the model waits for company, for one common call.

`sample` is written for one request and knows nothing of others. Here it runs unchanged inside a greenlet, over a
`SharedModel` whose calls suspend it. The worker gathers the suspended calls of the same kind and shape, of whatever
prompt, seed, time or sampler; `asks.answer` makes one batch of them, and hands every picture its own rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from greenlet import GreenletExit, getcurrent, greenlet
from torch import Tensor

from fewstep.core.profile import SamplingProfile
from fewstep.core.schedule import Time
from fewstep.core.tiling import Span
from fewstep.models.adapters.lora.stack import LoraStack
from fewstep.models.card import ModelCard
from fewstep.models.conditioning import Conditioning
from fewstep.models.latent_model import LatentModel
from fewstep.models.origin import Origin
from fewstep.models.text.own_words import Embeddings
from fewstep.models.traits import Control, Traits
from fewstep.server.asks import Answer, Ask, Decode, Denoise, EncodeImages, EncodeText, Own
from fewstep.server.prompts import PromptCache


@dataclass(frozen=True, eq=False)
class SharedModel:
    """A `LatentModel` whose networks are another's: to call one suspends the sampling until `answer` has the result."""

    shared: LatentModel
    prompts: PromptCache = field(default_factory=PromptCache)

    @property
    def card(self) -> ModelCard:
        return self.shared.card

    @property
    def profile(self) -> SamplingProfile:
        return self.shared.profile

    @property
    def traits(self) -> Traits:
        return self.shared.traits

    @property
    def origin(self) -> Origin:
        return self.shared.origin

    @property
    def loras(self) -> LoraStack | None:
        return self.shared.loras

    @property
    def embeddings(self) -> Embeddings | None:
        return self.shared.embeddings

    @property
    def steered_by(self) -> tuple[str, ...]:
        return self.shared.steered_by

    @property
    def name(self) -> str:
        return self.shared.name

    @property
    def device(self) -> torch.device:
        return self.shared.device

    @property
    def dtype(self) -> torch.dtype:
        return self.shared.dtype

    @property
    def precisions(self) -> tuple[str, ...]:
        return self.shared.precisions

    @property
    def decoders(self) -> tuple[str, ...]:
        return self.shared.decoders

    @property
    def backend(self) -> str:
        return self.shared.backend

    def at(self, precision: str, decoder: str) -> SharedModel:
        return dataclasses.replace(self, shared=self.shared.at(precision, decoder))

    @property
    def encoders_hash(self) -> str:
        return self.shared.encoders_hash

    def denoise(self, x_t: Tensor, t: Time, cond: Conditioning, w: float | Tensor | None = None) -> Tensor:
        times = torch.as_tensor(t, device=x_t.device).expand(len(x_t))
        steered = cond.controls is None, cond.image_tokens is None
        key = (x_t.shape[1:], cond.states.shape[1:], w is None, steered)
        return _answered(Denoise(self.shared, key, len(x_t), x_t, times, cond, w))

    def encode_text(self, texts: Sequence[str], lora_weights: Sequence[float] = ()) -> Conditioning:
        return self.shared.encode_text(texts, lora_weights)

    def encode_prompts(self, prompts: Sequence[str], lora_weights: Sequence[float] = ()) -> Conditioning:
        """As ever, but what was encoded lately is not encoded again."""
        weights = tuple(lora_weights) if self.loras is not None and self.loras.reads_text else ()
        known = {prompt: cond for prompt in prompts if (cond := self.prompts.get((prompt, weights))) is not None}
        for prompt in set(prompts) - set(known):
            key = (weights, self.num_windows(prompt))  # long prompts are read with others as long
            known[prompt] = _answered(EncodeText(self.shared, key, 1, prompt, weights))
            self.prompts.put((prompt, weights), known[prompt])
        cond = Conditioning.cat([known[prompt] for prompt in prompts])
        if self.loras is None:
            return cond
        return dataclasses.replace(cond, loras=self.loras.rows(lora_weights, len(prompts)))

    def encode_negative(self, prompt: str, lora_weights: Sequence[float] = ()) -> Conditioning:
        return self.as_negative(prompt, self.encode_prompts([prompt], lora_weights))

    def as_negative(self, prompt: str, cond: Conditioning) -> Conditioning:
        return self.shared.as_negative(prompt, cond)

    def num_windows(self, prompt: str) -> int:
        return self.shared.num_windows(prompt)

    def unread(self, prompt: str) -> str:
        return self.shared.unread(prompt)

    def conditioned(
        self,
        cond: Conditioning,
        height: int,
        width: int,
        controls: Sequence[Control | None] = (),
        *,
        away: bool = False,
    ) -> Conditioning:
        return self.shared.conditioned(cond, height, width, controls, away=away)

    def sizes(self, picture: tuple[int, int], corner: tuple[int, int], crop: tuple[int, int]) -> tuple[int, ...] | None:
        return self.shared.sizes(picture, corner, crop)

    def window(self, cond: Conditioning, rows: Span, columns: Span) -> Conditioning:
        return self.shared.window(cond, rows, columns)

    def encode_images(self, pixels: Tensor) -> Tensor:
        return _answered(EncodeImages(self.shared, pixels.shape[1:], len(pixels), pixels))

    def decode(self, latents: Tensor) -> Tensor:
        return _answered(Decode(self.shared, latents.shape[1:], len(latents), latents))

    def take_less(self) -> str | None:
        return self.shared.take_less()


def _answered(ask: Ask[Own]) -> Own:
    """Suspends whoever asks until there is an answer."""
    return getcurrent().parent.switch(ask)


class Suspendable:
    """A function that runs until it asks, and goes on when it is answered.

    `ask` is what it waits for, None once it has returned. What the function raises comes out of `resume` or `fail`.
    """

    def __init__(self, function: Callable[[], None]) -> None:
        self._greenlet = greenlet(function)
        self.ask: Ask[Answer] | None = None

    def start(self) -> None:
        self.ask = self._greenlet.switch()

    def resume(self, result: Answer) -> None:
        self.ask = self._greenlet.switch(result)

    def fail(self, error: BaseException) -> None:
        """Raise `error` where the function waits."""
        self.ask = self._greenlet.throw(error)

    def abandon(self) -> None:
        """Unwind the function wherever it is; it runs its `finally` clauses and no more."""
        self._greenlet.throw(GreenletExit)
        self.ask = None
