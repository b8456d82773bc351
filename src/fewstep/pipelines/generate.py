"""A plan carried out: its pictures batch by batch, and by fewer at once where they do not fit into memory."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from fewstep.core.noise import Noise
from fewstep.core.samplers.base import Step
from fewstep.errors import FewstepWarning, InvalidRequest
from fewstep.imaging.pixels import to_images
from fewstep.models.conditioning import Conditioning
from fewstep.models.latent_model import LatentModel
from fewstep.models.memory import free_cache, out_of_memory
from fewstep.pipelines.plan import Plan, complete
from fewstep.pipelines.provenance import describe
from fewstep.pipelines.request import Request
from fewstep.pipelines.sample import decoded, sample

if TYPE_CHECKING:
    from PIL.Image import Image

OnStep = Callable[[Step], None]
Given = Callable[[range], tuple[Conditioning | None, Noise | None]]  # by the rows of a plan: words, and noise


def _nothing_given(_: range) -> tuple[None, None]:
    return None, None


def generate(
    model: LatentModel, *requests: Request, batch_size: int | None = None, on_step: OnStep | None = None
) -> list[Image]:
    """The pictures of requests, in their order; all are checked before the first is made.

    batch_size  how many pictures go through the network at once; None: by their size
    on_step     is called with every `Step` as it happens

    Raises `InvalidRequest`; warns of what was asked for and has no effect.
    """
    plans = [complete(request, model, batch_size) for request in requests]
    return [image for plan in plans for image in generate_plan(model, plan, on_step)]


def generate_plan(model: LatentModel, plan: Plan, on_step: OnStep | None = None) -> list[Image]:
    """The pictures of a plan, each with its parameters; warns of what has no effect."""
    return list(generate_each(model, plan, on_step))


def generate_each(model: LatentModel, plan: Plan, on_step: OnStep | None = None) -> Iterator[Image]:
    """The same, each picture as soon as its batch is done."""
    model = model.at(plan.precision, plan.decoder)
    for index, image in enumerate(images_of(model, plan, on_step)):
        image.info.update(describe(model, plan, index))
        yield image


def images_of(model: LatentModel, plan: Plan, on_step: OnStep | None, given: Given = _nothing_given) -> Iterator[Image]:
    """The pictures of a plan, without their parameters; `given` may put other words and noise in place of its own."""
    for advice in plan.advice:
        warnings.warn(advice, FewstepWarning, stacklevel=5)
    done = 0
    for batch in plan.batches():
        rows = range(done, done + len(batch.seeds))
        done = rows.stop
        images = _within_memory(model, plan, rows, on_step, given)
        if plan.refinement is not None:  # each made larger, and sampled anew in part
            rounds = [replace(plan.refinement, image=image) for image in images]
            one = [range(row, row + 1) for row in rows]
            images = [
                _within_memory(model, each, row, on_step, given)[0] for each, row in zip(rounds, one, strict=True)
            ]
        yield from images


def _within_memory(model: LatentModel, plan: Plan, rows: range, on_step: OnStep | None, given: Given) -> list[Image]:
    """A batch that does not fit is made in halves; for one picture that does not fit, the model takes less room."""
    try:
        return _generate_rows(model, plan, rows, on_step, given)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        cause = error.with_traceback(None)  # whose frames hold on to the memory
    size, count = f"{plan.width} x {plan.height}", len(rows)
    if count == 1:
        if (how := model.take_less()) is None:
            raise InvalidRequest(
                f"a picture of {size} does not fit into the memory of {model.device}; ask for a smaller one"
            ) from cause
        warnings.warn(f"a picture of {size} does not fit into memory at once: {how}", FewstepWarning, 4)
        return _within_memory(model, plan, rows, on_step, given)
    free_cache(model.device)
    half = math.ceil(count / 2)
    warnings.warn(f"{count} pictures of {size} do not fit into memory at once: {half} at a time", FewstepWarning, 4)
    parts = (rows[:half], rows[half:])
    return [image for part in parts for image in _within_memory(model, plan, part, on_step, given)]


def _generate_rows(model: LatentModel, plan: Plan, rows: range, on_step: OnStep | None, given: Given) -> list[Image]:
    batch = plan.rows(rows.start, rows.stop)
    for step in sample(model, batch, *given(rows)):
        if on_step is not None:
            on_step(step)
    return to_images(decoded(model, batch, step.x_t))
