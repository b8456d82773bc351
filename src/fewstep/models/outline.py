"""A model as its small files describe it: what a request can be checked against before any weights are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fewstep.core.schedule import Schedule
from fewstep.models.card import FILE, Kind, ModelCard
from fewstep.models.families.unet import traits_of
from fewstep.models.identify import check_model_folder
from fewstep.models.kinds import check_kind, defaults_of, of_kind, sampled_as
from fewstep.models.latent_model import Traits
from fewstep.models.locating import BUILT_IN, is_elsewhere, locate, locate_parts, names_of, read_json
from fewstep.models.scheduler_config import SchedulerSettings


@dataclass(frozen=True, eq=False)
class Outline:
    """What `plan.complete` asks of a model, without its networks; nothing is known of how long its prompts may be."""

    card: ModelCard
    settings: SchedulerSettings
    traits: Traits
    embeds_guidance: bool
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
        card = ModelCard.read(folder) if (folder / FILE).is_file() else None
        parts = locate_parts(folder, card)
        unet, vae = (read_json(parts[part] / "config.json") for part in ("unet", "vae"))
        settings = SchedulerSettings.from_config(read_json(parts["scheduler"] / "scheduler_config.json"))
        reads_w = unet.get("time_cond_proj_dim") is not None
        if card is None:
            its_kind: Kind = "lcm" if settings.consistency else "diffusion"
            card = ModelCard(name=folder.resolve().name, kind=its_kind, **defaults_of(its_kind, reads_w=reads_w))
        check_kind(kind)
        card, settings = sampled_as(of_kind(card, kind, reads_w=reads_w), settings, prediction_type, zero_snr)
        traits = traits_of(unet, vae)
        if traits is None:
            return None  # left to diffusers' defaults
        return cls(card, settings, traits, embeds_guidance=reads_w, steered_by=tuple(names_of(controlnets)))

    @property
    def name(self) -> str:
        return self.card.name

    @property
    def kind(self) -> Kind:
        return self.card.kind

    @property
    def schedule(self) -> Schedule:
        return self.settings.schedule

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(C, h, w) of the latents of a picture of `height` x `width` pixels."""
        return self.traits.latent_shape(height, width)

    def num_windows(self, prompt: str) -> int:
        return 1

    def unread(self, prompt: str) -> str:
        return ""
