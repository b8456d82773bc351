"""`LoraFile`: an adapter as it lies on the disk, of any kind and in any of the spellings, before it meets a network."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from torch import Tensor

from fewstep.core.profile import Kind
from fewstep.errors import FewstepWarning, InvalidModel
from fewstep.files import Json
from fewstep.models.adapters.lora.kinds.base import Change, LayerInFile
from fewstep.models.adapters.lora.names import Spelling, read_key
from fewstep.models.adapters.lora.peft_config import PeftConfig
from fewstep.models.adapters.lora.reading import read_change
from fewstep.models.families import denoisers, text_encoders
from fewstep.models.families.base import Family
from fewstep.models.families.unets import named
from fewstep.models.identify import refusal
from fewstep.models.locating import name_of, read_json
from fewstep.models.stated import GENERIC, RECORD, Stated, few_step_adapter, json_in, names_of_file
from fewstep.models.tensor_file import Header, read_tensors

DIFFUSERS_STEM = "pytorch_lora_weights"
PEFT_STEM = "adapter_model"
PEFT_CONFIG = "adapter_config.json"

Layers = Mapping[str, Mapping[str, Change]]


@dataclass(frozen=True, eq=False)
class LoraFile:
    """Layers by part of the model (`unet`, `text_encoder`, …) and name, as the file spells them.

    reference  what finds it on another machine: a built-in name, a hub id, or None
    published  whether that is an LCM-LoRA which fewstep knows by its hub id
    left_out   the keys of what belongs to no layer, and is not applied
    """

    path: Path
    spelling: Spelling
    layers: Layers
    metadata: Mapping[str, str] = field(default_factory=dict)
    reference: str | None = None
    published: bool = False
    left_out: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The last part of the hub id or path; the folder's, for the names that programs give to every file."""
        stem = self.path.stem
        if GENERIC.fullmatch(stem) and self.reference is None:
            stem = self.path.absolute().parent.name or stem
        return name_of(self.reference or stem)

    @cached_property
    def hash(self) -> str:
        """The first 12 hex digits of the file's SHA-256."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:12]

    @property
    def record(self) -> Mapping[str, Json]:
        """What fewstep wrote into the file; empty for the files of others."""
        return json_in(self.metadata, RECORD)[0]

    @property
    def few_step(self) -> Stated[bool]:
        """Whether it makes its base a few-step model, and what says so."""
        if self.published:
            return Stated(True, "record")
        return few_step_adapter(self.record, self.metadata, names_of_file(self.path, self.reference))

    @property
    def kind(self) -> Kind:
        """ "lcm" for an adapter that makes its base a few-step model."""
        return "lcm" if self.few_step.value else "diffusion"

    @property
    def changes(self) -> tuple[Change, ...]:
        """The changes of all layers."""
        return tuple(layer for part in self.layers.values() for layer in part.values())

    @property
    def algorithm(self) -> str:
        """What kind of adapter it is, as people call it: "LoRA", "LoHa", …; several with commas."""
        return ", ".join(sorted({change.kind for change in self.changes}))

    @property
    def of_denoiser(self) -> Mapping[str, Change]:
        """The layers of the network that denoises, whatever the file calls it."""
        return {name: layer for part in denoisers() for name, layer in self.layers.get(part, {}).items()}

    def for_family(self, family: Family) -> Layers:
        """The layers by the folders of a model of that family."""
        denoiser = {family.denoiser: self.of_denoiser} if self.of_denoiser else {}
        return denoiser | {part: layers for part, layers in self.layers.items() if part not in denoisers()}

    @property
    def context_width(self) -> int | None:
        """The width of the text states of the base that it was made for; None where no layer tells."""
        for name, layer in self.of_denoiser.items():
            if re.search(r"attn2[._]to_[kv]$", name) and layer.inputs is not None:
                return layer.inputs
        return None

    @property
    def family(self) -> str:
        """The base that it was made for, in words."""
        width = self.context_width
        return "unknown" if width is None else named(width)

    @property
    def ranks(self) -> tuple[int, ...]:
        """The ranks that occur, ascending."""
        return tuple(sorted({change.rank for change in self.changes if change.rank is not None}))

    @property
    def alphas(self) -> tuple[float, ...]:
        """The alphas of its plain LoRAs, ascending; what is scaled by 1 / sqrt(rank) has that in its alpha."""
        return tuple(sorted({change.lora.alpha for change in self.changes if change.lora is not None}))

    @property
    def num_parameters(self) -> int:
        return sum(change.num_parameters for change in self.changes)

    @classmethod
    def read(cls, path: Path, reference: str | None = None, published: bool = False) -> LoraFile:
        """Read a `.safetensors` file, or a folder as diffusers or PEFT writes it; raises `InvalidModel`.

        A PEFT adapter's config is read from beside its file. Warns of metadata that cannot be read.
        """
        file = _file_in(path)
        if not any(map(read_key, Header.read(file).shapes)):
            raise refusal(file, "LoRA")
        tensors, metadata = read_tensors(file)
        found, left_out, spellings = _sorted_out(tensors)
        config = file.with_name(PEFT_CONFIG)
        by_peft = config.is_file() and ("peft" in spellings or file.stem == PEFT_STEM)
        settings = _settings(metadata, read_json(config) if by_peft else {}, file)
        layers: dict[str, dict[str, Change]] = {}
        for (part, layer), matrices in found.items():
            setting = settings.get(part) or PeftConfig()
            layers.setdefault(part, {})[layer] = read_change(LayerInFile(layer, matrices, setting, file))
        return cls(file, spellings[0], layers, metadata, reference, published, tuple(left_out))


def _file_in(path: Path) -> Path:
    if not path.is_dir():
        return path
    names = [f"{stem}.safetensors" for stem in (DIFFUSERS_STEM, PEFT_STEM)]
    found = [path / name for name in names if (path / name).is_file()] or sorted(path.glob("*.safetensors"))
    if not found or (len(found) > 1 and found[0].name not in names):
        raise InvalidModel(f"{path} is no LoRA: a folder of one has {names[0]} (diffusers) or {names[1]} (PEFT)")
    return found[0]


def _sorted_out(
    tensors: Mapping[str, Tensor],
) -> tuple[dict[tuple[str, str], dict[str, Tensor]], list[str], list[Spelling]]:
    """Tensors by part and layer; the keys of what belongs to no layer; the spelling of each that does."""
    found: dict[tuple[str, str], dict[str, Tensor]] = {}
    left_out: list[str] = []
    spellings: list[Spelling] = []
    for key, tensor in tensors.items():
        if (parts := read_key(key)) is None:
            left_out.append(key)
            continue
        spellings.append(parts.spelling)
        found.setdefault((parts.part, parts.layer), {})[parts.tensor] = tensor
    return found, left_out, spellings


def _settings(metadata: Mapping[str, str], config: Mapping[str, Json], file: Path) -> dict[str, PeftConfig]:
    """PEFT's config of each part: what lies beside the file wins over what diffusers put into the metadata."""
    flat, readable = json_in(metadata, "lora_adapter_metadata")
    if not readable:
        warnings.warn(
            f"{file.name}: its metadata lora_adapter_metadata is no JSON object and is not used; where no alpha is "
            "said, it is the rank",
            FewstepWarning,
            stacklevel=3,
        )
    parts: dict[str, dict[str, Json]] = {}
    for key, value in flat.items():
        part, _, name = key.partition(".")
        parts.setdefault(part, {})[name] = value
    if config:
        parts |= {part: dict(config) for part in (*denoisers(), *text_encoders())}
    return {part: PeftConfig.of(values, file) for part, values in parts.items()}
