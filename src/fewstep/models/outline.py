"""A model as its small files describe it: what a request can be checked against before any weights are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fewstep.core.profile import Kind, SamplingProfile
from fewstep.core.schedule import Schedule
from fewstep.models.card import ModelCard, read_card
from fewstep.models.families.unet import reads_w, traits_of
from fewstep.models.identify import check_model_folder
from fewstep.models.latent_model import Traits
from fewstep.models.locating import BUILT_IN, is_elsewhere, locate, locate_parts, names_of, read_json
from fewstep.models.overrides import Overrides
from fewstep.models.profile import profile_of


@dataclass(frozen=True, eq=False)
class Outline:
    """What `plan.complete` asks of a model, without its networks; nothing is known of how long its prompts may be."""

    card: ModelCard
    profile: SamplingProfile
    traits: Traits
    steered_by: tuple[str, ...] = ()
    loras: None = None

    @classmethod
    def of(
        cls,
        name: str,
        kind: str | None = None,
        prediction_type: str | None = None,
        zero_snr: bool | None = None,
        controlnets: tuple[str, ...] = (),
    ) -> Outline | None:
        """Of a built-in model or a folder; None for what is elsewhere, in one file, or says too little.

        Raises as `load` does.
        """
        path = Path(name).expanduser()
        if is_elsewhere(name) or (path.suffix == ".safetensors" and path.is_file()):
            return None
        if name not in BUILT_IN:
            check_model_folder(path)
        folder = locate(name)
        card, facts = read_card(folder)
        parts = locate_parts(folder, card)
        unet, vae = (read_json(parts[part] / "config.json") for part in ("unet", "vae"))
        overrides = Overrides(kind, prediction_type, zero_snr=zero_snr)
        overrides.check()
        scheduler = read_json(parts["scheduler"] / "scheduler_config.json")
        profile = profile_of(scheduler, facts, embedded=reads_w(unet))
        profile = overrides.of_whole(overrides.of_base(profile))
        traits = traits_of(unet, vae)
        if traits is None:
            return None  # left to diffusers' defaults
        return cls(card or ModelCard(folder.resolve().name), profile, traits, steered_by=tuple(names_of(controlnets)))

    @property
    def name(self) -> str:
        return self.card.name

    @property
    def kind(self) -> Kind:
        return self.profile.kind

    @property
    def schedule(self) -> Schedule:
        return self.profile.schedule

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(C, h, w) of the latents of a picture of `height` x `width` pixels."""
        return self.traits.latent_shape(height, width)

    def num_windows(self, prompt: str) -> int:
        return 1

    def unread(self, prompt: str) -> str:
        return ""
