"""What PEFT's config says of an adapter, beside its tensors."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fewstep.errors import InvalidModel
from fewstep.files import Json

PEFT_ALPHA = 8.0  # PEFT's own, where its config leaves alpha out
_MAX_PATTERN = 300  # letters of a pattern that a file brings
_COSTLY = re.compile(r"\)[*+?{]|([*+{].*){4}")  # patterns that may take for ever


@dataclass(frozen=True)
class PeftConfig:
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
    def of(cls, values: Mapping[str, Json], file: Path) -> PeftConfig:
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
