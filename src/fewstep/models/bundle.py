"""`ModelBundle`: the parts of a latent model that can turn words into pictures, whatever it was loaded from."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from fewstep.core.consistency import ConsistencyFunction, Scalings, boundary_scalings
from fewstep.core.denoise import Denoiser
from fewstep.core.profile import Kind, SamplingProfile
from fewstep.core.schedule import Schedule
from fewstep.errors import FewstepWarning
from fewstep.models.adapters.record import Adapters
from fewstep.models.card import ModelCard
from fewstep.models.conditioning import Conditioning
from fewstep.models.families.unet import traits_of
from fewstep.models.latent_model import Traits
from fewstep.models.layout import Layout, family_of
from fewstep.models.memory import TILE, in_float32
from fewstep.models.network import UNetNetwork
from fewstep.models.overrides import Overrides
from fewstep.models.placement import device_of, dtype_of
from fewstep.models.text_encoding import TextReader, Window, joined, weighed

if TYPE_CHECKING:
    from fewstep.models.adapters.embeddings import Embeddings
    from fewstep.models.adapters.lora.stack import LoraStack

MAX_WINDOWS = 8  # of a long prompt: 600 of CLIP's tokens


@dataclass(frozen=True, eq=False)
class ModelBundle:
    """Words and pictures in, latents between, pictures out.

    unet, autoencoder, text_encoder, tokenizer  diffusers' and transformers' own objects
    folder, weight_files                        where they were read from; None and empty for a model in the making
    reference                                   a name that loads the same model elsewhere (built in, or on the hub)
    text_encoder_2, tokenizer_2                 SDXL's second ones
    drops_to_zeros                              SDXL: no words are zeros, not the states of an empty prompt
    adapters                                    those inside the networks and beside them
    runs_on                                     the device, where the networks do not all lie on it (`memory.placed`)
    overrides                                   what it was loaded with in place of what its files say
    """

    card: ModelCard
    profile: SamplingProfile
    unet: Any
    autoencoder: Any
    text_encoder: Any
    tokenizer: Any
    folder: Path | None = None
    reference: str | None = None
    weight_files: tuple[Path, ...] = ()
    text_encoder_2: Any = None
    tokenizer_2: Any = None
    drops_to_zeros: bool = False
    adapters: Adapters = field(default_factory=Adapters)
    runs_on: torch.device | None = None
    overrides: Overrides = field(default_factory=Overrides)

    @property
    def name(self) -> str:
        return self.card.name

    @property
    def kind(self) -> Kind:
        return self.profile.kind

    @property
    def described(self) -> str:
        """What it was taken for, in a line."""
        return f"{self.name}: {self.profile.described}"

    @property
    def family(self) -> str:
        """The family of its U-Net, in words; what was cut out of one is said (`layout.family_of`)."""
        names = (f"{name}." for name, _ in self.unet.named_modules())
        return family_of(self.unet.config.cross_attention_dim, Layout.of(names))

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """The networks that adapters may change, by part."""
        second = {} if self.text_encoder_2 is None else {"text_encoder_2": self.text_encoder_2}
        return {"unet": self.unet, "text_encoder": self.text_encoder, **second}

    def with_networks(self, networks: Mapping[str, nn.Module], adapters: Adapters) -> Self:
        """The same model with other `networks`, by part, and the adapters in them."""
        return replace(self, **dict(networks), adapters=adapters)  # type: ignore[arg-type]

    @property
    def text_width(self) -> int:
        """The width of the text states that the U-Net reads."""
        return int(self.unet.config.cross_attention_dim)

    @property
    def loras(self) -> LoraStack | None:
        return self.adapters.loras

    @property
    def embeddings(self) -> Embeddings | None:
        return self.adapters.embeddings

    @property
    def schedule(self) -> Schedule:
        return self.profile.schedule

    @property
    def device(self) -> torch.device:
        return self.runs_on or device_of(self.unet)

    @property
    def dtype(self) -> torch.dtype:
        return dtype_of(self.unet)

    @cached_property
    def hash(self) -> str:
        """The first 12 hex digits of a SHA-256 over all weight files; "unsaved" without files."""
        if not self.weight_files:
            return "unsaved"
        return hash_of(self.weight_files)

    @property
    def encoders_hash(self) -> str:
        """12 hex digits that change with the autoencoder, a text encoder or a vocabulary, but not with the precision
        that they were loaded in: of the weights they tell the signs, which no rounding turns.
        """
        digest = hashlib.sha256()
        for part in (self.autoencoder, self.text_encoder, self.text_encoder_2):
            if part is not None:
                for name, tensor in sorted(part.state_dict().items()):
                    digest.update(name.encode())
                    digest.update(np.packbits(tensor.detach().cpu().signbit().numpy()).tobytes())
        for tokenizer in (self.tokenizer, self.tokenizer_2):
            if tokenizer is not None:
                digest.update(repr(sorted(tokenizer.get_vocab().items())).encode())
        digest.update(repr(self.autoencoder.config.scaling_factor).encode())
        return digest.hexdigest()[:12]

    def take_less(self) -> str | None:
        """After a picture did not fit: take less of the device's memory from now on. Says how; None: no way is left."""
        from fewstep.models.memory import take_less

        return take_less(self)

    @cached_property
    def traits(self) -> Traits:
        traits = traits_of(self.unet.config, self.autoencoder.config)
        assert traits is not None
        return traits

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(C, h, w) of the latents of a picture of `height` x `width` pixels."""
        return self.traits.latent_shape(height, width)

    @cached_property
    def denoise(self) -> Denoiser:
        """The UNet as `denoise(x_t, t, cond, w) -> x_0`."""
        network = UNetNetwork(self.unet, self.adapters)
        return Denoiser(network, self.profile.schedule, self.profile.prediction)

    @cached_property
    def scalings(self) -> Scalings:
        """The boundary scalings t -> (c_skip, c_out) that the model was distilled with."""
        return partial(boundary_scalings, timestep_scaling=self.profile.grid.timestep_scaling)

    @cached_property
    def f(self) -> ConsistencyFunction:
        """The consistency function f(x_t, t, cond, w) -> x_0."""
        return ConsistencyFunction(self.denoise, self.scalings)

    @property
    def steered_by(self) -> tuple[str, ...]:
        """What pictures may steer it through: the names of ControlNets and T2I-Adapters, then of IP-Adapters."""
        return self.adapters.steered_by

    @property
    def readers(self) -> tuple[TextReader, ...]:
        """One, or SDXL's two."""
        first = TextReader(self.tokenizer, self.text_encoder, self.device, self.embeddings)
        if self.text_encoder_2 is None:
            return (first,)
        return (first, TextReader(self.tokenizer_2, self.text_encoder_2, self.device, self.embeddings))

    def encode_text(self, texts: Sequence[str], lora_weights: Sequence[float] = ()) -> Conditioning:
        """Texts to the letter, as captions are read, to a `Conditioning` of as many rows; what is longer than the
        tokenizer reads is cut off, with a warning.

        lora_weights  how much of each of the adapters, in their order; none: as by default
        """
        self.readers[0].warn_of_long(texts, self.name)
        return self._encoded(len(texts), lambda: joined([reader.read(texts) for reader in self.readers]), lora_weights)

    def encode_prompts(self, prompts: Sequence[str], lora_weights: Sequence[float] = ()) -> Conditioning:
        """Prompts with their marks (`prompt_weights.parse`), to a `Conditioning` of as many rows.

        A long prompt is read window by window, and the states lie one behind the other; all must be equally long
        (`num_windows`). The pooled states are the first window's.
        """
        laid_out = [[reader.windows(prompt)[:MAX_WINDOWS] for prompt in prompts] for reader in self.readers]
        if any(len(windows) != len(laid_out[0][0]) for each in laid_out for windows in each):
            raise ValueError("prompts of several lengths cannot be encoded together: see `num_windows`")
        return self._encoded(len(prompts), lambda: self._read_windows(laid_out), lora_weights)

    def num_windows(self, prompt: str) -> int:
        """How many times the text encoder must read for this prompt; at most `MAX_WINDOWS`."""
        return min(len(self.readers[0].windows(prompt)), MAX_WINDOWS)

    def unread(self, prompt: str) -> str:
        """What of a prompt lies beyond the last window that is read."""
        return self.readers[0].words(self.readers[0].windows(prompt)[MAX_WINDOWS:])

    def _read_windows(self, laid_out: Sequence[Sequence[Sequence[Window]]]) -> tuple[Tensor, Tensor]:
        """(states, pooled) of windows by reader and prompt; every prompt has as many."""
        flat = [[window for prompt in prompts for window in prompt] for prompts in laid_out]
        weights = self.readers[0].weights(flat[0])
        empty = [Window()] if (weights != 1.0).any() else []
        states, pooled = joined(
            [reader.read_windows(windows + empty) for reader, windows in zip(self.readers, flat, strict=True)]
        )
        if empty:
            states, pooled = weighed(states[:-1], states[-1], weights), pooled[:-1]
        prompts = len(laid_out[0])
        return states.reshape(prompts, -1, states.shape[-1]), pooled[:: len(flat[0]) // prompts]

    @torch.no_grad()
    def _encoded(
        self, rows: int, read: Callable[[], tuple[Tensor, Tensor]], lora_weights: Sequence[float]
    ) -> Conditioning:
        shares = None if self.loras is None else self.loras.rows(lora_weights, rows)  # all alike, however many windows
        with self.loras.applied(shares, self.device) if self.loras else nullcontext():
            states, pooled = read()
        return Conditioning(states=states, pooled=pooled, loras=shares)

    def encode_negative(self, prompt: str, lora_weights: Sequence[float] = ()) -> Conditioning:
        """What guidance leads away from, one row: the prompt, or for an empty one what the model was trained to drop
        its words to (SDXL: zeros).
        """
        cond = self.encode_prompts([prompt], lora_weights)
        if prompt or not self.drops_to_zeros or cond.pooled is None:
            return cond
        return replace(cond, states=torch.zeros_like(cond.states), pooled=torch.zeros_like(cond.pooled))

    def framed(self, cond: Conditioning, height: int, width: int) -> Conditioning:
        """With the sizes that SDXL wants to know, of an uncropped picture; the same `cond` for other networks."""
        if self.traits.sizes is None:
            return cond
        sizes = torch.tensor([[height, width, 0, 0, height, width]], device=cond.states.device)
        return replace(cond, sizes=sizes.expand(len(cond), -1))

    def window(self, cond: Conditioning, rows: slice, columns: slice) -> Conditioning:
        """What belongs to a part, in latents, of the picture: its part of the controls, and its own size."""
        unit = self.traits.pixels_per_latent
        down, across = (slice(each.start * unit, each.stop * unit) for each in (rows, columns))
        controls = None if cond.controls is None else cond.controls[..., down, across]
        return self.framed(replace(cond, controls=controls), down.stop - down.start, across.stop - across.start)

    @torch.no_grad()
    def encode_images(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) in [-1, 1] to scaled latents (B, C, h, w) float32; a KL encoder gives its mode."""
        encoded = self.autoencoder.encode(pixels.to(self.device, dtype_of(self.autoencoder)))
        latents = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
        return latents.float() * self.autoencoder.config.scaling_factor

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents (B, C, h, w) to pixels (B, 3, H, W) float32 in [-1, 1]."""
        unscaled = (latents / self.autoencoder.config.scaling_factor).to(self.device)
        pixels = self._decode(unscaled)
        if dtype_of(self.autoencoder) == torch.float16 and not pixels.isfinite().all():
            warnings.warn(
                f"the autoencoder of {self.name} overflows in float16 (a black picture): it goes on in float32",
                FewstepWarning,
                stacklevel=2,
            )
            in_float32(self.autoencoder, self.device)
            pixels = self._decode(unscaled)
        return pixels.clamp(-1.0, 1.0)

    def decode_in_tiles(self) -> bool:
        """From now on decode large pictures tile by tile, which takes less memory; False where that changes nothing."""
        can = hasattr(self.autoencoder, "enable_tiling") and not getattr(self.autoencoder, "use_tiling", True)
        if can:
            self.autoencoder.enable_tiling()
            tile = min(TILE, self.autoencoder.tile_sample_min_size)
            self.autoencoder.tile_sample_min_size = tile
            self.autoencoder.tile_latent_min_size = tile // self.traits.pixels_per_latent
        return can

    def _decode(self, unscaled: Tensor) -> Tensor:
        decoded: Tensor = self.autoencoder.decode(unscaled.to(dtype_of(self.autoencoder)), return_dict=False)[0]
        return decoded.float()


def hash_of(files: Sequence[Path]) -> str:
    """The first 12 hex digits of a SHA-256 over the SHA-256 of each file."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]
