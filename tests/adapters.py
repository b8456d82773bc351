"""Random LoRA files for the tests, in every spelling that people's files have."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

TARGETS = re.compile(
    r"(to_[qkv]|to_out\.0|proj_in|proj_out|ff\.net\.(0\.proj|2)|conv[12]|conv_shortcut|time_emb_proj|samplers\.0\.conv"
    r"|[qkv]_proj|out_proj|fc[12])$"
)

Layers = dict[str, tuple[Tensor, Tensor]]


def random_layers(network: nn.Module, seed: int, rank: int = 3, size: float = 0.3) -> Layers:
    """(down, up) for each layer that adapters usually take."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) * size

    layers: Layers = {}
    for name, module in network.named_modules():
        if "add_embedding" in name or not TARGETS.search(name) or not isinstance(module, (nn.Linear, nn.Conv2d)):
            continue
        out, into, *kernel = module.weight.shape
        layers[name] = (draw(rank, into, *kernel) / into**0.5, draw(out, rank, *[1] * len(kernel)) / rank**0.5)
    return layers


def with_prefix(layers: Layers) -> Layers:
    """A text encoder's layers as files spell them."""
    return {f"text_model.{name}": layer for name, layer in layers.items()}


def write_kohya(path: Path, parts: Mapping[str, Layers], alpha: float) -> Path:
    """`parts` by kohya's prefixes: lora_unet, lora_te, lora_te1, lora_te2."""
    tensors = {}
    for prefix, layers in parts.items():
        for name, (down, up) in layers.items():
            key = f"{prefix}_{name.replace('.', '_')}"
            tensors |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up}
            tensors[f"{key}.alpha"] = torch.tensor(alpha)
    save_file(tensors, path)
    return path


def write_diffusers(path: Path, parts: Mapping[str, Layers], alpha: float) -> Path:
    """As diffusers' `save_lora_weights` does today, alpha in the metadata."""
    tensors = {}
    metadata = {}
    for part, layers in parts.items():
        for name, (down, up) in layers.items():
            tensors |= {f"{part}.{name}.lora_A.weight": down, f"{part}.{name}.lora_B.weight": up}
        rank = len(next(iter(layers.values()))[0])
        modules = sorted({name.removeprefix("text_model.") for name in layers})
        metadata |= {f"{part}.r": rank, f"{part}.lora_alpha": alpha, f"{part}.target_modules": modules}
    save_file(tensors, path, {"format": "pt", "lora_adapter_metadata": json.dumps(metadata)})
    return path


def write_old_diffusers(path: Path, parts: Mapping[str, Layers]) -> Path:
    """As diffusers wrote before it took to PEFT: attention under its processor, no alpha."""
    tensors = {}
    for part, layers in parts.items():
        for name, (down, up) in layers.items():
            if found := re.fullmatch(r"(.+attn[12])\.to_(q|k|v|out)(\.0)?", name):
                key = f"{part}.{found[1]}.processor.to_{found[2]}_lora"
            else:
                key = f"{part}.{name}.lora" if part == "unet" else f"{part}.{name}.lora_linear_layer"
            tensors |= {f"{key}.down.weight": down, f"{key}.up.weight": up}
    save_file(tensors, path)
    return path


def write_peft(folder: Path, layers: Layers, alpha: float) -> Path:
    """A folder as PEFT's `save_pretrained` writes it for a UNet."""
    folder.mkdir()
    tensors = {}
    for name, (down, up) in layers.items():
        key = f"base_model.model.{name}"
        tensors |= {f"{key}.lora_A.weight": down, f"{key}.lora_B.weight": up}
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    config = {"peft_type": "LORA", "r": 3, "lora_alpha": alpha, "target_modules": sorted(layers)}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def loha_layers(network: nn.Module) -> dict[str, Tensor]:
    """A LoHa for the attention of a network, as LyCORIS' trainer writes it."""
    generator = torch.Generator().manual_seed(3)
    tensors = {}
    for name, module in network.named_modules():
        if not name.endswith(("to_q", "to_k", "to_v", "ff.net.2")) or not isinstance(module, nn.Linear):
            continue
        out, into = module.weight.shape
        key = f"lora_unet_{name.replace('.', '_')}"
        for n in "12":
            tensors[f"{key}.hada_w{n}_a"] = torch.randn(out, 3, generator=generator)
            tensors[f"{key}.hada_w{n}_b"] = torch.randn(3, into, generator=generator) / into**0.5
        tensors[f"{key}.alpha"] = torch.tensor(3.0)
    return tensors


def oft_layers(network: nn.Module) -> dict[str, Tensor]:
    """An OFT of blocks of four, as kohya's trainer writes it."""
    generator = torch.Generator().manual_seed(3)
    return {
        f"oft_unet_{name.replace('.', '_')}.oft_blocks": torch.randn(len(module.weight) // 4, 4, 4, generator=generator)
        for name, module in network.named_modules()
        if name.endswith(("to_q", "to_k", "to_v", "conv1"))
    }
