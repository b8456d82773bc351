"""What is known of a model before any weights are read (`Traits`), and what may steer it (`Control`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from PIL.Image import Image


class Control(Protocol):
    """A picture that steers, and how far it is followed."""

    @property
    def image(self) -> Image: ...

    @property
    def scale(self) -> float: ...


@dataclass(frozen=True)
class Traits:
    """What the networks' configs fix: known before any weights are read, and what a request is checked against.

    default_size       (height, width) in pixels that the model was trained on
    latent_channels    C of the latents (B, C, h, w)
    pixels_per_latent  along a side
    multiple           pixels: sides that are no multiple of it cannot be halved at every level of the network
    reads_pooled       whether pooled text states are an input of the network
    sizes              what files call the vector of sizes that the network reads; None where it reads none
    least_lora_steps   fewer steps with an LCM-LoRA leave a grid in pictures of the default size; 0: none do
    latents_per_token  along a side, of what a transformer reads as one token
    """

    default_size: tuple[int, int]
    latent_channels: int
    pixels_per_latent: int
    multiple: int
    reads_pooled: bool = False
    sizes: str | None = None
    least_lora_steps: int = 0
    latents_per_token: int = 1

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(C, h, w) of the latents of a picture of `height` x `width` pixels."""
        return self.latent_channels, height // self.pixels_per_latent, width // self.pixels_per_latent

    def tokens(self, height: int, width: int) -> int:
        """How many tokens a picture of that size has; the shift of a flow may depend on it."""
        side = self.pixels_per_latent * self.latents_per_token
        return (height // side) * (width // side)
