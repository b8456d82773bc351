"""What one does with a model of any family, each on a folder of a few thousand random weights: the same for all."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

import adapters
import fewstep
from fewstep.cli.main import main
from fewstep.evaluate.config import EvaluateConfig
from fewstep.evaluate.run import evaluate
from fewstep.imaging.pixels import to_pixels
from fewstep.models.saving import save
from fewstep.pipelines.request import Request
from fewstep.server.engine import Engine

SIDE = 64


def picture(number: int = 0) -> Image.Image:
    return Image.radial_gradient("L").resize((SIDE, SIDE)).rotate(90 * number).convert("RGB")


def as_array(image: Image.Image) -> np.ndarray:
    return np.asarray(image, dtype=int)


def few_step(folder: Path, target: Path) -> Path:
    """A consistency model with the same weights."""
    model = fewstep.load(folder, device="cpu", kind="lcm")
    card = dataclasses.replace(model.card, teacher=model.name)
    save(dataclasses.replace(model, card=card), target, base=folder)
    return target


def serve(folder: Path, tmp: Path) -> None:
    """Sessions of other adapters, steps, guidance and pictures in one batch get the pictures that they get alone."""
    plain = fewstep.load(folder, device="cpu")
    layers = adapters.random_layers(plain.network.module, 1)
    ink = adapters.write_diffusers(tmp / "ink.safetensors", {plain.family.denoiser: layers}, alpha=4.0)
    model = fewstep.load(folder, device="cpu", loras=[ink])
    requests = [
        Request.of("a cat", seed=1, steps=2, guidance_scale=3.0, loras={"ink": 0.0}),
        Request.of("a dog", seed=2, steps=4, guidance_scale=5.0, loras={"ink": 1.0}),
        Request.of("a cat, a dog", seed=3, steps=4, guidance_scale=1.0, loras={"ink": 0.5}),
        Request.of("a fox", seed=4, steps=4, image=picture(), strength=0.7),
    ]

    async def scene() -> None:
        engine = Engine(model, max_batch=4)
        orders = [await engine.order(request) for request in requests]
        with engine.lane() as lane:
            tickets = [asyncio.create_task(engine.pictures(lane, order)) for order in orders]
            await asyncio.sleep(0)
            engine.start()
            together = [(await ticket)[0] for ticket in tickets]
        await engine.stop()
        for request, pixels in zip(requests, together, strict=True):
            (alone,) = fewstep.generate(model, request)
            assert np.abs(pixels.astype(int) - as_array(alone)).max() <= 1

    asyncio.run(asyncio.wait_for(scene(), 120))


def inpaint(folder: Path, tmp: Path) -> None:
    """Where the mask is white the picture is another one; elsewhere its latents stay as they were."""
    model = fewstep.load(folder, device="cpu")
    mask = Image.new("L", (SIDE, SIDE), 0)
    mask.paste(255, (0, 0, SIDE // 2, SIDE))
    image = fewstep.image2image(model, "a cat", picture(), mask=mask, seed=3, steps=4, strength=0.9)
    there = as_array(picture())
    kept = to_pixels(picture(), SIDE, SIDE)
    through = model.decode(model.encode_images(kept))[0].permute(1, 2, 0).numpy() * 127.5 + 127.5
    nearest = np.minimum(np.abs(as_array(image) - there), np.abs(as_array(image) - through))
    assert nearest[:, : SIDE // 2].mean() > 3 * nearest[:, SIDE // 2 + 16 :].mean()


def travel(folder: Path, tmp: Path) -> None:
    model = fewstep.load(folder, device="cpu")
    frames = fewstep.travel(model, [("a cat", 1), ("a dog", 2)], frames=3, steps=2)
    for frame, (prompt, seed) in ((frames[0], ("a cat", 1)), (frames[2], ("a dog", 2))):
        alone = fewstep.text2image(model, prompt, seed=seed, steps=2)
        assert np.abs(as_array(frame) - as_array(alone)).max() <= 1


def upscale(folder: Path, tmp: Path) -> None:
    model = fewstep.load(folder, device="cpu")
    assert fewstep.text2image(model, "a cat", seed=1, steps=2, upscale=2.0).size == (2 * SIDE, 2 * SIDE)


def inspect(folder: Path, tmp: Path) -> None:
    assert main(["inspect", str(folder)]) == 0


def generate(folder: Path, tmp: Path) -> None:
    target = tmp / "cat.png"
    assert main(["generate", "a cat", "--model", str(folder), "--seed", "3", "--steps", "2", "-o", str(target)]) == 0
    again = fewstep.text2image(fewstep.load(folder, device="cpu"), "a cat", seed=3, steps=2)
    assert np.array_equal(as_array(Image.open(target)), as_array(again))


def measured(folder: Path, tmp: Path) -> None:
    """`fewstep evaluate` of a consistency model beside its teacher."""
    prompts = tmp / "prompts.txt"
    prompts.write_text("a cat\na dog\na fox\na hat\n")
    config = EvaluateConfig(
        model=str(few_step(folder, tmp / "lcm")),
        teacher=str(folder),
        prompts=str(prompts),
        features="eye",
        steps=(1,),
        teacher_steps=2,
        solvers=(),
        num_images=16,
        per_prompt=4,
        draws=4,
        rounds=1,
        batch_size=4,
        device="cpu",
    )
    results = evaluate(config, tmp / "report", command="fewstep evaluate lcm")
    assert results is not None
    assert [(row.role, row.steps) for row in results.rows] == [("teacher", 2), ("model", 1)]


def _pictures(tmp: Path) -> Path:
    (tmp / "pictures").mkdir()
    for number in range(4):
        picture(number).save(tmp / "pictures" / f"cat {number}.png")
    return tmp / "pictures"


def distil(folder: Path, tmp: Path, *options: str) -> Path:
    """Whole, without w where the network has no place for it; the run's folder."""
    run = tmp / "run"
    data = ["--teacher", folder, "--data", _pictures(tmp), "--pictures", 8, "--batch-size", 4, *options, "-o", run]
    assert main(["distill", *map(str, data)]) == 0
    student = fewstep.load(run / "model", device="cpu")
    assert student.profile.kind == "lcm"
    assert fewstep.text2image(student, "a cat", seed=3, steps=2).size == (SIDE, SIDE)
    return run


def distil_a_lora(folder: Path, tmp: Path) -> None:
    run = tmp / "run"
    data = ["--teacher", folder, "--data", _pictures(tmp), "--pictures", 8, "--batch-size", 4, "--lora", "-o", run]
    assert main(["distill", *map(str, data)]) == 0
    student = fewstep.load(folder, device="cpu", loras=[run / "pytorch_lora_weights.safetensors"])
    assert student.profile.kind == "lcm"
    assert fewstep.text2image(student, "a cat", seed=3, steps=2).size == (SIDE, SIDE)


def finetune(folder: Path, tmp: Path) -> None:
    """A consistency model to a style, with no teacher."""
    run, model = tmp / "run", few_step(folder, tmp / "lcm")
    data = ["--model", model, "--data", _pictures(tmp), "--pictures", 8, "--batch-size", 4, "--lora", "-o", run]
    assert main(["finetune", *map(str, data)]) == 0
    styled = fewstep.load(model, device="cpu", loras=[run / "pytorch_lora_weights.safetensors"])
    assert fewstep.text2image(styled, "a cat", seed=3, steps=2).size == (SIDE, SIDE)


QUICK: dict[str, Callable[[Path, Path], object]] = {
    each.__name__: each for each in (generate, serve, inpaint, travel, upscale, inspect)
}
SLOW: dict[str, Callable[[Path, Path], object]] = {
    each.__name__: each for each in (measured, distil, distil_a_lora, finetune)
}
