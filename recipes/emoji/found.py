"""What is found in pictures by a network in training: both parts of two-part prompts, and the words of plain ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fewstep.evaluate.features import load_features
from fewstep.evaluate.metrics.words import retrieved
from fewstep.evaluate.prompts import read_prompts
from fewstep.evaluate.two_part import Finder
from fewstep.evaluate.two_part_prompts import COLOUR, COUNT, PAIR, built_in
from fewstep.imaging.pixels import to_pixels
from fewstep.models.latent_model import LatentModel
from fewstep.pipelines.generate import generate
from fewstep.pipelines.request import Request

STEPS = 25
PLAIN = 100  # prompts, each told apart from the others


@torch.no_grad()
def found_rates(model: LatentModel) -> dict[str, float]:
    """Shares of one picture of each built-in prompt, by the model's own sampler and guidance at `STEPS`: "found two
    parts" and its three kinds, and "found plain"."""
    asked = built_in()
    right = Finder.load().right(asked, _pictures(model, [each.prompt for each in asked]))
    rates = {
        f"found {kind}": right[torch.tensor([each.kind == kind for each in asked])].mean().item()
        for kind in (COLOUR, PAIR, COUNT)
    }
    prompts = read_prompts().first(PLAIN).texts
    eye = load_features("eye")
    seen = eye.look(_pictures(model, prompts)).embeddings
    plain = retrieved(seen, eye.read(prompts), torch.arange(len(prompts)))
    return {"found two parts": right.mean().item(), **rates, "found plain": plain.mean().item()}


def _pictures(model: LatentModel, prompts: Sequence[str]) -> Tensor:
    """(N, 3, 128, 128) in [-1, 1], each from the noise of its place."""
    requests = [Request.of(prompt, seed=seed, steps=STEPS) for seed, prompt in enumerate(prompts)]
    return torch.cat([to_pixels(image, *model.traits.default_size) for image in generate(model, *requests)])
