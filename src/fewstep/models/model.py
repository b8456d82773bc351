"""`Model`: a latent model of any family, composed of a part that reads words, a network and an autoencoder."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from fewstep.core.denoise import Denoiser
from fewstep.core.profile import SamplingProfile
from fewstep.core.tiling import Span
from fewstep.errors import FewstepWarning
from fewstep.models.adapters.adapted import Adapted
from fewstep.models.adapters.lora.stack import LoraStack
from fewstep.models.adapters.record import Adapters
from fewstep.models.autoencoder import Autoencoder
from fewstep.models.card import ModelCard
from fewstep.models.conditioning import Conditioning
from fewstep.models.families.base import Family, Network, Size, Text
from fewstep.models.memory import Placement, Stages
from fewstep.models.origin import Origin
from fewstep.models.placement import device_of, dtype_of
from fewstep.models.precisions import DERIVED, EAGER, FAST, WHOLE
from fewstep.models.renditions import Rendition, Runner, rendered
from fewstep.models.text.own_words import Embeddings
from fewstep.models.traits import Control, Traits


@dataclass(frozen=True, eq=False)
class Model:
    """A `LatentModel`. What is put around its parts is in `adapters`, and where their networks lie in `placement`.

    runner     what runs its renditions; None: PyTorch, as they are
    rendition  what it is of another model; None: it is whole itself
    """

    card: ModelCard
    profile: SamplingProfile
    family: Family
    text: Text
    network: Network
    autoencoder: Autoencoder
    adapters: Adapters = field(default_factory=Adapters)
    origin: Origin = field(default_factory=Origin)
    placement: Placement = field(default_factory=Placement)
    runner: Runner[Model] | None = None
    rendition: Rendition[Model] | None = None
    _rendered: dict[tuple[str, str], Model] = field(default_factory=dict, init=False, repr=False)

    @property
    def name(self) -> str:
        return self.card.name

    @cached_property
    def traits(self) -> Traits:
        traits = self.family.traits(self.network.config, self.autoencoder.config)
        assert traits is not None  # loaded networks leave no default open
        return traits

    @property
    def loras(self) -> LoraStack | None:
        return self.adapters.loras

    @property
    def embeddings(self) -> Embeddings | None:
        return self.adapters.embeddings

    @property
    def steered_by(self) -> tuple[str, ...]:
        return self.adapters.steered_by

    @property
    def device(self) -> torch.device:
        return self.placement.device or device_of(self.network.module)

    @property
    def dtype(self) -> torch.dtype:
        return dtype_of(self.network.module)

    @cached_property
    def precisions(self) -> tuple[str, ...]:
        if self.rendition is not None:
            return self.rendition.of.precisions
        own = str(self.dtype).removeprefix("torch.")
        return (own, *DERIVED) if self.dtype is torch.float32 and self.placement.device is None else (own,)

    @cached_property
    def decoders(self) -> tuple[str, ...]:
        if self.rendition is not None:
            return self.rendition.of.decoders
        own, other = (FAST, WHOLE) if self.origin.overrides.vae == FAST else (WHOLE, FAST)
        return (own,) if self.autoencoder.fast is None else (own, other)

    @property
    def backend(self) -> str:
        return EAGER if self.rendition is None else self.rendition.backend

    def at(self, precision: str, decoder: str) -> Model:
        if (made := self.rendition) is not None:
            return self if (made.precision, made.decoder) == (precision, decoder) else made.of.at(precision, decoder)
        key = (precision, decoder)
        if self.runner is None and key == (self.precisions[0], self.decoders[0]):
            return self
        if key not in self._rendered:
            self._rendered[key] = self._in(precision, decoder)
        return self._rendered[key] if self.runner is None else self.runner.run(self._rendered[key])

    def _in(self, precision: str, decoder: str) -> Model:
        other = precision if precision != self.precisions[0] else None
        changed = decoder if decoder != self.decoders[0] else None
        network, autoencoder = rendered(self.network, self.autoencoder, self.device, other, changed)
        rendition = Rendition(self, precision, decoder)
        return replace(self, network=network, autoencoder=autoencoder, runner=None, rendition=rendition)

    @property
    def text_width(self) -> int:
        """Of the token states that the network reads."""
        return self.network.text_width

    @property
    def base(self) -> str:
        """What it is, in words, for those who ask what fits it: its family, and what was cut out of its network."""
        return self.family.described(f"{name}." for name, _ in self.network.module.named_modules())

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """What adapters may change: the denoising network and the text encoders, by their folders."""
        return {self.family.denoiser: self.network.module, **self.text.encoders}

    def with_networks(self, networks: Mapping[str, nn.Module], adapters: Adapters) -> Model:
        """The same model with other `networks` and the adapters in them."""
        network, text = self.network.holding(networks[self.family.denoiser]), self.text.holding(networks)
        if adapters.embeddings is not None:
            text = text.knowing(adapters.embeddings)
        return replace(self, network=network, text=text, adapters=adapters)

    @cached_property
    def denoise(self) -> Denoiser[Conditioning]:
        network = Adapted(self.network, self.adapters)
        return Denoiser(network, self.profile.schedule, self.profile.prediction)

    def encode_text(self, texts: Sequence[str], lora_weights: Sequence[float] = ()) -> Conditioning:
        for text in dict.fromkeys(texts):
            if (long := self.text.too_long(text)) is not None:
                tokens, room, unread = long
                warnings.warn(
                    f"the text has {tokens} tokens and {self.name} reads {room}; it does not see: {unread!r}",
                    FewstepWarning,
                    stacklevel=2,
                )
        return self._encoded(len(texts), lambda: self.text.read(texts, self.device), lora_weights)

    def encode_prompts(self, prompts: Sequence[str], lora_weights: Sequence[float] = ()) -> Conditioning:
        return self._encoded(len(prompts), lambda: self.text.read_prompts(prompts, self.device), lora_weights)

    def encode_negative(self, prompt: str, lora_weights: Sequence[float] = ()) -> Conditioning:
        return self.as_negative(prompt, self.encode_prompts([prompt], lora_weights))

    @torch.no_grad()
    def as_negative(self, prompt: str, cond: Conditioning) -> Conditioning:
        return self.text.as_negative(prompt, cond)

    def num_windows(self, prompt: str) -> int:
        return self.text.num_windows(prompt)

    def unread(self, prompt: str) -> str:
        return self.text.unread(prompt)

    @torch.no_grad()
    def _encoded(self, rows: int, read: Callable[[], Conditioning], lora_weights: Sequence[float]) -> Conditioning:
        loras = self.loras
        if loras is None:
            return read()
        shares = loras.rows(lora_weights, rows)  # all alike, however many windows
        with loras.applied(shares, self.device):
            return replace(read(), loras=shares)

    def conditioned(
        self,
        cond: Conditioning,
        height: int,
        width: int,
        controls: Sequence[Control | None] = (),
        *,
        away: bool = False,
    ) -> Conditioning:
        cond = self._framed(cond, height, width)
        return self.adapters.steer(cond, height, width, controls, self.device, away=away) if any(controls) else cond

    def window(self, cond: Conditioning, rows: Span, columns: Span) -> Conditioning:
        unit = self.traits.pixels_per_latent
        down, across = (slice(each.start * unit, each.stop * unit) for each in (rows, columns))
        controls = None if cond.controls is None else cond.controls[..., down, across]
        cut = replace(cond, controls=controls)
        return self._framed(cut, down.stop - down.start, across.stop - across.start)

    def sizes(self, picture: Size, corner: Size, crop: Size) -> tuple[int, ...] | None:
        return self.family.sizes(picture, corner, crop)

    def _framed(self, cond: Conditioning, height: int, width: int) -> Conditioning:
        sizes = self.sizes((height, width), (0, 0), (height, width))
        if sizes is None:
            return cond
        return replace(cond, sizes=torch.tensor([sizes], device=cond.states.device).expand(len(cond), -1))

    def encode_images(self, pixels: Tensor) -> Tensor:
        return self.autoencoder.encode(pixels, self.device)

    def decode(self, latents: Tensor) -> Tensor:
        pixels = self.placement.decode(self.autoencoder, latents, self.device, self.name)
        return pixels.clamp(-1.0, 1.0)

    @property
    def stages(self) -> Stages:
        steering = self.adapters.steering
        readers = [*self.text.encoders.values(), *(network for each in steering for network in each.readers)]
        predictors = [self.network.module, *(network for each in steering for network in each.networks)]
        return Stages(self.name, self.traits.default_size, readers, predictors, self.autoencoder)

    def take_less(self) -> str | None:
        return self.placement.take_less(self.stages)

    @property
    def encoders_hash(self) -> str:
        digest = hashlib.sha256()
        for part in (self.autoencoder.module, *self.text.encoders.values()):
            for name, tensor in sorted(part.state_dict().items()):
                digest.update(name.encode())
                digest.update(np.packbits(tensor.detach().cpu().signbit().numpy()).tobytes())  # no rounding turns signs
        for tokenizer in self.text.tokenizers.values():
            digest.update(repr(sorted(tokenizer.get_vocab().items())).encode())
        digest.update(repr(self.autoencoder.config["scaling_factor"]).encode())
        return digest.hexdigest()[:12]
