"""An adapter that is asked for: how much of it, and where its file lies, here or on the hub."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fewstep.errors import InvalidRequest, ModelNotFound
from fewstep.models.adapters.lora.file import LoraFile
from fewstep.models.locating import ADAPTERS

MAX_WEIGHT = 10.0
_PUBLISHED = {  # by the family that it was made for (`layout.family_of`)
    "the starter": "lcm-lora",
    "SD 1.x": "latent-consistency/lcm-lora-sdv1-5",
    "SDXL": "latent-consistency/lcm-lora-sdxl",
    "SSD-1B": "latent-consistency/lcm-lora-ssd-1b",
}
_HUB = re.compile(r"([\w.-]+/[\w.-]+(?<!\.safetensors))(?:/(.+\.safetensors))?")


@dataclass(frozen=True)
class LoraSpec:
    """An adapter that is asked for: a file, a folder, a hub id, or "lcm-lora"; and how much of it by default."""

    source: str
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_weight(self.source, self.weight)

    @classmethod
    def of(cls, value: str | Path | tuple[str | Path, float]) -> LoraSpec:
        """From "style.safetensors:0.8", a path, or a pair of the two."""
        if isinstance(value, tuple):
            return cls(str(value[0]), value[1])
        source, colon, weight = str(value).rpartition(":")
        try:
            return cls(source, float(weight)) if colon and source else cls(str(value))
        except ValueError as error:
            if isinstance(error, InvalidRequest):
                raise
            return cls(str(value))  # the colon is part of the path


def check_weight(name: str, weight: object) -> float:
    """The weight of an adapter as a number; raises `InvalidRequest`."""
    good = isinstance(weight, (int, float)) and not isinstance(weight, bool) and math.isfinite(weight)
    if not good or not -MAX_WEIGHT <= weight <= MAX_WEIGHT:  # type: ignore[operator]
        raise InvalidRequest(f"the weight of {name} is {weight!r}; it must be a number from {-MAX_WEIGHT:g} to 10")
    return float(weight)  # type: ignore[arg-type]


class Based(Protocol):
    """A model, by its name and the family of its base."""

    @property
    def name(self) -> str: ...

    @property
    def base(self) -> str: ...


def find_lora(source: str, model: Based) -> LoraFile:
    """Read the adapter that a file, a folder, a hub id, "lcm-lora" (the published one for this base) or the name of one
    that comes with the starter names."""
    if source == "lcm-lora":
        family = model.base
        if family not in _PUBLISHED:
            raise ModelNotFound(
                f"there is no published LCM-LoRA for {model.name}, {family}: those are for {', '.join(_PUBLISHED)}"
            )
        source = _PUBLISHED[family]
    if source in ADAPTERS:
        return LoraFile.read(ADAPTERS[source], reference=source)
    check_there(source)
    path = Path(source).expanduser()
    if path.exists():
        return LoraFile.read(path)
    found = _HUB.fullmatch(source)
    assert found
    return LoraFile.read(_download(*found.groups()), reference=source, published=source in _PUBLISHED.values())


def check_there(source: str) -> None:
    """Raises `ModelNotFound` for what is neither a built-in adapter, nor here, nor can be on the hub."""
    if source in ("lcm-lora", *ADAPTERS) or Path(source).expanduser().exists() or _HUB.fullmatch(source):
        return
    known = ", ".join(ADAPTERS)
    raise ModelNotFound(f"no LoRA {source!r}: give a .safetensors file, a hub id (owner/name), or {known}")


def _download(repository: str, file: str | None) -> Path:
    return fetch_file(repository, file or "pytorch_lora_weights.safetensors", "LoRA")


def fetch_file(repository: str, name: str, what: str) -> Path:
    """One file of a hub repository, from there or from the cache; raises `ModelNotFound`.

    what  it is, in the messages: "LoRA"
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        return Path(hf_hub_download(repository, name))
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ModelNotFound(f"no {what} {repository!r}: no such file here and no such repository on the hub") from error
    except (LocalEntryNotFoundError, OSError) as error:
        if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
            raise ModelNotFound(f"{repository} has no {name}; give {repository}/FILE.safetensors") from error
        raise ModelNotFound(
            f"no {what} {repository!r}: no such file here, not in the local cache, and the hub cannot be reached "
            f"({type(error).__name__}); go online, or give a file"
        ) from error
