"""A whole model in one file: what it states of itself, and what is in it; formats are found among the families."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from fewstep.files import Json
from fewstep.models.config import Config
from fewstep.models.families.base import Family
from fewstep.models.stated import Stated
from fewstep.models.tensor_file import Header
from fewstep.models.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Checkpoint:
    """What a file with a whole model states, without its tensors being read.

    family    where its published shapes are known
    in_words  the family, also where they are not
    few_step, prediction, zero_snr  what it is, how it is sampled, and what says so
    """

    path: Path
    family: Family | None
    in_words: str
    embeds_w: bool
    has_autoencoder: bool
    few_step: Stated[bool]
    prediction: Stated[str]
    zero_snr: Stated[bool]

    @property
    def said_of_schedule(self) -> dict[str, Json]:
        """What the file itself says of a scheduler's config, and wins over a folder's that it is said to go with; its
        name does not.
        """
        facts: dict[str, Stated[str] | Stated[bool]] = {
            "prediction_type": self.prediction,
            "rescale_betas_zero_snr": self.zero_snr,
        }
        return {name: fact.value for name, fact in facts.items() if fact.by not in ("shapes", "name")}


@dataclass(frozen=True, eq=False)
class Unpacked:
    """A file's networks and tokenizers by the folders that they would lie in, with what would lie beside them.

    configs  of the networks, also of those that were left out
    index    the content of model_index.json
    """

    checkpoint: Checkpoint
    family: Family
    networks: Mapping[str, nn.Module]
    tokenizers: Mapping[str, Tokenizer]
    configs: Mapping[str, Config]
    scheduler: Config
    index: Config


class FileFormat(Protocol):
    """How some program writes whole models; a module in families/ lists its own as `FORMATS`."""

    def reads(self, header: Header) -> bool: ...

    def checkpoint(self, path: Path, header: Header) -> Checkpoint:
        """Raises `InvalidModel` for what cannot be used."""
        ...

    def unpack(
        self,
        checkpoint: Checkpoint,
        config: Path | None,
        dtype: torch.dtype,
        *,
        with_autoencoder: bool,
        with_network: bool,
    ) -> Unpacked:
        """Raises `InvalidModel`, and `ModelNotFound` where a vocabulary is out of reach.

        config  a folder with the configs and the tokenizers of the same kind of model; default: by the file's family
        with_autoencoder, with_network  False where another one is used
        """
        ...
