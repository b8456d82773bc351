"""The schedules, one file each: DDPM's table, rectified flow, TrigFlow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from fewstep.core.schedule import Schedule
from fewstep.core.schedules.discrete import BETA_KINDS, CLEAN, DiscreteSchedule
from fewstep.core.schedules.rectified_flow import RectifiedFlow, ShiftBySize
from fewstep.core.schedules.trig_flow import TrigFlow

__all__ = ["BETA_KINDS", "CLEAN", "DiscreteSchedule", "RectifiedFlow", "ShiftBySize", "TrigFlow", "from_config"]


def from_config(config: Mapping[str, Any]) -> Schedule:
    """The inverse of `Schedule.to_config`. Raises ValueError for a dictionary that it did not write."""
    match sorted(config):
        case ["beta_end", "beta_start", "kind", "num_train_timesteps", "rescale_zero_terminal_snr"]:
            return DiscreteSchedule.from_betas(**config)
        case ["alphas_cumprod"]:
            alphas_cumprod = torch.tensor(config["alphas_cumprod"], dtype=torch.float64)
            return DiscreteSchedule.from_alphas_cumprod(alphas_cumprod)
        case ["by_size", "process", "shift", "time_scale"] if config["process"] == "rectified_flow":
            by_size = None if config["by_size"] is None else ShiftBySize(**config["by_size"])
            return RectifiedFlow(config["shift"], by_size, config["time_scale"])
        case ["process", "sigma_data"] if config["process"] == "trigflow":
            return TrigFlow(config["sigma_data"])
        case keys:
            raise ValueError(
                "a schedule's config holds the arguments of `from_betas`, or 'alphas_cumprod', or a 'process' "
                f"(rectified_flow, trigflow) with its arguments; got the keys {keys}"
            )
