"""A model as its small files describe it: what a request can be checked against before any weights are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fewstep.core.profile import SamplingProfile
from fewstep.models.card import ModelCard
from fewstep.models.folder import Folder, locate_model
from fewstep.models.locating import FAST_DECODER, is_elsewhere, names_of
from fewstep.models.overrides import Overrides
from fewstep.models.precisions import DERIVED, FAST, WHOLE
from fewstep.models.traits import Traits


@dataclass(frozen=True, eq=False)
class Outline:
    """What `plan.complete` asks of a model, without its networks; nothing is known of how long its prompts may be."""

    card: ModelCard
    profile: SamplingProfile
    traits: Traits
    steered_by: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ("float32", *DERIVED)
    decoders: tuple[str, ...] = (WHOLE,)
    loras: None = None

    @classmethod
    def of(
        cls,
        name: str,
        kind: str | None = None,
        prediction_type: str | None = None,
        zero_snr: bool | None = None,
        controlnets: tuple[str, ...] = (),
        dtype: str = "float32",
        vae: str | Path | None = None,
    ) -> Outline | None:
        """Of a built-in model or a folder; None for what is elsewhere, in one file, or says too little.

        dtype  that it will be loaded in; all else as of `load`

        Raises as `load` does.
        """
        path = Path(name).expanduser()
        if is_elsewhere(name) or (path.suffix == ".safetensors" and path.is_file()):
            return None
        folder = Folder.read(locate_model(name))
        overrides = Overrides(kind, prediction_type, zero_snr=zero_snr)
        overrides.check()
        if (traits := folder.traits) is None:
            return None  # left to diffusers' defaults
        card = folder.card or ModelCard(folder.path.resolve().name)
        profile = overrides.of_whole(overrides.of_base(folder.profile))
        own, other = (FAST, WHOLE) if vae == FAST else (WHOLE, FAST)
        return cls(
            card,
            profile,
            traits,
            steered_by=tuple(names_of(controlnets)),
            precisions=(dtype, *DERIVED) if dtype == "float32" else (dtype,),
            decoders=(own, other) if vae in (None, FAST) and FAST_DECODER in folder.parts else (own,),
        )

    @property
    def name(self) -> str:
        return self.card.name

    def num_windows(self, prompt: str) -> int:
        return 1

    def unread(self, prompt: str) -> str:
        return ""
