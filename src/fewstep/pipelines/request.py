"""`Request`: what is asked for, checked before anything heavy is imported or loaded."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Unpack

from fewstep.errors import InvalidRequest
from fewstep.imaging.masks import check_mask, mask_of
from fewstep.pipelines.fields import FIELDS, MAX_SEED, Given, Settings, settings_of

if TYPE_CHECKING:
    from PIL.Image import Image

MASK_TOLERANCE = 0.02  # of a difference in aspect, from rounded sizes
COUNT, SEED, VARIATION_SEED = FIELDS["num_images"], FIELDS["seed"], FIELDS["variation_seed"]
# what says more of a thing that may not be there, and why that thing is wanted
_PARTS_OF = {
    "strength": ("image", "a strength was given without a picture; it says how much of one is painted anew"),
    "mask": ("image", "a mask was given without a picture; it says where one is painted anew"),
    "refine_strength": ("upscale", "a refine strength was given without an upscale; it says how much is painted over"),
    "refine_steps": ("upscale", "refine steps were given without an upscale; they paint over what was made larger"),
}


@dataclass(frozen=True)
class Control:
    """A picture that a ControlNet reads (edges, depth, a pose), and how far it is followed, from 0 to 2."""

    image: Image
    scale: float = 1.0

    def __post_init__(self) -> None:
        FIELDS["controls"].check(self.scale)


class Common(Given, total=False):
    """What `Request.of` takes and hands on as it is; a mask may be any picture."""

    image: Image | None
    mask: Image | None
    strength: float | None
    timesteps: tuple[float, ...] | None
    controls: Mapping[str, Control] | None


class Values(Common, total=False):
    """All that `Request.of` takes, by name."""

    prompt: str | list[str] | tuple[str, ...]
    seed: int | None
    num_images: int | None
    variation: float | None
    variation_seed: int | None


@dataclass(frozen=True)
class Request(Settings):
    """Pictures that are asked for: one prompt and one seed each, everything else in common.

    Of `Settings`, what is None is as the model's card says (`plan.complete`); what each means is in `FIELDS`. And

    image, mask      the picture to start from, and where it is inpainted, as `imaging.masks.mask_of` gives it: white
                     is, black stays; of the picture's shape
    timesteps        the very times to ask the network at, falling, in place of steps and strength; for models that want
                     their own (Turbo, Lightning, Hyper); whole numbers but for flows
    controls         pictures (and how far to follow each) for the model's ControlNets, by name
    loras            how much of the model's adapters, by name; those not named: as by default
    variation_seeds  towards whose noise that of the seeds is turned, as far as `variation` says

    Raises `InvalidRequest` with what was given and what is allowed.
    """

    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    image: Image | None = None
    mask: Image | None = None
    timesteps: tuple[float, ...] | None = None
    loras: Mapping[str, float] | None = None
    controls: Mapping[str, Control] | None = None
    variation_seeds: tuple[int, ...] = ()

    @classmethod
    def of(
        cls,
        prompt: str | list[str] | tuple[str, ...],
        seed: int | None = None,
        num_images: int | None = None,
        variation: float | None = None,
        variation_seed: int | None = None,
        **rest: Unpack[Common],
    ) -> Request:
        """`num_images` pictures for every prompt, with the seeds seed, seed + 1, … (a random one for None).

        With a variation all have the seed itself, and are turned towards variation_seed, variation_seed + 1, …
        (None: those that follow the seed). A mask may be any picture (`mask_of`).
        """
        each = COUNT.whole(1 if num_images is None else num_images)
        first = secrets.randbelow(2**32) if seed is None else SEED.whole(seed, MAX_SEED - each)
        prompts = tuple(prompt) if isinstance(prompt, (list, tuple)) else (prompt,)
        seeds: Sequence[int] = range(first, first + each)
        towards: Sequence[int] = ()
        if variation is None and variation_seed is not None:
            raise InvalidRequest("a variation seed was given without a variation, which says how far to go towards it")
        if variation is not None:
            other = VARIATION_SEED.whole(first + 1 if variation_seed is None else variation_seed, MAX_SEED - each)
            seeds, towards = [first] * each, range(other, other + each)
        if (mask := rest.get("mask")) is not None:
            rest["mask"] = mask_of(mask)
        return cls(
            prompts=tuple(p for p in prompts for _ in range(each)),
            seeds=tuple(seeds) * len(prompts),
            variation=variation,
            variation_seeds=tuple(towards) * len(prompts),
            **rest,
        )

    @classmethod
    def joined(cls, requests: Sequence[Request]) -> Request:
        """The pictures of all of them; they must differ in words and seeds alone (`but_for`)."""
        return dataclasses.replace(
            requests[0],
            prompts=tuple(chain(*(each.prompts for each in requests))),
            seeds=tuple(chain(*(each.seeds for each in requests))),
            variation_seeds=tuple(chain(*(each.variation_seeds for each in requests))),
        )

    def but_for(self, other: Request) -> bool:
        """Whether it is the same as `other` but for words and seeds."""
        same = dataclasses.replace(
            self, prompts=other.prompts, seeds=other.seeds, variation_seeds=other.variation_seeds
        )
        return same == other

    def __post_init__(self) -> None:
        COUNT.check(len(self.seeds))
        if len(self.prompts) != len(self.seeds):
            raise InvalidRequest(f"{len(self.prompts)} prompts and {len(self.seeds)} seeds; there must be as many")
        for prompt in (*self.prompts, self.negative_prompt):
            FIELDS["prompt"].check(prompt)
        for seed in self.seeds:
            SEED.check(seed)
        for seed in self.variation_seeds:
            VARIATION_SEED.check(seed)
        for name, value in (settings_of(self) | {"timesteps": self.timesteps}).items():
            if value is not None:
                FIELDS[name].check(value)
        self._check_together()

    def _check_together(self) -> None:
        """What is right alone, and may not go with the rest."""
        for name, (whole, why) in _PARTS_OF.items():
            if getattr(self, name) is not None and getattr(self, whole) is None:
                raise InvalidRequest(why)
        if self.timesteps is not None:
            if self.steps is not None or self.strength is not None:
                raise InvalidRequest("timesteps say all that steps and strength say; give them alone")
            if self.refine_steps is not None:
                raise InvalidRequest("timesteps say all that refine steps say; give them alone")
        if self.variation_seeds and len(self.variation_seeds) != len(self.seeds):
            raise InvalidRequest(f"{len(self.seeds)} seeds and {len(self.variation_seeds)} variation seeds")
        if self.variation and not self.variation_seeds:
            raise InvalidRequest("a variation needs a variation seed for each picture")
        if self.mask is not None and self.upscale is not None:
            raise InvalidRequest("what a mask protects would be painted over after the upscale; do one after the other")
        if self.image is not None and self.mask is not None:
            _check_mask(self.mask, self.image)


def _check_mask(mask: Image, image: Image) -> None:
    (width, height), (across, down) = image.size, mask.size
    if abs(across * height - down * width) > MASK_TOLERANCE * down * width:
        raise InvalidRequest(
            f"the mask is {across} x {down} and the picture {width} x {height}; they must have the same shape"
        )
    check_mask(mask_of(mask))
