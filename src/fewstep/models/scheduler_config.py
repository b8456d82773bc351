"""What a diffusers `scheduler_config.json` says about a model: its noise schedule and its times."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from fewstep.core.schedule import Schedule
from fewstep.errors import InvalidModel

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")


@dataclass(frozen=True)
class SchedulerSettings:
    """The facts of a scheduler that belong to the model and not to the way it is sampled.

    consistency       the folder's scheduler is LCM's or TCD's
    spacing, offset   how diffusers spreads N times over 0..T-1 for this model's ODE
    final_timestep    where its DDIM ends: -1 clean data, 0 the first row of the table (`set_alpha_to_one=False`)
    """

    schedule: Schedule
    prediction_type: str
    consistency: bool
    original_inference_steps: int
    timestep_scaling: float
    spacing: str
    offset: int
    final_timestep: int

    def to_config(self) -> dict[str, Any]:
        """A scheduler's config that says the same; for models that were read from one file, without a config.

        Raises `InvalidModel` for a schedule that is no table of betas.
        """
        betas = self.schedule.to_config()
        if "kind" not in betas:
            raise InvalidModel("this schedule is not made of betas, and diffusers' schedulers know no other")
        return {
            "_class_name": "LCMScheduler" if self.consistency else "DDIMScheduler",
            "num_train_timesteps": betas["num_train_timesteps"],
            "beta_start": betas["beta_start"],
            "beta_end": betas["beta_end"],
            "beta_schedule": betas["kind"],
            "rescale_betas_zero_snr": betas["rescale_zero_terminal_snr"],
            "prediction_type": self.prediction_type,
            "clip_sample": False,
            "set_alpha_to_one": self.final_timestep == -1,
            "steps_offset": self.offset,
            "timestep_spacing": self.spacing,
        }

    @property
    def zero_snr(self) -> bool:
        """Whether it is a table of betas that was rescaled to end in pure noise."""
        return bool(self.schedule.to_config().get("rescale_zero_terminal_snr", False))

    def with_zero_snr(self, wanted: bool) -> SchedulerSettings:
        """On betas that end in pure noise, or on those before they were rescaled to (2305.08891).

        Raises `InvalidModel` for a schedule that is no table of betas.
        """
        config = self.schedule.to_config()
        if "kind" not in config:
            raise InvalidModel("this schedule is not made of betas, so its end cannot be changed (zero terminal SNR)")
        rescaled = Schedule.from_config(config | {"rescale_zero_terminal_snr": wanted})
        return dataclasses.replace(self, schedule=rescaled)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> SchedulerSettings:
        """Read a scheduler's config; absent keys get diffusers' defaults."""
        prediction_type = config.get("prediction_type", "epsilon")
        if prediction_type not in PREDICTION_TYPES:
            raise InvalidModel(
                f"the scheduler's prediction_type is {prediction_type!r}; fewstep knows {', '.join(PREDICTION_TYPES)}"
            )
        return cls(
            schedule=_schedule(config),
            prediction_type=prediction_type,
            consistency=config.get("_class_name") in ("LCMScheduler", "TCDScheduler"),
            original_inference_steps=config.get("original_inference_steps", 50),
            timestep_scaling=config.get("timestep_scaling", 10.0),
            spacing=config.get("timestep_spacing", "leading"),
            offset=config.get("steps_offset", 0),
            final_timestep=-1 if config.get("set_alpha_to_one", True) else 0,
        )


def _schedule(config: Mapping[str, Any]) -> Schedule:
    if config.get("trained_betas") is not None:
        betas = torch.tensor(config["trained_betas"], dtype=torch.float64)
        return Schedule.from_alphas_cumprod(torch.cumprod(1.0 - betas, dim=0))
    if "beta_schedule" not in config:
        raise InvalidModel(
            f"the scheduler {config.get('_class_name', '(unnamed)')} has no table of betas; "
            "fewstep samples models with DDPM schedules (Stable Diffusion and its kin)"
        )
    try:
        return Schedule.from_betas(
            kind=config["beta_schedule"],
            beta_start=config["beta_start"],
            beta_end=config["beta_end"],
            num_train_timesteps=config["num_train_timesteps"],
            rescale_zero_terminal_snr=config.get("rescale_betas_zero_snr", False),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidModel(f"the scheduler's betas cannot be read: {error}") from error
