"""What kind of model it is, where its files do not say it, or say it wrongly."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewstep.errors import InvalidModel, InvalidRequest
from fewstep.models.card import KINDS, Kind, ModelCard
from fewstep.models.scheduler_config import PREDICTION_TYPES, SchedulerSettings


@dataclass(frozen=True)
class Overrides:
    """What a model was loaded with in place of what its files say and hold; None: as they are.

    vae, unet        the name of another autoencoder or U-Net, where it means the same on another machine
    vae_at, unet_at  where it lies, where it does not
    """

    kind: str | None = None
    prediction_type: str | None = None
    vae: str | None = None
    vae_at: Path | None = None
    zero_snr: bool | None = None
    unet: str | None = None
    unet_at: Path | None = None


def check_channels(origin: Path, in_channels: int, latent_channels: int) -> None:
    """Raises `InvalidModel` for a network that reads more than the latents: a mask, or another picture."""
    if in_channels > latent_channels:
        what = "an inpainting model" if in_channels == 2 * latent_channels + 1 else f"of {in_channels} input channels"
        raise InvalidModel(f"{origin} is {what}; fewstep paints with ordinary text-to-image models (masks included)")


def defaults_of(kind: Kind, *, reads_w: bool) -> dict[str, Any]:
    """Steps and guidance where nobody asks for others: diffusers' defaults."""
    if kind == "diffusion":
        return {"steps": 25, "guidance_scale": 7.5}
    return {"steps": 4, "guidance_scale": 8.5 if reads_w else 1.0}


def check_kind(kind: str | None) -> None:
    """Raises `InvalidRequest` for a kind that does not exist."""
    if kind is not None and kind not in KINDS:
        raise InvalidRequest(f"unknown kind of model {kind!r}; choose one of {', '.join(KINDS)}")


def sampled_as(
    card: ModelCard, settings: SchedulerSettings, prediction_type: str | None, zero_snr: bool | None
) -> tuple[ModelCard, SchedulerSettings]:
    """The card and the settings with what was given instead; raises `InvalidRequest` for what does not exist."""
    if prediction_type is not None and prediction_type not in PREDICTION_TYPES:
        raise InvalidRequest(
            f"unknown prediction type {prediction_type!r}; choose one of {', '.join(PREDICTION_TYPES)}"
        )
    if prediction_type is not None:
        settings = dataclasses.replace(settings, prediction_type=prediction_type)
        card = dataclasses.replace(card, prediction_type=prediction_type)
    if zero_snr is not None and zero_snr != settings.zero_snr:
        settings = settings.with_zero_snr(zero_snr)
    return card, settings


def of_kind(card: ModelCard, kind: str | None, *, reads_w: bool) -> ModelCard:
    """The card of that kind, with its defaults, where it was given and is another."""
    if kind is None or kind == card.kind:
        return card
    assert kind in KINDS
    return dataclasses.replace(card, kind=kind, w_range=None, **defaults_of(kind, reads_w=reads_w))
