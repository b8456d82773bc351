"""What is asked of a network, and how many asks are answered by one call of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Generic, Self, TypeAlias, TypeVar

import torch
from torch import Tensor

from fewstep.core.tiling import Span
from fewstep.models.conditioning import Conditioning
from fewstep.models.latent_model import LatentModel


class Call(IntEnum):
    """What is asked, in the order of answering: what lets a picture leave goes first."""

    DECODE = 0
    ENCODE_TEXT = 1
    ENCODE_IMAGES = 2
    DENOISE = 3


Answer: TypeAlias = Tensor | Conditioning
Own = TypeVar("Own", bound=Answer, covariant=True)  # the answer of one kind of ask


@dataclass(frozen=True, eq=False)
class Ask(ABC, Generic[Own]):
    """One suspended call of `model`. Asks of one model and of equal `key` can be answered together; `rows` is this
    one's share of the batch.
    """

    call: ClassVar[Call]
    model: LatentModel
    key: Hashable
    rows: int

    def goes_with(self, other: Ask[Answer]) -> bool:
        """Whether one call of the network can answer both."""
        return self.model is other.model and (self.call, self.key) == (other.call, other.key)

    @classmethod
    @abstractmethod
    def together(cls, model: LatentModel, asks: Sequence[Self]) -> Sequence[Own]:
        """The answers of asks that go together, in their order, by one call of `model`."""


@dataclass(frozen=True, eq=False)
class Denoise(Ask[Tensor]):
    call = Call.DENOISE
    x_t: Tensor
    times: Tensor
    cond: Conditioning
    w: float | Tensor | None

    @classmethod
    def together(cls, model: LatentModel, asks: Sequence[Self]) -> list[Tensor]:
        scales = [torch.as_tensor(ask.w) for ask in asks if ask.w is not None]  # all have one, or none, by the key
        x_t, times = torch.cat([ask.x_t for ask in asks]), torch.cat([ask.times for ask in asks])
        cond = Conditioning.cat([ask.cond for ask in asks])
        return _shares(model.denoise(x_t, times, cond, torch.cat(scales) if scales else None), asks)


@dataclass(frozen=True, eq=False)
class EncodeText(Ask[Conditioning]):
    call = Call.ENCODE_TEXT
    prompt: str
    lora_weights: tuple[float, ...]

    @classmethod
    def together(cls, model: LatentModel, asks: Sequence[Self]) -> list[Conditioning]:
        cond = model.encode_prompts([ask.prompt for ask in asks], asks[0].lora_weights)  # equal keys, so equal weights
        return [cond[rows] for rows in _slices(asks)]


@dataclass(frozen=True, eq=False)
class EncodeImages(Ask[Tensor]):
    call = Call.ENCODE_IMAGES
    pixels: Tensor

    @classmethod
    def together(cls, model: LatentModel, asks: Sequence[Self]) -> list[Tensor]:
        return _shares(model.encode_images(torch.cat([ask.pixels for ask in asks])), asks)


@dataclass(frozen=True, eq=False)
class Decode(Ask[Tensor]):
    call = Call.DECODE
    latents: Tensor

    @classmethod
    def together(cls, model: LatentModel, asks: Sequence[Self]) -> list[Tensor]:
        return _shares(model.decode(torch.cat([ask.latents for ask in asks])), asks)


@torch.inference_mode()
def answer(asks: Sequence[Ask[Answer]]) -> list[Answer | Exception]:
    """Results of asks that go together, in their order; an exception stands in the place of what failed.

    A batch that fails is tried again in halves, so that one bad row, or a batch too large for the memory, costs no
    other row anything but time.
    """
    try:
        return list(type(asks[0]).together(asks[0].model, asks))
    except Exception as error:
        if len(asks) == 1:
            return [error]
    half = len(asks) // 2
    return [*answer(asks[:half]), *answer(asks[half:])]


def _shares(batch: Tensor, asks: Sequence[Ask[Answer]]) -> list[Tensor]:
    return [batch[rows] for rows in _slices(asks)]


def _slices(asks: Sequence[Ask[Answer]]) -> Iterator[Span]:
    start = 0
    for ask in asks:
        yield slice(start, start + ask.rows)
        start += ask.rows
