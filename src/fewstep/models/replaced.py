"""A part from elsewhere in place of a model's own: another autoencoder, another U-Net."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fewstep.errors import InvalidModel, ModelNotFound
from fewstep.models.identify import identify, refusal
from fewstep.models.layout import named_family
from fewstep.models.locating import find_weights, locate_network, read_json
from fewstep.models.parts import explained, read_network
from fewstep.models.variants import announce, chosen_variant

FAST = "fast"
TINY_FOR = {768: "madebyollin/taesd", 1024: "madebyollin/taesd", 2048: "madebyollin/taesdxl"}
_SAME = ("cross_attention_dim", "in_channels", "addition_embed_type")  # of a U-Net that takes another's place


def another_autoencoder(
    vae: str | Path, unet: Mapping[str, Any], model: str | Path, own: Mapping[str, Any], dtype: torch.dtype
) -> tuple[Any, tuple[Path, ...]]:
    """What `vae` names in place of a model's own autoencoder (whose config a single file shares), and its files."""
    path = Path(vae).expanduser()
    if path.is_file() and path.suffix == ".safetensors":
        from fewstep.models.single_file import unpack_autoencoder

        with explained(path):
            return unpack_autoencoder(path, own, dtype), (path,)
    folder = locate_network(_autoencoder_name(vae, unet, model), "autoencoder", "vae", dtype=dtype)
    announce(folder, [chosen_variant(folder, dtype)])
    return read_network("vae", folder, dtype), find_weights(folder, dtype)


def _autoencoder_name(vae: str | Path, unet: Mapping[str, Any], model: str | Path) -> str | Path:
    """The name itself, or for "fast" the hub id of the tiny autoencoder for this U-Net's family."""
    if vae != FAST:
        return vae
    width = unet.get("cross_attention_dim")
    if width not in TINY_FOR:
        raise ModelNotFound(
            f"there is no fast decoder for {model}: there are some for SD 1.x, 2.x, SDXL and the starter"
        )
    return TINY_FOR[width]


def another_unet(
    unet: str | Path, own: Mapping[str, Any], dtype: torch.dtype, variant: str | None
) -> tuple[Any, tuple[Path, ...]]:
    """What `unet` names in place of a model's own U-Net, whose config is `own`, and its files.

    Raises `ModelNotFound`, and `InvalidModel` for what is no U-Net or is one of another family.
    """
    path = Path(unet).expanduser()
    if path.is_file():
        if (found := identify(path)).thing not in ("unet", "checkpoint"):
            raise refusal(path, "U-Net", found)
        from fewstep.models.single_file import unpack_unet

        with explained(path):
            network = unpack_unet(path, _config_beside(path) or own, dtype)
        files: tuple[Path, ...] = (path,)
    else:
        folder = locate_network(unet, "U-Net", "unet", variant, dtype)
        announce(folder, [chosen_variant(folder, dtype, variant)] if variant is None else [])
        network, files = read_network("unet", folder, dtype, variant), find_weights(folder, dtype, variant)
    for name in _SAME:
        if (theirs := network.config.get(name)) != (ours := own.get(name)):
            families = [named_family(each.get("cross_attention_dim")) for each in (network.config, own)]
            raise InvalidModel(
                f"the U-Net {unet} was made for {families[0]} and the other parts are of {families[1]}: its {name} is "
                f"{theirs!r} and not {ours!r}"
            )
    return network, files


def _config_beside(path: Path) -> Mapping[str, Any] | None:
    """diffusers' config of a U-Net whose weights are given as a file."""
    beside = path.parent / "config.json"
    config = read_json(beside) if beside.is_file() else {}
    return config if config.get("_class_name") == "UNet2DConditionModel" else None
