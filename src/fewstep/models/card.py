"""The model card: what a model is, what it was distilled from and how it wants to be sampled (`fewstep.json`)."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fewstep.errors import InvalidModel

Kind = Literal["lcm", "diffusion"]
KINDS: tuple[Kind, ...] = ("lcm", "diffusion")
SAMPLERS = ("lcm", "tcd")  # of a consistency model
FILE = "fewstep.json"


@dataclass(frozen=True)
class ModelCard:
    """A card; the weights lie beside it.

    kind                      "lcm" (a consistency model, one to eight steps) or "diffusion" (its teacher)
    steps, guidance_scale     what is used when nothing is asked for; Imagen's scale, 1 = no guidance
    w_range                   the w = guidance_scale - 1 seen in distillation; None: not recorded
    prediction_type           what the network predicts (diffusers' names)
    original_inference_steps  size of the grid of times that the model was distilled on
    timestep_scaling          s in the boundary scalings c_skip, c_out
    sampler, gamma, phases    how a consistency model walks: "lcm", or "tcd" with its gamma along trajectories that were
                              distilled in so many phases
    teacher, data, licences   where it comes from
    measured                  numbers, each under the name of the command or document that made it
    shared                    a folder, relative to this one, with the parts that this one lacks
    """

    name: str
    kind: Kind
    steps: int
    guidance_scale: float
    w_range: tuple[float, float] | None = None
    prediction_type: str = "v_prediction"
    original_inference_steps: int = 50
    timestep_scaling: float = 10.0
    sampler: str = "lcm"
    gamma: float = 0.3
    phases: int = 1
    teacher: str | None = None
    data: tuple[str, ...] = ()
    licences: tuple[str, ...] = ()
    measured: dict[str, Any] = field(default_factory=dict)
    shared: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InvalidModel(f"the model card's kind is {self.kind!r}; it must be one of {', '.join(KINDS)}")
        if not isinstance(self.steps, int) or self.steps < 1:
            raise InvalidModel(f"the model card's steps are {self.steps!r}; they must be a number from 1 up")
        if not isinstance(self.guidance_scale, (int, float)) or not math.isfinite(self.guidance_scale):
            raise InvalidModel(f"the model card's guidance_scale is {self.guidance_scale!r}; it must be a number")
        if self.sampler not in SAMPLERS or not 0 <= self.gamma <= 1 or self.phases < 1:
            raise InvalidModel(
                f"the model card's sampler is {self.sampler!r} with gamma {self.gamma!r} and {self.phases!r} phases; "
                f"it must be one of {', '.join(SAMPLERS)}, with gamma from 0 to 1 and phases from 1 up"
            )
        if self.w_range is not None and (len(self.w_range) != 2 or not self.w_range[0] <= self.w_range[1]):
            raise InvalidModel(f"the model card's w_range is {self.w_range!r}; it must be two numbers, the lower first")

    def write(self, folder: Path) -> Path:
        """Write `fewstep.json` into `folder`."""
        path = folder / FILE
        path.write_text(json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        return path

    def to_markdown(self) -> str:
        """The card for people: the README.md of the model's folder."""
        about = {"lcm": "a latent consistency model", "diffusion": "a latent diffusion model"}[self.kind]
        w = "" if self.w_range is None else f", distilled for {self.w_range[0] + 1:g} to {self.w_range[1] + 1:g}"
        facts = [
            f"Steps: {self.steps} by default",
            f"Guidance scale: {self.guidance_scale:g} by default{w}",
            f"Predicts: {self.prediction_type}",
        ]
        if self.kind == "lcm" and self.sampler == "tcd":
            phased = f", {self.phases} phases" if self.phases > 1 else ""
            facts.append(f"Sampler: tcd (diffusers' TCDScheduler) with gamma (eta) {self.gamma:g}{phased}")
        if self.teacher:
            facts.append(f"Distilled from: {self.teacher}, on {self.original_inference_steps} times")
        sections = {
            "": facts,
            "Data": list(self.data),
            "Licences": list(self.licences),
            "Measured": [f"{name}: {value}" for name, value in self.measured.items()],
        }
        lines = [f"# {self.name}", "", f"{self.name} is {about}, made and used with fewstep.", ""]
        for title, items in sections.items():
            if items:
                lines += [f"## {title}", ""] if title else []
                lines += [*(f"- {item}" for item in items), ""]
        return "\n".join(lines)

    @classmethod
    def read(cls, folder: Path) -> ModelCard:
        """Read `fewstep.json` from `folder`; raises `InvalidModel` when it is not a card."""
        path = folder / FILE
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(values, dict):
                raise TypeError("it holds no JSON object")
            known = {f.name for f in dataclasses.fields(cls)}
            if unknown := sorted(set(values) - known):
                raise InvalidModel(f"{path}: unknown fields {', '.join(unknown)}; is it from a newer fewstep?")
            for name in ("w_range", "data", "licences"):
                if values.get(name) is not None:
                    values[name] = tuple(values[name])
            return cls(**values)
        except (OSError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise InvalidModel(f"{path} is not a model card: {error}") from error
