"""How a picture was made, carried inside it: enough to make it again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import operator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fewstep
from fewstep.errors import InvalidRequest
from fewstep.imaging.channels import rgba
from fewstep.imaging.inscription import PARAMETERS, RECORD
from fewstep.imaging.reading import read_image
from fewstep.models.precisions import EAGER, FAST, WHOLE
from fewstep.pipelines.fields import FIELDS, Settings, settings_of

if TYPE_CHECKING:
    from PIL.Image import Image

    from fewstep.models.latent_model import LatentModel
    from fewstep.pipelines.plan import Plan

# settings that other programs have names for, or no use; all others stand in the parameters by their titles
SPELT = {"steps", "sampler", "guidance_scale", "width", "height", "strength", "negative_prompt", "variation", "tile"}
SPELT |= {"upscale", "refine_strength", "refine_steps", "precision", "decoder"}


@dataclass(frozen=True)
class UsedLora:
    """An adapter that a picture was made with; `reference` is what finds it elsewhere, None for a file."""

    name: str
    hash: str
    weight: float
    reference: str | None = None


@dataclass(frozen=True)
class UsedEmbedding:
    """A word of its own that a picture was made with; `reference` as of `UsedLora`."""

    word: str
    hash: str
    reference: str | None = None


@dataclass(frozen=True)
class UsedControl:
    """A ControlNet's name, the SHA-256 of the picture that it read, and how far that was followed."""

    name: str
    image: str
    scale: float


@dataclass(frozen=True)
class Travelled:
    """The way of an animation, or of one picture of it.

    stops   (prompt, seed) each
    frames  how many pictures are on the way
    back    whether the animation goes back again
    fps     pictures a second
    frame   the number of the picture on the way, from 0; None: the whole
    """

    stops: tuple[tuple[str, int], ...]
    frames: int
    back: bool = False
    fps: float | None = None
    frame: int | None = None


@dataclass(frozen=True, kw_only=True)
class Record(Settings):
    """The parameters of one picture (of `num_images` from `seed` on, for a contact sheet).

    model      what `load` takes, where that means the same on another machine; None for a folder
    kind, prediction_type, zero_snr, vae, unet  what the model was loaded with in place of what its files say and hold
    loras      the adapters on top of the model
    embeddings  the words of its own
    controls   what ControlNets steered it by
    variation  how far its noise is turned towards that of `variation_seed`
    upscale    how many times larger than width x height it was made, and generated over by `refine_strength`, in
    refine_steps  steps
    tile       whether it was sampled in windows
    source     SHA-256 of the picture it was generated over, with `strength`; `mask`, that of the mask
    travel     of an animation, or of a frame of one; prompt and seed are the first stop's
    backend    what ran the networks; any other makes the same picture, within the tolerance of the precision
    """

    prompt: str
    seed: int
    model: str | None
    model_name: str
    model_hash: str
    kind: str | None = None
    prediction_type: str | None = None
    zero_snr: bool | None = None
    unet: str | None = None
    vae: str | None = None
    num_images: int = 1
    loras: tuple[UsedLora, ...] = ()
    embeddings: tuple[UsedEmbedding, ...] = ()
    controls: tuple[UsedControl, ...] = ()
    timesteps: tuple[float, ...] | None = None
    variation_seed: int | None = None
    source: str | None = None
    mask: str | None = None
    travel: Travelled | None = None
    backend: str = field(default=EAGER, compare=False)
    version: str = fewstep.__version__
    # of its settings, those that every picture has
    steps: int = field()
    guidance_scale: float = field()
    sampler: str = field()
    width: int = field()
    height: int = field()
    precision: str = "float32"
    decoder: str = WHOLE

    @property
    def command(self) -> str:
        """The command that makes it again."""
        return "generate" if self.travel is None else "travel"

    def to_json(self) -> str:
        first = {"prompt": self.prompt, "seed": self.seed}
        return json.dumps(first | dataclasses.asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Record:
        """Raises `InvalidRequest` when the text is not a record."""
        try:
            values = json.loads(text)
            values.setdefault("decoder", FAST if values.get("vae") == FAST else WHOLE)  # older ones do not say it
            values["loras"] = tuple(UsedLora(**lora) for lora in values.get("loras") or ())
            values["embeddings"] = tuple(UsedEmbedding(**each) for each in values.get("embeddings") or ())
            values["controls"] = tuple(UsedControl(**control) for control in values.get("controls") or ())
            values["timesteps"] = tuple(values.get("timesteps") or ()) or None
            values["travel"] = _travelled(values.get("travel"))
            record = cls(**values)
        except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
            raise InvalidRequest(f"the picture's parameters cannot be read: {error}") from error
        texts = ("precision", "decoder", "backend", "model", "kind", "prediction_type", "unet", "vae", "source", "mask")
        if wrong := [name for name in texts if not isinstance(getattr(record, name), (str, type(None)))]:
            raise InvalidRequest(f"the picture's parameters cannot be read: {wrong[0]} must be text")
        if not isinstance(record.zero_snr, (bool, type(None))):
            raise InvalidRequest("the picture's parameters cannot be read: zero_snr must be true or false")
        return record

    def to_parameters(self) -> str:
        """The same for people: prompt, negative prompt, then `name: value` pairs."""
        facts: dict[str, str | float | None] = {
            "Steps": self.steps,
            "Sampler": self.sampler,
            "CFG scale": f"{self.guidance_scale:g}",
            "Seed": self.seed,
            "Size": f"{self.width}x{self.height}",
            "Model hash": self.model_hash,
            "Model": self.model_name,
        }
        if self.loras:
            facts["Lora hashes"] = f'"{", ".join(f"{lora.name}: {lora.hash}" for lora in self.loras)}"'
        if self.embeddings:
            facts["TI hashes"] = f'"{", ".join(f"{each.word}: {each.hash}" for each in self.embeddings)}"'
        if self.timesteps is not None:
            facts["Timesteps"] = " ".join(map(str, self.timesteps))
        if self.strength is not None:
            facts["Denoising strength"] = f"{self.strength:g}"
        if self.variation is not None:
            facts |= {"Variation seed": self.variation_seed, "Variation seed strength": f"{self.variation:g}"}
        if self.upscale is not None:
            facts |= {"Hires upscale": f"{self.upscale:g}", "Hires upscaler": "Lanczos"}
            if self.refine_strength is not None:
                facts.setdefault("Denoising strength", f"{self.refine_strength:g}")
            if self.refine_steps is not None:
                facts["Hires steps"] = self.refine_steps
        if (how := (self.precision, self.decoder, self.backend)) != ("float32", WHOLE, EAGER):
            facts["Computed"] = " ".join(how)
        facts |= {FIELDS[name].title: value for name, value in settings_of(self).items() if name not in SPELT and value}
        if self.travel is not None:
            stops = json.dumps([f"{prompt} ({seed})" for prompt, seed in self.travel.stops], ensure_ascii=False)
            facts |= {"Travel": stops, "Frames": self.travel.frames}
        facts["Version"] = f"fewstep {self.version}"
        lines = [" ".join([self.prompt, *(f"<lora:{lora.name}:{lora.weight:g}>" for lora in self.loras)])]
        if self.negative_prompt:
            lines.append(f"Negative prompt: {self.negative_prompt}")
        return "\n".join([*lines, ", ".join(f"{name}: {value}" for name, value in facts.items())])

    def chunks(self) -> dict[str, str]:
        """The two text chunks of a PNG."""
        return {RECORD: self.to_json(), PARAMETERS: self.to_parameters()}


def describe(model: LatentModel, plan: Plan, index: int, travel: Travelled | None = None) -> dict[str, str]:
    """The chunks of the plan's picture number `index`."""
    drawn = {
        "strength": None if plan.image is None else plan.strength,
        "variation": plan.variation or None,
        "refine_strength": None if plan.refinement is None else plan.refinement.strength,
        "refine_steps": _refine_steps(plan),
    }
    return Record(
        **settings_of(plan) | drawn,
        prompt=plan.prompts[index],
        seed=plan.seeds[index],
        model=model.origin.reference,
        model_name=model.name,
        model_hash=model.origin.hash,
        kind=model.origin.overrides.kind,
        prediction_type=model.origin.overrides.prediction_type,
        zero_snr=model.origin.overrides.zero_snr,
        unet=model.origin.overrides.unet,
        vae=model.origin.overrides.vae,
        loras=_used(model, plan),
        embeddings=_words(model),
        controls=_steering(model, plan),
        timesteps=None if plan.strength is not None else tuple(plan.timesteps.tolist()),
        variation_seed=plan.variation_seeds[index] if plan.variation else None,
        source=None if plan.image is None else image_hash(plan.image),
        mask=None if plan.mask is None else image_hash(plan.mask),
        travel=travel,
        backend=model.at(plan.precision, plan.decoder).backend,
    ).chunks()


def _travelled(value: Any) -> Travelled | None:
    if value is None:
        return None
    stops = tuple((str(prompt), operator.index(seed)) for prompt, seed in value["stops"])
    return Travelled(**value | {"stops": stops, "frames": operator.index(value["frames"])})


def _refine_steps(plan: Plan) -> int | None:
    """Where they are not those of the first round, and times do not say all."""
    if plan.refinement is None or plan.strength is None or plan.refinement.steps == plan.steps:
        return None
    return plan.refinement.steps


def _used(model: LatentModel, plan: Plan) -> tuple[UsedLora, ...]:
    if model.loras is None:
        return ()
    rows = zip(model.loras.names, model.loras.files, plan.lora_weights, strict=True)
    return tuple(UsedLora(name, file.hash, weight, file.reference) for name, file, weight in rows)


def _words(model: LatentModel) -> tuple[UsedEmbedding, ...]:
    words = () if model.embeddings is None else model.embeddings.words
    return tuple(UsedEmbedding(each.word, each.hash, each.reference) for each in words)


def _steering(model: LatentModel, plan: Plan) -> tuple[UsedControl, ...]:
    rows = zip(model.steered_by, plan.controls, strict=False)
    return tuple(UsedControl(name, image_hash(control.image), control.scale) for name, control in rows if control)


def record_of(image: Image) -> Record | None:
    """The record that a picture carries, or None."""
    text = image.info.get(RECORD)
    return Record.from_json(text) if isinstance(text, str) else None


def read_record(path: str | Path) -> Record:
    """The record inside a picture file; raises `InvalidRequest` when there is none."""
    record = record_of(read_image(path))
    if record is None:
        raise InvalidRequest(f"{path} does not say how it was made; only pictures by fewstep do")
    return record


def image_hash(image: Image) -> str:
    """SHA-256 of the pixels (not of the file: the same picture in another format has the same hash)."""
    pixels = rgba(image)
    return hashlib.sha256(f"{pixels.width}x{pixels.height}:".encode() + pixels.tobytes()).hexdigest()
