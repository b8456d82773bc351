"""A device as Apple's, which nobody here has: apart from the CPU, and with nothing finer than float32.

PyTorch's `meta` device stands in for it: it refuses to compute with what was left on the CPU, and a look at every
operation's results finds what is too fine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import fewstep
from fewstep.core import denoise, noise, schedule
from fewstep.core.schedules import discrete
from fewstep.models.model import Model
from fewstep.pipelines.plan import complete
from fewstep.pipelines.request import Request
from fewstep.pipelines.sample import decoded, sample
from fewstep.pipelines.travel import between
from miniature import write_miniature_sd1, write_miniature_sdxl

META = torch.device("meta")


class NothingFiner(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.device == META:
                assert tensor.dtype not in (torch.float64, torch.complex128), f"{func} makes {tensor.dtype}"
        return result


@pytest.fixture(autouse=True)
def as_apple(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (schedule, discrete, denoise, noise):
        monkeypatch.setattr(module, "finest", lambda at: torch.float32 if at == META else torch.float64)


def painted(model: Model, **options: Any) -> torch.Tensor:
    for network in (network for stage in model.stages for network in stage):
        network.to(META)
    plan = complete(Request.of(["a cat", "a red (dog:1.3)"], 1, **options), model)
    with NothingFiner(), torch.inference_mode():
        *_, last = sample(model, plan)
        return decoded(model, plan, last.x_t)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["dpm++", "unipc", "ddim", "heun", "lcm"])
def test_every_sampler(tmp_path: Path, sampler: str) -> None:
    model = fewstep.load(write_miniature_sd1(tmp_path / "sd1"), device="cpu")
    options = {"sampler": sampler, "steps": 3, "guidance_scale": 3.0, "negative_prompt": "dog"}
    assert painted(model, **options, variation=0.3).device == META


@pytest.mark.parametrize("sampler", ["lcm", "tcd"])
def test_a_model_that_reads_w(miniature: Path, sampler: str) -> None:
    assert painted(fewstep.load(miniature, device="cpu"), sampler=sampler).device == META


@pytest.mark.slow
def test_sdxl_over_a_picture_in_windows(tmp_path: Path) -> None:
    model = fewstep.load(write_miniature_sdxl(tmp_path / "sdxl"), device="cpu")
    over = {"image": Image.new("RGB", (192, 128), "red"), "mask": Image.new("L", (192, 128), "white")}
    assert painted(model, steps=2, tile=True, width=192, **over).shape == (2, 3, 128, 192)


def test_pictures_of_words_and_seeds_on_the_way(tmp_path: Path) -> None:
    model = fewstep.load(write_miniature_sd1(tmp_path / "sd1"), device="cpu")
    for network in (model.text.encoders["text_encoder"], model.network.module):
        network.to(META)
    with NothingFiner():
        words = between(*(model.encode_prompts([prompt]) for prompt in ("a cat", "a dog")), 0.3)
    assert words.states.device == META
