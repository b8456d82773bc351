"""A part from elsewhere in place of a model's own: another autoencoder, another network."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from fewstep.errors import InvalidModel, ModelNotFound
from fewstep.models.autoencoder import config_of
from fewstep.models.config import Config, class_name
from fewstep.models.families import recognise
from fewstep.models.families.base import Family
from fewstep.models.identify import Identity, identify, refusal
from fewstep.models.locating import find_weights, locate_network, read_json
from fewstep.models.parts import explained, quiet, read_network
from fewstep.models.precisions import FAST
from fewstep.models.transformer_kinds import kind_named
from fewstep.models.variants import announce, chosen_variant


def another_autoencoder(
    vae: str | Path, family: Family, model: str | Path, own: Config, dtype: torch.dtype
) -> tuple[nn.Module, tuple[Path, ...]]:
    """What `vae` names in place of a model's own autoencoder (whose config a single file shares), and its files."""
    path = Path(vae).expanduser()
    if path.is_file() and path.suffix == ".safetensors":
        from fewstep.models.single_file import unpack_autoencoder

        with explained(path), quiet():
            return unpack_autoencoder(path, own, dtype), (path,)
    if vae == FAST and family.tiny is None:
        raise ModelNotFound(
            f"there is no fast decoder for {model}: there are some for SD 1.x, 2.x, SDXL and the starter"
        )
    folder = locate_network(family.tiny or vae if vae == FAST else vae, "autoencoder", "vae", dtype=dtype)
    announce(folder, [chosen_variant(folder, dtype)])
    return read_network(family.networks["vae"], folder, dtype), find_weights(folder, dtype)


def another_network(
    unet: str | Path, family: Family, own: Config, dtype: torch.dtype, variant: str | None
) -> tuple[nn.Module, tuple[Path, ...]]:
    """What `unet` names in place of a model's own network, whose config is `own`, and its files.

    Raises `ModelNotFound`, and `InvalidModel` for what is no such network or is one of another family.
    """
    path, part = Path(unet).expanduser(), family.networks[family.denoiser]
    if path.is_file():
        found = identify(path)
        if found.thing not in (family.denoiser, "checkpoint") or _of_another(found, family):
            raise refusal(path, f"{part.what} for {family.name}", found)
        with explained(path), quiet():
            network = family.read_network(path, _config_beside(path, family) or own, dtype)
        files: tuple[Path, ...] = (path,)
    else:
        folder = locate_network(unet, part.what, family.denoiser, variant, dtype)
        announce(folder, [chosen_variant(folder, dtype, variant)] if variant is None else [])
        network, files = read_network(part, folder, dtype, variant), find_weights(folder, dtype, variant)
    for name in family.must_match:
        if (theirs := config_of(network).get(name)) != (ours := own.get(name)):
            raise InvalidModel(
                f"the {part.what} {unet} was made for {family_of(network, family).name} and the other parts are of "
                f"{family.name}: its {name} is {theirs!r} and not {ours!r}"
            )
    return network, files


def _of_another(found: Identity, family: Family) -> bool:
    """Whether a file's transformer is none of that family, or it has one and the family a U-Net."""
    if family.denoiser == "transformer":
        return found.family is None or not family.name.startswith(found.family)
    return found.family is not None and kind_named(found.family) is not None


def family_of(network: nn.Module, otherwise: Family) -> Family:
    """The family of a network in memory."""
    return recognise({"_class_name": type(network).__name__, **config_of(network)}) or otherwise


def _config_beside(path: Path, family: Family) -> Config | None:
    """diffusers' config of a network whose weights are given as a file."""
    beside = path.parent / "config.json"
    config = read_json(beside) if beside.is_file() else {}
    return config if class_name(config) in family.networks[family.denoiser].classes else None
