"""`Request`: what is asked for, checked before anything heavy is imported or loaded."""

from __future__ import annotations

import dataclasses
import math
import operator
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from numbers import Real
from typing import TYPE_CHECKING, Any

from fewstep.core.profile import MAX_GUIDANCE
from fewstep.core.samplers import SAMPLERS
from fewstep.errors import InvalidRequest
from fewstep.imaging.masks import check_mask, mask_of
from fewstep.models.prompt_weights import parse

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PROMPT = 10_000
MAX_PICTURES = 1_000
MAX_STEPS = 1_000
MAX_TIME = 999_999
MAX_SIDE = 4_096
MAX_SEED = 2**63 - 1
MAX_UPSCALE = 4.0
ROWS = ("prompts", "seeds", "variation_seeds")  # what a request has for each picture
MASK_TOLERANCE = 0.02  # of a difference in aspect, from rounded sizes


@dataclass(frozen=True)
class Control:
    """A picture that a ControlNet reads (edges, depth, a pose), and how far it is followed, from 0 to 2."""

    image: Image
    scale: float = 1.0

    def __post_init__(self) -> None:
        _number("the scale of a control", self.scale, 0.0, 2.0)


@dataclass(frozen=True)
class Request:
    """Pictures that are asked for: one prompt and one seed each, everything else in common.

    steps, guidance_scale, height, width, sampler, strength  None: as the model's card says (`plan.complete`)
    guidance_scale   Imagen's scale: 1 is no guidance; inside, w = guidance_scale - 1
    image, strength  the picture to start from, and how much of it is painted anew, in (0, 1]
    mask             where that happens, as `imaging.masks.mask_of` gives it: white is painted anew, black stays; of
                     the picture's shape
    timesteps        the very times to ask the network at, falling, in place of steps and strength; for models that want
                     their own (Turbo, Lightning, Hyper)
    controls         pictures (and how far to follow each) for the model's ControlNets, by name
    loras            how much of the model's adapters, by name; those not named: as by default
    variation        how far, from 0 to 1, the noise of each seed is turned towards that of its variation seed
    upscale          how many times larger, above 1 to 4, each picture is made at last, and painted over as far as
    refine_strength  this says, in (0, 1], in
    refine_steps     steps; None: as many as the first time
    tile             large pictures are painted in windows of the model's own size

    Raises `InvalidRequest` with what was given and what is allowed.
    """

    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    negative_prompt: str = ""
    steps: int | None = None
    guidance_scale: float | None = None
    height: int | None = None
    width: int | None = None
    sampler: str | None = None
    image: Image | None = None
    mask: Image | None = None
    strength: float | None = None
    timesteps: tuple[int, ...] | None = None
    loras: Mapping[str, float] | None = None
    controls: Mapping[str, Control] | None = None
    variation: float = 0.0
    variation_seeds: tuple[int, ...] = ()
    upscale: float | None = None
    refine_strength: float | None = None
    refine_steps: int | None = None
    tile: bool = False

    @classmethod
    def of(
        cls,
        prompt: str | list[str] | tuple[str, ...],
        seed: int | None = None,
        num_images: int | None = None,
        variation: float | None = None,
        variation_seed: int | None = None,
        **rest: Any,
    ) -> Request:
        """`num_images` pictures for every prompt, with the seeds seed, seed + 1, … (a random one for None).

        With a variation all have the seed itself, and are turned towards variation_seed, variation_seed + 1, …
        (None: those that follow the seed). A mask may be any picture (`mask_of`).
        """
        each = 1 if num_images is None else _whole("the number of pictures", num_images, 1, MAX_PICTURES)
        first = secrets.randbelow(2**32) if seed is None else _whole("the seed", seed, 0, MAX_SEED - each)
        prompts = tuple(prompt) if isinstance(prompt, (list, tuple)) else (prompt,)
        seeds: Sequence[int] = range(first, first + each)
        towards: Sequence[int] = ()
        if variation is None and variation_seed is not None:
            raise InvalidRequest("a variation seed was given without a variation, which says how far to go towards it")
        if variation is not None:
            other = first + 1 if variation_seed is None else variation_seed
            _whole("the variation seed", other, 0, MAX_SEED - each)
            seeds, towards = [first] * each, range(other, other + each)
        if rest.get("mask") is not None:
            rest["mask"] = mask_of(rest["mask"])
        return cls(
            prompts=tuple(p for p in prompts for _ in range(each)),
            seeds=tuple(seeds) * len(prompts),
            variation=variation or 0.0,
            variation_seeds=tuple(towards) * len(prompts),
            **rest,
        )

    @classmethod
    def joined(cls, requests: Sequence[Request]) -> Request:
        """The pictures of all of them; they must differ in words and seeds alone (`but_for`)."""
        rows: dict[str, Any] = {part: tuple(chain(*(getattr(each, part) for each in requests))) for part in ROWS}
        return dataclasses.replace(requests[0], **rows)

    def but_for(self, other: Request) -> bool:
        """Whether it is the same as `other` but for words and seeds."""
        rows: dict[str, Any] = {part: getattr(other, part) for part in ROWS}
        return dataclasses.replace(self, **rows) == other

    def __post_init__(self) -> None:
        _whole("the number of pictures", len(self.seeds), 1, MAX_PICTURES)
        if len(self.prompts) != len(self.seeds):
            raise InvalidRequest(f"{len(self.prompts)} prompts and {len(self.seeds)} seeds; there must be as many")
        for prompt in (*self.prompts, self.negative_prompt):
            _check_text(prompt)
        for seed in self.seeds:
            _whole("the seed", seed, 0, MAX_SEED)
        for name in ("height", "width"):
            if getattr(self, name) is not None:
                _whole(f"the {name}", getattr(self, name), 8, MAX_SIDE)
        if self.steps is not None:
            _whole("the number of steps", self.steps, 1, MAX_STEPS)
        if self.guidance_scale is not None:
            _number("the guidance scale", self.guidance_scale, 1.0, MAX_GUIDANCE)
        if self.sampler is not None and self.sampler not in SAMPLERS:
            raise InvalidRequest(f"unknown sampler {_shown(self.sampler)}; choose one of {', '.join(SAMPLERS)}")
        if self.strength is not None:
            self._check_strength(self.strength)
        if self.mask is not None:
            self._check_mask(self.mask)
        if self.timesteps is not None:
            self._check_timesteps(self.timesteps)
        _number("the variation", self.variation, 0.0, 1.0)
        if self.variation_seeds and len(self.variation_seeds) != len(self.seeds):
            raise InvalidRequest(f"{len(self.seeds)} seeds and {len(self.variation_seeds)} variation seeds")
        for seed in self.variation_seeds:
            _whole("the variation seed", seed, 0, MAX_SEED)
        if self.variation and not self.variation_seeds:
            raise InvalidRequest("a variation needs a variation seed for each picture")
        self._check_upscale()

    def _check_upscale(self) -> None:
        if self.refine_strength is not None:
            if _number("the refine strength", self.refine_strength, 0.0, 1.0) == 0.0:
                raise InvalidRequest("the refine strength is 0, which paints nothing; it must be above 0, up to 1")
            if self.upscale is None:
                raise InvalidRequest("a refine strength was given without an upscale; it says how much is painted over")
        if self.refine_steps is not None:
            _whole("the number of refine steps", self.refine_steps, 1, MAX_STEPS)
            if self.upscale is None:
                raise InvalidRequest("refine steps were given without an upscale; they paint over what was made larger")
            if self.timesteps is not None:
                raise InvalidRequest("timesteps say all that refine steps say; give them alone")
        if self.upscale is None:
            return
        if _number("the upscale", self.upscale, 1.0, MAX_UPSCALE) == 1.0:
            raise InvalidRequest(f"the upscale is 1, which changes nothing; it must be above 1, up to {MAX_UPSCALE:g}")
        if self.mask is not None:
            raise InvalidRequest("what a mask protects would be painted over after the upscale; do one after the other")

    def _check_strength(self, strength: float) -> None:
        if _number("the strength", strength, 0.0, 1.0) == 0.0:
            raise InvalidRequest("the strength is 0, which leaves the picture as it is; it must be above 0, up to 1")
        if self.image is None:
            raise InvalidRequest("a strength was given without a picture; it says how much of one is painted anew")

    def _check_timesteps(self, timesteps: tuple[int, ...]) -> None:
        for t in timesteps:
            _whole("a timestep", t, 0, MAX_TIME)
        if not timesteps or any(t <= s for t, s in pairwise(timesteps)):
            raise InvalidRequest(f"the timesteps are {_shown(list(timesteps))}; they must fall: 999, 749, 499, 249")
        if self.steps is not None or self.strength is not None:
            raise InvalidRequest("timesteps say all that steps and strength say; give them alone")

    def _check_mask(self, mask: Image) -> None:
        if self.image is None:
            raise InvalidRequest("a mask was given without a picture; it says where one is painted anew")
        (width, height), (across, down) = self.image.size, mask.size
        if abs(across * height - down * width) > MASK_TOLERANCE * down * width:
            raise InvalidRequest(
                f"the mask is {across} x {down} and the picture {width} x {height}; they must have the same shape"
            )
        check_mask(mask_of(mask))


def _check_text(text: object) -> None:
    if not isinstance(text, str):
        raise InvalidRequest(f"a prompt must be text, not {type(text).__name__}")
    if len(text) > MAX_PROMPT:
        raise InvalidRequest(f"a prompt has {len(text)} characters; at most {MAX_PROMPT} are allowed")
    parse(text)  # raises for a weight out of range
    if any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in text):
        raise InvalidRequest("a prompt holds characters that are no text (NUL, or bytes that are not UTF-8)")


def _whole(name: str, value: Any, low: int, high: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or not low <= number <= high:
        raise InvalidRequest(f"{name} is {_shown(value)}; it must be a whole number from {low} to {high}")
    return number


def _number(name: str, value: Any, low: float, high: float) -> float:
    number: Any = value if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    if not low <= number <= high:  # NaN is never within
        raise InvalidRequest(f"{name} is {_shown(value)}; it must be a number from {low:g} to {high:g}")
    return float(number)


def _shown(value: object) -> str:
    """A value in an error message: one line, and not a long one."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to print an int of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= 60 else text[:57] + "..."
