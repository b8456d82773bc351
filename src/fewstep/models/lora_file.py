"""`LoraFile`: a low-rank adapter as it lies on the disk, in any of the spellings, before it meets a network."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from fewstep.errors import InvalidModel
from fewstep.models import packed
from fewstep.models.card import Kind
from fewstep.models.locating import IS_A_PICKLE, PICKLES, name_of, read_json
from fewstep.models.lora_names import Matrix, Spelling, read_key

# Width of the text states that cross-attention reads: what tells the families of Stable Diffusion apart.
FAMILIES = {384: "the starter", 768: "SD 1.x", 1024: "SD 2.x", 2048: "SDXL"}
DIFFUSERS_STEM = "pytorch_lora_weights"
RECORD = "fewstep"  # the metadata entry of files that fewstep wrote
_OTHERS = {"hada_": "LoHa", "lokr_": "LoKr", "dora_scale": "DoRA", "lora_magnitude_vector": "DoRA", "oft_": "OFT"}
_LCM = re.compile(r"(?:^|[^a-z])lcm(?:[^a-z]|$)")


@dataclass(frozen=True)
class LoraLayer:
    """The change of one layer: W + weight * alpha / rank * up @ down."""

    down: Tensor
    up: Tensor
    alpha: float

    @property
    def rank(self) -> int:
        return len(self.down)


@dataclass(frozen=True, eq=False)
class LoraFile:
    """Layers by part of the model (`unet`, `text_encoder`, `text_encoder_2`) and name, as the file spells them.

    kind       "lcm" for an adapter that makes its base a few-step model, by its record or its name
    reference  what finds it on another machine: a built-in name, a hub id, or None
    """

    path: Path
    spelling: Spelling
    layers: Mapping[str, Mapping[str, LoraLayer]]
    metadata: Mapping[str, str] = field(default_factory=dict)
    reference: str | None = None

    @property
    def name(self) -> str:
        """The last part of the hub id or path; the folder's, for the name that diffusers gives to every LoRA."""
        stem = self.path.stem
        if stem == DIFFUSERS_STEM and self.reference is None:
            stem = self.path.resolve().parent.name or stem
        return name_of(self.reference or stem)

    @cached_property
    def hash(self) -> str:
        """The first 12 hex digits of the file's SHA-256."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:12]

    @property
    def record(self) -> Mapping[str, Any]:
        """What fewstep wrote into the file; empty for the files of others."""
        try:
            record = json.loads(self.metadata.get(RECORD, "{}"))
        except json.JSONDecodeError:
            return {}
        return record if isinstance(record, dict) else {}

    @property
    def kind(self) -> Kind:
        named_lcm = _LCM.search(f"{self.reference or ''} {self.path.stem}".lower()) is not None
        return "lcm" if self.record.get("kind", "lcm" if named_lcm else "") == "lcm" else "diffusion"

    @property
    def context_width(self) -> int | None:
        """The width of the text states of the base that it was made for; None where no layer tells."""
        for name, layer in self.layers.get("unet", {}).items():
            if re.search(r"attn2[._]to_[kv]$", name):
                return layer.down.shape[1]
        return None

    @property
    def family(self) -> str:
        """The base that it was made for, in words."""
        width = self.context_width
        return "unknown" if width is None else FAMILIES.get(width, f"a base with text states of {width}")

    @property
    def ranks(self) -> tuple[int, ...]:
        """The ranks that occur, ascending."""
        return tuple(sorted({layer.rank for part in self.layers.values() for layer in part.values()}))

    @property
    def num_parameters(self) -> int:
        return sum(layer.down.numel() + layer.up.numel() for part in self.layers.values() for layer in part.values())

    @classmethod
    def read(cls, path: Path, reference: str | None = None) -> LoraFile:
        """Read a `.safetensors` file, or a folder as diffusers or PEFT writes it; raises `InvalidModel`."""
        names = (f"{DIFFUSERS_STEM}.safetensors", "adapter_model.safetensors")
        candidates = [path / name for name in names] if path.is_dir() else [path]
        file = next((each for each in candidates if each.is_file()), path)
        if file.is_dir():
            raise InvalidModel(f"{path} is no LoRA: a folder of one has {names[0]} (diffusers) or {names[1]} (PEFT)")
        if file.suffix in PICKLES:
            raise InvalidModel(f"{file} {IS_A_PICKLE}")
        tensors, metadata = packed.read(file)
        config = file.parent / "adapter_config.json"
        by_peft = path.is_dir() and file.name == names[1] and config.is_file()
        alphas = _Alphas.of(metadata, read_json(config) if by_peft else {})
        spelling, layers = _layers(tensors, alphas, file)
        return cls(file, spelling, layers, metadata, reference)


@dataclass(frozen=True)
class _Alphas:
    """Alpha where it is not a tensor of its own: in PEFT's config, which diffusers puts into the metadata."""

    configs: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, metadata: Mapping[str, str], config: Mapping[str, Any]) -> _Alphas:
        try:
            flat = json.loads(metadata.get("lora_adapter_metadata", "{}"))
        except json.JSONDecodeError:
            flat = {}
        configs: dict[str, dict[str, Any]] = {"unet": dict(config)} if config else {}
        for key, value in flat.items():
            part, _, name = key.partition(".")
            configs.setdefault(part, {})[name] = value
        return cls(configs)

    def get(self, part: str, layer: str, rank: int) -> float:
        """The layer's own, the adapter's, or, where nothing is said, the rank: a scale of one."""
        config = self.configs.get(part, {})
        for pattern, alpha in (config.get("alpha_pattern") or {}).items():
            if re.fullmatch(rf"(.*\.)?({pattern})", layer):
                return float(alpha)
        return float(config.get("lora_alpha") or rank)


def _layers(
    tensors: Mapping[str, Tensor], alphas: _Alphas, file: Path
) -> tuple[Spelling, Mapping[str, Mapping[str, LoraLayer]]]:
    found: dict[tuple[str, str], dict[Matrix, Tensor]] = {}
    spellings: list[Spelling] = []
    strange = []
    for key, tensor in tensors.items():
        if (parts := read_key(key)) is None:
            strange.append(key)
            continue
        spellings.append(parts.spelling)
        found.setdefault((parts.part, parts.layer), {})[parts.matrix] = tensor
    if other := next((kind for mark, kind in _OTHERS.items() for key in tensors if mark in key), None):
        raise InvalidModel(f"{file} is a {other}, not a plain LoRA; fewstep cannot apply those")
    if strange or not found:
        shown = f" (its keys are like {strange[0]!r})" if strange else ""
        raise InvalidModel(f"{file} is no LoRA that fewstep knows{shown}; it reads kohya's, diffusers' and PEFT's")
    layers: dict[str, dict[str, LoraLayer]] = {}
    for (part, layer), matrices in found.items():
        if not {"down", "up"} <= set(matrices) or len(matrices["down"]) != matrices["up"].shape[1]:
            raise InvalidModel(f"{file} is damaged: {layer} needs a down and an up matrix of equal rank")
        down, up, alpha = matrices["down"], matrices["up"], matrices.get("alpha")
        scale = alphas.get(part, layer, len(down)) if alpha is None else float(alpha)
        layers.setdefault(part, {})[layer] = LoraLayer(down, up, scale)
    return spellings[0], layers
