"""A model's folder: found by the name of the model, and known by its small files before any weights are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fewstep.core.profile import SamplingProfile
from fewstep.errors import InvalidModel, ModelNotFound
from fewstep.models.card import FILE as CARD_FILE
from fewstep.models.card import CardFacts, ModelCard, read_card
from fewstep.models.config import Config, class_name
from fewstep.models.families import families, recognise
from fewstep.models.families.base import Family
from fewstep.models.identify import check_model_folder
from fewstep.models.locating import BUILT_IN, FAST_DECODER, HUB_ID, about_file, download, read_json
from fewstep.models.parts import check_class
from fewstep.models.profile import profile_of
from fewstep.models.traits import Traits
from fewstep.models.transformer_kinds import kind_called

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class Folder:
    """parts  the folders of all parts of the family that are there, some perhaps those of a model that it shares with
    network, autoencoder  their configs
    index     the content of model_index.json
    """

    path: Path
    card: ModelCard | None
    facts: CardFacts
    family: Family
    parts: Mapping[str, Path]
    network: Config
    autoencoder: Config
    index: Config

    @classmethod
    def read(cls, path: Path) -> Folder:
        """Raises `InvalidModel` for one of no known family, or without one of its parts."""
        card, facts = read_card(path)
        homes = [path] if card is None or card.shared is None else [path, path / card.shared]
        denoiser = _denoiser(path, homes)
        network = read_json(denoiser / "config.json")
        family = recognise(network)
        if family is None:
            raise _of_no_family(denoiser, network)
        parts = _parts(path, homes, family)
        return cls(
            path,
            card,
            facts,
            family,
            parts,
            network,
            read_json(parts["vae"] / "config.json"),
            read_json(path / "model_index.json"),
        )

    @property
    def scheduler(self) -> Config:
        return read_json(self.parts["scheduler"] / "scheduler_config.json")

    @property
    def profile(self) -> SamplingProfile:
        return profile_of(self.scheduler, self.facts, embedded=self.family.embeds_w(self.network))

    @property
    def traits(self) -> Traits | None:
        return self.family.traits(self.network, self.autoencoder)


def _denoiser(path: Path, homes: Sequence[Path]) -> Path:
    """The folder of the denoising network."""
    known = list(dict.fromkeys(family.denoiser for family in families()))
    found = [home / part for part in known for home in homes if (home / part).is_dir()]
    if not found:
        raise InvalidModel(f"{path} has no {known[0]}/ folder, which a latent diffusion model needs")
    return found[0]


def _of_no_family(denoiser: Path, config: Config) -> InvalidModel:
    """What a network is that no family takes, as far as its class tells."""
    name = class_name(config)
    if (kind := kind_called(name)) is not None and kind.needs is not None:
        known = ", ".join(dict.fromkeys(family.name for family in families()))
        return InvalidModel(
            f"{denoiser.parent} is {kind.name}, a family that fewstep does not have: {kind.needs}. It has {known}"
        )
    every = [family.networks[family.denoiser] for family in families() if family.denoiser == denoiser.name]
    classes = {kind: home for part in every for kind, home in part.classes.items()}
    check_class(replace(every[0], classes=classes), config, denoiser)
    return InvalidModel(f"{denoiser} holds a {name} of a shape that no family of fewstep has")


def _parts(path: Path, homes: Sequence[Path], family: Family) -> dict[str, Path]:
    wanted = (*family.networks, *family.tokenizers, "scheduler")
    found = {
        part: home / part for part in (*wanted, FAST_DECODER) for home in reversed(homes) if (home / part).is_dir()
    }
    if missing := next((part for part in wanted if part not in (*found, *family.optional)), None):
        raise InvalidModel(f"{path} {family.incomplete(missing, found)}")
    return found


def locate(name: str | Path, variant: str | None = None, dtype: torch.dtype | None = None) -> Path:
    """The folder of a model; raises `ModelNotFound` or, for a file, `InvalidModel`.

    variant, dtype  which weights to fetch from the hub, where it has several (`variants.chosen_variant`)
    """
    if str(name) in BUILT_IN:
        return _built_in(str(name))
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "model_index.json").is_file():
            raise InvalidModel(f"{path} has no model_index.json, so it is not a model folder as diffusers writes it")
        return path
    if path.is_file():
        raise InvalidModel(about_file(path))
    if HUB_ID.fullmatch(str(name)):
        return _fetched(str(name), variant, dtype)
    raise ModelNotFound(
        f"no model {str(name)!r}: give {', '.join(BUILT_IN)}, an existing folder or .safetensors file, or a hub id "
        "(owner/name)"
    )


def locate_model(name: str | Path, variant: str | None = None, dtype: torch.dtype | None = None) -> Path:
    """The same, which refuses a folder of something else by what it is."""
    if str(name) not in BUILT_IN:
        check_model_folder(Path(name).expanduser())
    return locate(name, variant, dtype)


def brings_fast_decoder(name: str | Path) -> bool:
    """Whether a built-in model, or a folder, has a fast decoder of its own."""
    folder = BUILT_IN.get(str(name), Path(name).expanduser())
    return (folder / "model_index.json").is_file() and FAST_DECODER in Folder.read(folder).parts


def _fetched(hub_id: str, variant: str | None, dtype: torch.dtype | None) -> Path:
    networks = dict.fromkeys(part for family in families() for part in family.networks)
    every = [each for family in families() for each in {**family.networks, **family.tokenizers}.items()]
    files = list(dict.fromkeys(f"{part}/{pattern}" for part, kind in every for pattern in kind.files))
    files += ["model_index.json", CARD_FILE, "scheduler/*.json"]
    files += [f"{FAST_DECODER}/*.json", f"{FAST_DECODER}/*.safetensors"]
    return download(hub_id, files, variant=variant, dtype=dtype, parts=(*networks, FAST_DECODER))


def _built_in(name: str) -> Path:
    folder = BUILT_IN[name]
    if not (folder / "model_index.json").is_file():
        raise ModelNotFound(
            f"the weights of {name!r} are not in this installation ({folder} is empty): reinstall fewstep, "
            "make them with recipes/starter.py, or give another model"
        )
    return folder
