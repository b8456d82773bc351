"""What an objective is: it draws what is random about a batch, asks the networks, and compares their answers.

An objective is a frozen record of settings, and pure: data, networks and randomness are arguments.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Generic, Literal, Protocol, Self, TypeVar

import torch
from torch import Tensor

from fewstep.core.denoise import Denoise, Denoiser
from fewstep.core.guidance import ClassifierFreeGuidance, EmbeddedGuidance
from fewstep.core.objectives.metrics import Metric
from fewstep.core.schedule import Schedule
from fewstep.core.settings import Record

Method = Literal["distill", "finetune", "style"]


class Data(Protocol):
    """Pictures with captions, as far as a draw looks at them."""

    def draw_noise(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Unit noise (B, C, h, w) in the shape of the latents of the pictures (B,) `rows`."""
        ...

    def draw_captions(self, rows: Tensor, generator: torch.Generator, empty: float) -> Tensor:
        """A caption (B,) of each picture, the empty one with probability `empty`."""
        ...


@dataclass(frozen=True, eq=False)
class Draw:
    """All that is random about a batch, on the CPU: drawn for the whole batch, and divided among processes afterwards.

    rows, captions  (B,) int64: the pictures, and the captions that were drawn for them
    times           (B,) or (B, n): times, or their places on a grid, as the objective means them
    noise           (B, C, h, w) unit noise
    w               (B,) guidance in LCM's form (guidance_scale - 1); None without guidance
    u               (B,) in [0, 1), for what else is drawn
    """

    rows: Tensor
    captions: Tensor
    times: Tensor
    noise: Tensor
    w: Tensor | None = None
    u: Tensor | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, part: slice[int, int, int | None]) -> Draw:
        return Draw(**{name: tensor[part] for name, tensor in self.tensors().items()})

    def tensors(self) -> dict[str, Tensor]:
        fields = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        return {name: tensor for name, tensor in fields.items() if tensor is not None}


class Condition(Protocol):
    """What a network is conditioned on; an objective passes it through without looking inside."""

    def repeat(self, n: int, /) -> Self:
        """All rows, `n` times over."""
        ...


Cond = TypeVar("Cond", bound=Condition)


@dataclass(frozen=True, eq=False)
class Batch(Generic[Cond]):
    """What a loss is computed of: a draw, or a part of one, with its data, on the device of the networks.

    x_0           (B, C, h, w) latents of pictures
    noise, w, u, times  as in `Draw`; times and u stay on the CPU, where times are computed
    cond, uncond  of the captions, and of the empty caption, for as many rows; uncond None where nothing is guided
    """

    x_0: Tensor
    noise: Tensor
    times: Tensor
    cond: Cond
    uncond: Cond | None = None
    w: Tensor | None = None
    u: Tensor | None = None

    @property
    def guidance(self) -> float | Tensor:
        """w, or the number 0 where there is no guidance, which spends no second call of a teacher."""
        return 0.0 if self.w is None else self.w


@dataclass(frozen=True, eq=False)
class Networks(Generic[Cond]):
    """Who is asked. Only the student has a gradient.

    student   in training: x_0 from x_t
    schedule  of all of them
    target    what the student is held against at an earlier time; None: the student itself
    teacher   a diffusion model, unguided; None where there is none
    guidance  what w adds to x_0 in the model as it was before fine-tuning; None where w adds nothing
    reads_w   whether w is an input of the teacher's network, into which its guidance was distilled
    """

    student: Denoiser[Cond]
    schedule: Schedule
    target: Denoise[Cond] | None = None
    teacher: Denoise[Cond] | None = None
    guidance: Denoise[Cond] | None = None
    reads_w: bool = False

    def guided(self, batch: Batch[Cond]) -> Denoise[Cond]:
        """The teacher with the guidance of the batch. Raises ValueError without one, or nothing to guide away from."""
        if self.teacher is None:
            raise ValueError("a distillation needs a teacher")
        if self.reads_w:
            return EmbeddedGuidance(self.teacher, batch.guidance)
        if batch.w is None:
            return self.teacher
        if batch.uncond is None:
            raise ValueError("guidance needs the conditioning of the empty caption")
        return ClassifierFreeGuidance(self.teacher, batch.uncond, batch.w)


@dataclass(frozen=True, eq=False)
class Loss:
    """loss: the mean of per_sample (B,), both with gradient; prediction, target (B, ...): the compared.

    t  (B,), on the CPU: the time of each sample
    """

    loss: Tensor
    per_sample: Tensor
    prediction: Tensor
    target: Tensor
    t: Tensor


def compared(prediction: Tensor, target: Tensor, metric: Metric, t: Tensor) -> Loss:
    """The metric's mean over the samples."""
    per_sample = metric(prediction, target)
    return Loss(per_sample.mean(), per_sample, prediction, target, t)


class Objective(Record, Protocol):
    """One way to train: a frozen dataclass of settings.

    name    what a config calls it
    method  the command that trains by it
    """

    name: ClassVar[str]
    method: ClassVar[Method]

    def draw(self, rows: Tensor, data: Data, schedule: Schedule, generator: torch.Generator) -> Draw:
        """All that is random about the batch of the pictures (B,) `rows`."""
        ...

    def loss(self, networks: Networks[Cond], batch: Batch[Cond]) -> Loss:
        """What the networks answer, compared; with gradient for the student alone."""
        ...
