"""Guidance and the embedding of w."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import LatentConsistencyModelPipeline
from torch import Tensor

from fewstep.core.denoise import Denoiser
from fewstep.core.guidance import (
    ClassifierFreeGuidance,
    guidance_scale_from_w,
    w_embedding,
    w_from_guidance_scale,
)
from fewstep.core.prediction import PREDICTIONS
from fewstep.core.schedules import DiscreteSchedule
from oracle import GaussianWorld

SD = DiscreteSchedule.from_betas()
X = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]


@pytest.mark.parametrize("w", [0.0, 3.0, -0.5, torch.tensor([0.0, 1.0, 2.0, 7.5, 14.0])])
def test_guidance_of_a_gaussian_is_known(w: float | Tensor) -> None:
    """c + w (c - u) is the denoiser of N(mu + w (mu - uncond), s^2)."""
    world = GaussianWorld(SD)
    guided = ClassifierFreeGuidance(world.denoise, world.uncond, w)(X, 600, 0.5)
    torch.testing.assert_close(guided, world.denoise(X, 600, world.guided_mu(0.5, w)))


@pytest.mark.parametrize("kind", PREDICTIONS)
def test_guiding_x0_is_guiding_the_raw_output(kind: str) -> None:
    outputs = {"c": torch.randn(2, 3), "u": torch.randn(2, 3)}
    outputs["guided"] = outputs["c"] + 7.5 * (outputs["c"] - outputs["u"])
    denoise = Denoiser(lambda x_t, t, cond, w: outputs[cond], SD, PREDICTIONS[kind])
    x_t = torch.randn(2, 3)
    guided = ClassifierFreeGuidance(denoise, "u", 7.5)(x_t, 700, "c")
    torch.testing.assert_close(guided, denoise(x_t, 700, "guided"), rtol=1e-4, atol=1e-4)


def test_no_guidance_costs_no_second_call_and_w_goes_on_to_the_network() -> None:
    seen: list[Any] = []

    def denoise(x_t: Tensor, t: Any, cond: Any, w: Any = None) -> Tensor:
        seen.append((cond, w))
        return x_t

    ClassifierFreeGuidance(denoise, "u", 0.0)(X, 5, "c", 8.0)
    assert seen == [("c", 8.0)]
    ClassifierFreeGuidance(denoise, "u", 1.0)(X, 5, "c", 8.0)
    assert seen[1:] == [("c", 8.0), ("u", 8.0)]


def test_scales() -> None:
    """Imagen's 8.5, the default of diffusers' LCM pipeline, is LCM's 7.5."""
    assert w_from_guidance_scale(8.5) == 7.5
    assert guidance_scale_from_w(w_from_guidance_scale(8.5)) == 8.5
    assert w_from_guidance_scale(1.0) == 0.0


@pytest.mark.parametrize("dim", [256, 512, 33])
def test_w_embedding_is_that_of_diffusers(dim: int) -> None:
    w = torch.tensor([0.0, 1.0, 7.5, 14.0, 3.3])
    theirs = LatentConsistencyModelPipeline.get_guidance_scale_embedding(None, w, dim)
    torch.testing.assert_close(w_embedding(w, dim), theirs, rtol=0, atol=1e-6)
    assert w_embedding(w.half(), dim).dtype == torch.float32


@pytest.mark.parametrize(("w", "dim"), [(torch.ones(2, 1), 256), (torch.tensor(1.0), 256), (torch.ones(2), 2)])
def test_w_embedding_refuses_other_shapes(w: Tensor, dim: int) -> None:
    with pytest.raises(ValueError, match=r"w must have the shape \(B,\) and dim be at least 4"):
        w_embedding(w, dim)
