"""The fields of OpenAI's image calls, and ours beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field, JsonValue, ValidationError
from starlette.datastructures import UploadFile

from fewstep.errors import InvalidRequest
from fewstep.models.latent_model import LatentModel
from fewstep.models.text.prompt_weights import literal
from fewstep.pipelines.fields import MAX_SIDE
from fewstep.pipelines.prompts import STRICT, Prompt, understood
from fewstep.server.coding import Coding, Format
from fewstep.server.fields import served
from fewstep.server.nulls import NullIsAbsent
from fewstep.server.wording import in_words

IGNORED = ("quality", "style", "background", "moderation", "user", "input_fidelity")  # known, and of no meaning here

Given: TypeAlias = Mapping[str, JsonValue | UploadFile]  # JSON, or a form
Other = TypeVar("Other")


def _from_json(value: str | Other) -> JsonValue | Other:
    """In a form, what has parts is JSON text."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError) as error:
        raise ValueError(
            "it must be a JSON object of names and weights (loras), or a JSON list of times (timesteps)"
        ) from error


class Images(NullIsAbsent):
    """The fields of all three calls."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    prompt: Annotated[str, served("prompt")] = ""
    model: str | None = None
    n: int = Field(1, ge=1, le=10)
    size: str = "auto"
    response_format: Literal["url", "b64_json"] | None = None
    output_format: Format = "png"
    output_compression: int = Field(100, ge=0, le=100)
    stream: bool = False
    partial_images: int = Field(0, ge=0, le=3)
    quality: str | None = None
    style: str | None = None
    background: str | None = None
    moderation: str | None = None
    user: str | None = None
    input_fidelity: str | None = None
    # ours
    steps: Annotated[int | None, served("steps")] = None
    num_inference_steps: Annotated[int | None, served("steps")] = None
    seed: Annotated[int | None, served("seed")] = None
    guidance_scale: Annotated[float | None, served("guidance_scale")] = None
    negative_prompt: Annotated[str, served("negative_prompt")] = ""
    strength: Annotated[float | None, served("strength")] = None
    prompt_marks: bool = False
    sampler: str | None = None
    precision: Annotated[str | None, served("precision")] = None
    decoder: Annotated[str | None, served("decoder")] = None
    timesteps: Annotated[Annotated[list[int], served("timesteps")] | None, BeforeValidator(_from_json)] = None
    variation: Annotated[float | None, served("variation")] = None
    variation_seed: Annotated[int | None, served("variation_seed")] = None
    upscale: Annotated[float | None, served("upscale")] = None
    refine_strength: Annotated[float | None, served("refine_strength")] = None
    refine_steps: Annotated[int | None, served("refine_steps")] = None
    tile: bool = False
    loras: Annotated[Annotated[dict[str, float], served("loras")] | None, BeforeValidator(_from_json)] = None

    @property
    def coding(self) -> Coding:
        return Coding(self.output_format, max(1, self.output_compression))

    def prompts(self, model: LatentModel) -> tuple[Prompt, Prompt]:
        """The prompt and the negative one, to the letter (language models write them) unless `prompt_marks` says that
        they are written as for the command line; raises `InvalidRequest`.
        """
        if not self.prompt_marks:
            return Prompt(literal(self.prompt)), Prompt(literal(self.negative_prompt))
        here = model.loras.names if model.loras else ()
        return understood(self.prompt, STRICT, here), understood(self.negative_prompt, STRICT, negative=True)

    def size_in_pixels(self, model: LatentModel) -> tuple[int, int]:
        """(width, height); raises `InvalidRequest` for a size that no picture of this model has."""
        if self.size == "auto":
            height, width = model.traits.default_size
            return width, height
        across, cross, down = self.size.partition("x")
        if not (cross and across.isascii() and across.isdigit() and down.isascii() and down.isdigit()):
            raise InvalidRequest(f"size is {self.size[:40]!r}; it must be WIDTHxHEIGHT, 512x512 for example, or auto")
        if max(int(across[:9]), int(down[:9])) > MAX_SIDE:
            raise InvalidRequest(f"size is {self.size[:40]}; at most {MAX_SIDE} pixels a side are generated")
        return int(across), int(down)


def validated(fields: Given) -> Images:
    try:
        return Images.model_validate(fields)
    except ValidationError as error:
        raise InvalidRequest(in_words(error)) from error
