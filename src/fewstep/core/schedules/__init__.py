"""The schedules, one file each: DDPM's table, rectified flow, TrigFlow."""

from __future__ import annotations

import torch

from fewstep.core.schedule import Schedule
from fewstep.core.schedule_config import Betas, Flow, ScheduleConfig, Table, Trig
from fewstep.core.schedules.discrete import BETA_KINDS, CLEAN, DiscreteSchedule
from fewstep.core.schedules.rectified_flow import RectifiedFlow, ShiftBySize
from fewstep.core.schedules.trig_flow import TrigFlow

__all__ = ["BETA_KINDS", "CLEAN", "DiscreteSchedule", "RectifiedFlow", "ShiftBySize", "TrigFlow", "from_config"]


def from_config(config: ScheduleConfig) -> Schedule:
    """The inverse of `Schedule.to_config`. Raises ValueError for a dictionary that it did not write."""
    keys = config.keys()
    if "kind" in config and keys == Betas.__required_keys__:
        return DiscreteSchedule.from_betas(**config)
    if "alphas_cumprod" in config and keys == Table.__required_keys__:
        return DiscreteSchedule.from_alphas_cumprod(torch.tensor(config["alphas_cumprod"], dtype=torch.float64))
    if "by_size" in config and keys == Flow.__required_keys__ and config["process"] == "rectified_flow":
        by_size = None if config["by_size"] is None else ShiftBySize(**config["by_size"])
        return RectifiedFlow(config["shift"], by_size, config["time_scale"])
    if "sigma_data" in config and keys == Trig.__required_keys__ and config["process"] == "trigflow":
        return TrigFlow(config["sigma_data"])
    raise ValueError(
        "a schedule's config holds the arguments of `from_betas`, or 'alphas_cumprod', or a 'process' "
        f"(rectified_flow, trigflow) with its arguments; got the keys {sorted(keys)}"
    )
