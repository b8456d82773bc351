"""Training on CUDA: a run that was stopped goes on with the losses of the run that never stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import fewstep
from fewstep.data.latents import LatentCache
from fewstep.train.config import RunConfig
from fewstep.train.defaults import changed, default_config
from fewstep.train.loop import fit
from fewstep.train.method import training_of

pytestmark = pytest.mark.gpu

PICTURES, BATCH = 32, 4
ATOMICS = 1e-3  # relative: some of CUDA's backward kernels add in the order that their threads arrive in


def random_cache(model: Any) -> LatentCache:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(16, *model.traits.latent_shape(*model.traits.default_size), generator=generator)
    width = model.network.module.config.cross_attention_dim
    states = torch.randn(17, model.text.tokenizers["tokenizer"].model_max_length, width, generator=generator).half()
    return LatentCache(latents, states, torch.arange(1, 17).unsqueeze(1))


def losses(
    teacher: Path, folder: Path, pictures: int, *, lora: bool, precision: str, device: str = "cuda"
) -> list[float]:
    """Train until so many pictures are seen, from what is in the folder on; the loss of each step."""
    model = fewstep.load(teacher, device=device, dtype=precision, memory="full")
    config: RunConfig = default_config("distill", str(teacher), "none", lora=lora)
    more = {"fit.pictures": pictures, "fit.batch_size": BATCH, "fit.precision": precision, "fit.warmup": 1}
    config = changed(config, more | {"fit.lr": 1e-3, "fit.cooldown": 0.0, "device": device})
    training = training_of(config, model, "run")
    cache = random_cache(model)
    found: list[float] = []

    def on_step(seen: int, scalars: dict[str, float]) -> None:
        found.append(scalars["loss"])

    task = training.task(cache)
    fit(training.network, task, len(cache), config.fit, folder, target=training.target, on_step=on_step)
    return found


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("lora", [False, True])
def test_a_resumed_run_has_the_losses_of_the_whole_one(
    miniature: Path, tmp_path: Path, lora: bool, precision: str
) -> None:
    options: dict[str, Any] = {"lora": lora, "precision": precision}
    whole = losses(miniature / "teacher", tmp_path / "whole", PICTURES, **options)
    first = losses(miniature / "teacher", tmp_path / "parts", PICTURES // 2, **options)
    second = losses(miniature / "teacher", tmp_path / "parts", PICTURES, **options)
    assert len(first) == len(second) == len(whole) / 2 == PICTURES / BATCH / 2
    assert len({round(loss, 6) for loss in whole}) > 1
    assert [*first, *second] == pytest.approx(whole, rel=ATOMICS if precision == "float32" else 0.02)


def test_the_first_loss_is_that_of_the_cpu(miniature: Path, tmp_path: Path) -> None:
    ours, reference = (
        losses(miniature / "teacher", tmp_path / device, BATCH, lora=False, precision="float32", device=device)
        for device in ("cuda", "cpu")
    )
    assert len(ours) == 1
    assert ours == pytest.approx(reference, rel=1e-3)
