"""A schedule in JSON's types, as `Schedule.to_config` writes it and `schedules.from_config` reads it."""

from __future__ import annotations

from typing import Literal, TypedDict, final


@final
class Betas(TypedDict):
    """The arguments of `DiscreteSchedule.from_betas`."""

    kind: str
    beta_start: float
    beta_end: float
    num_train_timesteps: int
    rescale_zero_terminal_snr: bool


@final
class Table(TypedDict):
    """alpha_t^2 for t = 0 .. T-1."""

    alphas_cumprod: list[float]


class SizeShift(TypedDict):
    """The arguments of `ShiftBySize`."""

    base_shift: float
    max_shift: float
    base_image_seq_len: int
    max_image_seq_len: int
    time_shift_type: str


@final
class Flow(TypedDict):
    """Of `RectifiedFlow`."""

    process: Literal["rectified_flow"]
    shift: float
    by_size: SizeShift | None
    time_scale: float


@final
class Trig(TypedDict):
    """Of `TrigFlow`."""

    process: Literal["trigflow"]
    sigma_data: float


ScheduleConfig = Betas | Table | Flow | Trig
