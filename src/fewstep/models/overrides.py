"""`Overrides`: what a model is loaded as, where its files do not say it, or say it wrongly."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from fewstep.core.prediction import DISCRETE, PREDICTIONS
from fewstep.core.profile import KINDS, SamplingProfile
from fewstep.errors import InvalidModel, InvalidRequest


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

    def check(self) -> None:
        """Raises `InvalidRequest` for a kind or a prediction type that does not exist."""
        if self.kind is not None and self.kind not in KINDS:
            raise InvalidRequest(f"unknown kind of model {self.kind!r}; choose one of {', '.join(KINDS)}")
        if self.prediction_type is not None and self.prediction_type not in DISCRETE:
            raise InvalidRequest(
                f"unknown prediction type {self.prediction_type!r}; choose one of {', '.join(DISCRETE)}"
            )

    def of_base(self, profile: SamplingProfile) -> SamplingProfile:
        """The profile of the model itself; raises `InvalidModel` where its betas cannot end otherwise."""
        if self.prediction_type is not None:
            profile = replace(profile, prediction=PREDICTIONS[self.prediction_type])
        try:
            profile = profile if self.zero_snr is None else profile.with_zero_snr(self.zero_snr)
        except ValueError as error:
            raise InvalidModel(str(error)) from error
        return profile.of_kind("diffusion") if self.kind == "diffusion" else profile

    def of_whole(self, profile: SamplingProfile) -> SamplingProfile:
        """The profile of the model with its adapters: an LCM-LoRA may have made it a consistency model, with settings
        of its own.
        """
        return profile.of_kind("lcm") if self.kind == "lcm" else profile
