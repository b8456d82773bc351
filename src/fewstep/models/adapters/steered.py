"""What steers a model by pictures, from where people keep it: folders, files, the hub."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from torch import nn

from fewstep.errors import InvalidModel, ModelNotFound
from fewstep.models.adapters.controlnet.file import read_controlnet
from fewstep.models.adapters.host import Host
from fewstep.models.adapters.ip_adapter import with_image_prompts
from fewstep.models.adapters.lora.source import fetch_file
from fewstep.models.adapters.nets import with_controlnets
from fewstep.models.families.base import Part
from fewstep.models.identify import identify, refusal
from fewstep.models.locating import locate_network, names_of
from fewstep.models.parts import explained, quiet, read_network
from fewstep.models.variants import announce, chosen_variant

Model = TypeVar("Model", bound=Host)
CONTROLNET = Part(
    "ControlNet or T2I-Adapter",
    {"ControlNetModel": "diffusers.models.controlnets.controlnet", "T2IAdapter": "diffusers.models.adapter"},
)


def with_steering(model: Model, sources: Iterable[str | Path]) -> Model:
    """With ControlNets and T2I-Adapters, which are folders, and IP-Adapters, which are files."""
    wanted = [str(source) for source in sources]
    if wanted and "unet" not in model.networks:
        raise InvalidModel(f"ControlNets, T2I-Adapters and IP-Adapters steer a U-Net, and {model.name} has none")
    named = list(zip(names_of(wanted), wanted, strict=True))
    prompts = [(name, source) for name, source in named if _is_image_prompt(source)]
    networks = []
    for name, source in named:
        if (name, source) not in prompts:
            with quiet():
                networks.append((name, _read_controlnet(source, model)))
    model = with_controlnets(model, networks)
    if prompts:
        with quiet(), explained(Path(prompts[0][1])):
            model = with_image_prompts(model, prompts)
    return model


def _is_image_prompt(source: str) -> bool:
    """Whether it is the file of an IP-Adapter, here or on the hub."""
    path = Path(source).expanduser()
    if path.is_file():
        return identify(path).thing == "ip-adapter"
    return path.suffix == ".safetensors" and identify(_fetched(source)).thing == "ip-adapter"


def _fetched(source: str) -> Path:
    """A file on the hub, OWNER/NAME/FOLDER/FILE.safetensors; raises `ModelNotFound`."""
    owner, _, rest = source.partition("/")
    name, _, file = rest.partition("/")
    if not file:
        raise ModelNotFound(
            f"no ControlNet or IP-Adapter {source!r}: give a folder, a .safetensors file, a hub id (owner/name), or "
            "OWNER/NAME/FOLDER/FILE on the hub"
        )
    return fetch_file(f"{owner}/{name}", file, "ControlNet or IP-Adapter")


def _read_controlnet(source: str, model: Host) -> nn.Module:
    """A ControlNet or a T2I-Adapter, from a folder, from the hub, or from one file."""
    path = Path(source).expanduser()
    if path.suffix == ".safetensors" and not path.is_dir():
        path = path if path.is_file() else _fetched(source)
        if identify(path).thing != "controlnet":
            raise refusal(path, "ControlNet, T2I-Adapter or IP-Adapter")
        with explained(path):
            return read_controlnet(path, model.networks["unet"], model.dtype)
    home = locate_network(source, "ControlNet", "controlnet", dtype=model.dtype)
    announce(home, [chosen_variant(home, model.dtype)])
    return read_network(CONTROLNET, home, model.dtype)
