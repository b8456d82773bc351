"""Variants of a part's weights, as diffusers saves them: `diffusion_pytorch_model.fp16.safetensors`."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fewstep.errors import FewstepWarning, InvalidModel

if TYPE_CHECKING:
    import torch

_FILE = re.compile(
    r"(?:diffusion_pytorch_model|model)(?:\.(?P<before>\w+))?(?:-\d{5}-of-\d{5})?(?:\.(?P<after>\w+))?\.safetensors"
)
HUB_PATTERNS = ("*.fp16*", "*.bf16*", "*.fp32*", "*non_ema*", "*ema_only*")  # left on the hub where plain weights are
FITTING: Mapping[str, Sequence[str]] = {  # the variants that fit a precision, the best first
    "float16": ("fp16", "bf16", "fp32"),
    "bfloat16": ("bf16", "fp16", "fp32"),
    "float32": ("fp32", "fp16", "bf16"),
}


def variants_in(part: Path) -> dict[str | None, tuple[Path, ...]]:
    """The weight files of a part by their variant, whole or in shards; None for those that are of none."""
    found: dict[str | None, list[Path]] = {}
    for path in sorted(part.glob("*.safetensors")):
        if name := _FILE.fullmatch(path.name):
            found.setdefault(name["before"] or name["after"], []).append(path)
    return {variant: tuple(files) for variant, files in found.items()}


def chosen_variant(part: Path, dtype: torch.dtype | None, wanted: str | None = None) -> str | None:
    """The variant that a part is read from: the one `wanted` where it has that, the plain weights, the only one, or of
    several the one that fits `dtype`.

    Raises `InvalidModel` where nothing fits.
    """
    here = variants_in(part)
    if wanted is not None and wanted in here:
        return wanted
    if None in here or not here:
        return None
    names = sorted(str(each) for each in here)
    if wanted is not None:
        raise InvalidModel(f"{part} has no weights of the variant {wanted!r}; it has {', '.join(names)}")
    fitting = [name for name in FITTING[name_of_dtype(dtype)] if name in here]
    if len(here) > 1 and not fitting:
        raise InvalidModel(f"{part} has weights of the variants {', '.join(names)}: choose one with --variant")
    return fitting[0] if len(here) > 1 else names[0]


def announce(folder: Path, taken: Iterable[str | None]) -> None:
    """Say which variants of `folder` were taken, where none was asked for."""
    if names := sorted({str(each) for each in taken if each is not None}):
        warnings.warn(
            f"{folder} has its weights in the variant {', '.join(names)}, which is taken", FewstepWarning, stacklevel=3
        )


def name_of_dtype(dtype: torch.dtype | None) -> str:
    """ "float16", …; float32 for None."""
    return "float32" if dtype is None else str(dtype).removeprefix("torch.")
