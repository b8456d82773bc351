"""The tensors of one layer in an adapter's file, and the change that they mean."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewstep.errors import InvalidModel
from fewstep.models.adapters.lora.changes import (
    Change,
    DoraLayer,
    FullLayer,
    InputOftLayer,
    LohaLayer,
    LokrLayer,
    LoraLayer,
    OftLayer,
)

PEFT_ALPHA = 8.0  # PEFT's own, where its config leaves alpha out
_MAX_PATTERN = 300  # letters of a pattern that a file brings
_COSTLY = re.compile(r"\)[*+?{]|([*+{].*){4}")  # patterns that may take for ever


@dataclass(frozen=True)
class AdapterConfig:
    """What PEFT's config says of a network's layers beside their tensors.

    alpha     of every layer, where `alphas`, by patterns of layers' names, says nothing; None: the rank
    rslora    whether the scale is alpha / sqrt(rank) in place of alpha / rank (2312.03732)
    rank      that PEFT scales by where no tensor has one
    terms     of the series for OFT's rotations; 0: exact
    """

    alpha: float | None = None
    alphas: Mapping[str, float] = field(default_factory=dict)
    rslora: bool = False
    terms: int = 5
    rank: int | None = None

    @classmethod
    def of(cls, values: Mapping[str, Any], file: Path) -> AdapterConfig:
        """Raises `InvalidModel` for values that cannot be."""
        alpha = values.get("lora_alpha", values.get("alpha", PEFT_ALPHA if values else None))
        patterns = values.get("alpha_pattern") or {}
        if not isinstance(patterns, dict):
            raise InvalidModel(f"{file}: its config says alpha_pattern = {patterns!r}; it must be an object")
        for pattern in patterns:
            _check_pattern(pattern, file)
        if values.get("coft"):
            raise InvalidModel(f"{file} is a constrained OFT (coft) of PEFT's, which fewstep cannot apply")
        exact = values.get("use_cayley_neumann") is False
        terms = values.get("num_cayley_neumann_terms") or 5
        rank = values.get("r") if values.get("peft_type") == "LOKR" else None
        return cls(
            alpha=None if alpha is None else _number("lora_alpha", alpha, file),
            alphas={pattern: _number("alpha_pattern", value, file) for pattern, value in patterns.items()},
            rslora=bool(values.get("use_rslora")),
            terms=0 if exact else int(_number("num_cayley_neumann_terms", terms, file)),
            rank=None if rank is None else int(_number("r", rank, file)),
        )

    def alpha_of(self, layer: str, rank: int) -> float:
        """The layer's own, the adapter's, or, where nothing is said, the rank: a scale of one. For rank-stabilised ones
        the alpha that means the same over the rank.
        """
        own = (alpha for pattern, alpha in self.alphas.items() if re.match(rf"(.*\.)?({pattern})$", layer))
        alpha = next(own, self.alpha)
        if alpha is None:
            return float(rank)
        return alpha * math.sqrt(rank) if self.rslora else alpha


def _number(name: str, value: object, file: Path) -> float:
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not good:
        raise InvalidModel(f"{file}: its config says {name} = {value!r}; it must be a number")
    return float(value)  # type: ignore[arg-type]


def _check_pattern(pattern: str, file: Path) -> None:
    try:
        re.compile(pattern)
        good = len(pattern) <= _MAX_PATTERN and not _COSTLY.search(pattern)
    except re.error:
        good = False
    if not good:
        raise InvalidModel(
            f"{file}: its config has an alpha_pattern for {pattern[:60]!r}, which is no pattern of a name"
        )


def read_change(tensors: Mapping[str, Tensor], config: AdapterConfig, layer: str, file: Path) -> Change:
    """The change that the tensors of `layer`, by the names of `LoraKey.tensor`, mean.

    Raises `InvalidModel` where some are missing, of no shape that belongs together, or not finite.
    """
    alpha = tensors.get("alpha")
    if alpha is not None and (alpha.numel() != 1 or not alpha.isfinite().all()):
        raise InvalidModel(f"{file} is damaged: {layer} has an alpha that is no number")
    said = None if alpha is None else float(alpha)
    if any(not tensor.numel() or (not tensor.ndim and name != "alpha") for name, tensor in tensors.items()):
        raise InvalidModel(f"{file} is damaged: {layer} has a tensor without numbers")
    change = _plain(tensors, said, config, layer, file)
    if (vector := tensors.get("lora_magnitude_vector")) is not None:
        return DoraLayer(change, vector.reshape(-1, 1))
    if (magnitude := tensors.get("dora_scale")) is not None:
        return DoraLayer(change, magnitude if magnitude.ndim > 1 else magnitude.reshape(-1, 1))
    return change


def _plain(tensors: Mapping[str, Tensor], alpha: float | None, config: AdapterConfig, layer: str, file: Path) -> Change:
    def scale(rank: int) -> float:
        return (config.alpha_of(layer, rank) if alpha is None else alpha or rank) / rank

    if "down" in tensors or "up" in tensors:
        return _lora(tensors, alpha, config, layer, file)
    if (blocks := tensors.get("oft_blocks")) is not None:
        square = blocks.ndim in (3, 4) and blocks.shape[-1] == blocks.shape[-2]
        if not square or (blocks.ndim == 4 and blocks.shape[-1] % 2):
            raise InvalidModel(f"{file} is damaged: the oft_blocks of {layer} are no square blocks")
        return OftLayer(blocks, alpha or 0.0, tensors.get("rescale"))
    if (triangles := tensors.get("oft_R")) is not None:
        rotation = InputOftLayer(triangles, config.terms) if triangles.ndim == 2 else None
        if rotation is None or rotation.rank * (rotation.rank - 1) != 2 * triangles.shape[1]:
            raise InvalidModel(f"{file} is damaged: the oft_R of {layer} are no triangles of square blocks")
        return rotation
    if (difference := tensors.get("diff")) is not None:
        return FullLayer(difference)
    if {f"hada_w{n}_{letter}" for n in "12" for letter in "ab"} <= set(tensors):
        factors = {name.removeprefix("hada_"): x for name, x in tensors.items() if name.startswith("hada_")}
        return LohaLayer(scale=scale(len(factors["w1_b"])), **factors)
    factors = {name.removeprefix("lokr_"): x for name, x in tensors.items() if name.startswith("lokr_")}
    if all(each in factors or {f"{each}_a", f"{each}_b"} <= set(factors) for each in ("w1", "w2")):
        whole = LokrLayer(1.0, **factors)
        if whole.rank is None:  # LyCORIS scales only what has a rank, PEFT by the rank of its config
            return whole if config.rank is None else LokrLayer(scale(config.rank), **factors)
        return LokrLayer(scale(whole.rank), **factors)
    raise InvalidModel(f"{file} is damaged: {layer} has only {', '.join(sorted(tensors))}")


def _lora(
    tensors: Mapping[str, Tensor], alpha: float | None, config: AdapterConfig, layer: str, file: Path
) -> LoraLayer:
    down, up, middle = (tensors.get(name) for name in ("down", "up", "mid"))
    whole = down is not None and up is not None and down.ndim > 1 and up.ndim > 1 and len(down) == up.shape[1] > 0
    if not whole or (middle is not None and tuple(middle.shape[:2]) != (len(down),) * 2):  # type: ignore[arg-type]
        raise InvalidModel(f"{file} is damaged: {layer} needs a down and an up matrix of equal rank")
    assert down is not None
    assert up is not None
    if middle is not None:  # a core between them, as LyCORIS has it for convolutions: part of the way down
        down = torch.einsum("ij...,jc->ic...", middle.float(), down.float().flatten(1)).to(down.dtype)
    return LoraLayer(down, up, config.alpha_of(layer, len(down)) if alpha is None else alpha)
