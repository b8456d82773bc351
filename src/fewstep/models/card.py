"""The model card (`fewstep.json`): what a model is, where it comes from, and what files of others do not say of it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fewstep.core.profile import Facts, SamplingProfile
from fewstep.core.samplers import SAMPLERS
from fewstep.errors import InvalidModel

FILE = "fewstep.json"


class CardFacts(Facts, total=False):
    """What a card says of sampling.

    `prediction_type` and the two numbers of the grid are copies, for older versions: their home is the scheduler's
    config (`models.profile`).
    """

    prediction_type: str


@dataclass(frozen=True)
class ModelCard:
    """What a model is and where it comes from; how it is sampled is its `SamplingProfile`.

    teacher, data, licences   where it comes from
    measured                  numbers, each under the name of the command or document that made it
    shared                    a folder, relative to the model's, with the parts that its own lacks
    """

    name: str
    teacher: str | None = None
    data: tuple[str, ...] = ()
    licences: tuple[str, ...] = ()
    measured: Mapping[str, object] = field(default_factory=dict)
    shared: str | None = None

    def to_markdown(self, profile: SamplingProfile) -> str:
        """The card for people: the README.md of the model's folder."""
        about = {"lcm": "a latent consistency model", "diffusion": "a latent diffusion model"}[profile.kind]
        w_range = profile.guidance.w_range
        w = "" if w_range is None else f", distilled for {w_range[0] + 1:g} to {w_range[1] + 1:g}"
        facts = [
            f"Steps: {profile.steps} by default",
            f"Guidance scale: {profile.guidance.scale:g} by default{w}",
            f"Predicts: {profile.prediction.name}",
        ]
        if profile.sampler == "tcd":
            phased = f", {profile.phases} phases" if profile.phases > 1 else ""
            facts.append(f"Sampler: tcd (diffusers' TCDScheduler) with gamma (eta) {profile.gamma:g}{phased}")
        elif profile.is_flow and profile.kind == "lcm":
            facts.append(f"Sampler: {profile.sampler} (diffusers' {SAMPLERS[profile.sampler].scheduler})")
        if self.teacher:
            facts.append(f"Distilled from: {self.teacher}, on {profile.grid.original_inference_steps} times")
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


def read_card(folder: Path) -> tuple[ModelCard | None, CardFacts]:
    """`fewstep.json` in `folder`: the card, and what it says of sampling; (None, {}) where there is none.

    Raises `InvalidModel` when it is not a card.
    """
    path = folder / FILE
    if not path.is_file():
        return None, {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise TypeError("it holds no JSON object")
        identity = {each.name for each in dataclasses.fields(ModelCard)}
        if unknown := sorted(set(values) - identity - CardFacts.__annotations__.keys()):
            raise InvalidModel(f"{path}: unknown fields {', '.join(unknown)}; is it from a newer fewstep?")
        if missing := sorted({"name", "kind", "steps", "guidance_scale"} - set(values)):
            raise TypeError(f"it lacks {', '.join(missing)}")
        about = {name: values.pop(name) for name in identity & set(values)}
        about |= {name: tuple(about[name] or ()) for name in ("data", "licences") if name in about}
        facts: CardFacts = values  # type: ignore[assignment]
        return ModelCard(**about), facts
    except (OSError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InvalidModel(f"{path} is not a model card: {error}") from error


def write_card(folder: Path, card: ModelCard, profile: SamplingProfile) -> Path:
    """Write `fewstep.json` into `folder`: flat, as every version reads it."""
    path = folder / FILE
    facts: CardFacts = {**profile.facts(), "prediction_type": profile.prediction.name}
    if profile.kind == "diffusion":
        facts["sampler"] = "lcm"  # older versions read no other names than a consistency model's
    about = dataclasses.asdict(card)
    values = {"name": about.pop("name"), **facts, **about}
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path
