"""What goes beside a model, known by its config or its names: ControlNets, T2I- and IP-Adapters, autoencoders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewstep.models.locating import find_weights, read_json
from fewstep.models.lora_file import FAMILIES

_NETWORKS = {
    "ControlNetModel": "ControlNet: give it with --control",
    "T2IAdapter": "T2I-Adapter: give it with --control",
    "AutoencoderKL": "autoencoder: give it with --vae",
    "AutoencoderTiny": "tiny autoencoder: give it with --vae",
}
_ANY = "any base with latents of {} channels"


@dataclass(frozen=True)
class Beside:
    """A network that some model can be loaded with; `family` is the base that it was made for, in words."""

    kind: str
    family: str
    weight_files: tuple[Path, ...]

    @classmethod
    def of(cls, path: Path) -> Beside | None:
        """None for everything else; raises `InvalidModel` for a folder without weights."""
        if path.is_dir():
            config = read_json(path / "config.json") if (path / "config.json").is_file() else {}
            kind = _NETWORKS.get(config.get("_class_name", ""))
            return None if kind is None else cls(kind, _family(config), find_weights(path))
        shapes = _shapes(path)
        if any(key.startswith("image_proj.") for key in shapes):
            widths = [shape[1] for key, shape in shapes.items() if key.endswith("to_k_ip.weight")]
            return cls("IP-Adapter: give it with --control", _named(widths[0] if widths else None), (path,))
        if decoder := shapes.get("decoder.conv_in.weight"):
            return cls("autoencoder: give it with --vae", _ANY.format(decoder[1]), (path,))
        return None


def _family(config: Mapping[str, Any]) -> str:
    if "latent_channels" in config:
        return _ANY.format(config["latent_channels"])
    if "adapter_type" in config:
        return "SDXL" if str(config["adapter_type"]).endswith("_xl") else "SD 1.x or 2.x"
    return _named(config.get("cross_attention_dim"))


def _named(width: int | None) -> str:
    return "unknown" if width is None else FAMILIES.get(width, f"a base with text states of {width}")


def _shapes(path: Path) -> dict[str, list[int]]:
    """Of all tensors in a file; none where it cannot be read as safetensors."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return {}
