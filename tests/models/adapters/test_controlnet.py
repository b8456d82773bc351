"""ControlNets: diffusers' pictures, one net or several, with words alone or over a picture, for LCMs too."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    LCMScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionXLControlNetPipeline,
)
from PIL import Image

import fewstep
from fewstep.cli.main import main
from fewstep.core.noise import PictureNoise
from fewstep.errors import InvalidModel, InvalidRequest, ModelNotFound
from fewstep.imaging.reading import read_image
from fewstep.models.model import Model
from fewstep.pipelines.provenance import read_record, record_of
from fewstep.pipelines.request import Control, Request
from fewstep.server.engine import Engine
from miniature import write_miniature_sd1, write_miniature_sdxl

PROMPT, SEED = "a blue cat", 3
GREY_LEVELS = 1


def write_net(folder: Path, unet: Any, seed: int) -> Path:
    """A ControlNet for `unet` whose last layers are not zero, as they are before any training."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = ControlNetModel.from_unet(unet, conditioning_channels=3)
        for module in [*net.controlnet_down_blocks, net.controlnet_mid_block, net.controlnet_cond_embedding.conv_out]:
            torch.nn.init.normal_(module.weight, std=0.3)
    net.save_pretrained(folder)
    return folder


def edges(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (128, 128, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def sd1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SD 1.x with two ControlNets beside it, canny and depth."""
    home = tmp_path_factory.mktemp("control")
    folder = write_miniature_sd1(home / "sd1")
    unet = fewstep.load(folder, device="cpu").network.module
    write_net(home / "canny", unet, 1)
    write_net(home / "depth", unet, 2)
    return folder


def nets(folder: Path) -> list[Path]:
    return [folder.parent / "canny", folder.parent / "depth"]


def apart(ours: Image.Image, theirs: Image.Image) -> int:
    return int(np.abs(np.asarray(ours, dtype=int) - np.asarray(theirs, dtype=int)).max())


def pipeline_of(kind: Any, folder: Path, sources: list[Path]) -> Any:
    controlnet = [ControlNetModel.from_pretrained(source) for source in sources]
    pipeline = kind.from_pretrained(folder, controlnet=controlnet, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def noise_for(model: Model) -> torch.Tensor:
    return PictureNoise((SEED,)).draw(model.traits.latent_shape(128, 128))


@pytest.mark.slow
@pytest.mark.parametrize("scales", [(0.8, 0.0), (1.0, 0.4)])
def test_pictures_are_those_of_diffusers(sd1: Path, scales: tuple[float, float]) -> None:
    model = fewstep.load(sd1, device="cpu", controlnets=nets(sd1))
    theirs = pipeline_of(StableDiffusionControlNetPipeline, sd1, nets(sd1))(
        PROMPT,
        image=[edges(1), edges(2)],
        controlnet_conditioning_scale=list(scales),
        latents=noise_for(model),
        num_inference_steps=3,
        guidance_scale=4.0,
    ).images[0]
    options = {"seed": SEED, "steps": 3, "guidance_scale": 4.0, "sampler": "ddim"}
    controls = {name: (edges(n), scale) for n, name, scale in zip((1, 2), ("canny", "depth"), scales, strict=True)}
    ours = fewstep.text2image(model, PROMPT, controls=controls, **options)  # type: ignore[call-overload]
    assert apart(ours, theirs) <= GREY_LEVELS
    assert apart(ours, fewstep.text2image(model, PROMPT, **options)) > 10  # type: ignore[call-overload]
    record = record_of(ours)
    assert record
    assert [(used.name, used.scale) for used in record.controls] == list(zip(("canny", "depth"), scales, strict=True))


@pytest.mark.slow
def test_sdxl(tmp_path: Path) -> None:
    folder = write_miniature_sdxl(tmp_path / "sdxl")
    net = write_net(tmp_path / "canny", fewstep.load(folder, device="cpu").network.module, 1)
    model = fewstep.load(folder, device="cpu", controlnets=[net])
    theirs = pipeline_of(StableDiffusionXLControlNetPipeline, folder, [net])(
        PROMPT,
        image=[edges(1)],
        controlnet_conditioning_scale=[0.7],
        latents=noise_for(model),
        num_inference_steps=3,
        guidance_scale=4.0,
        height=128,
        width=128,
    ).images[0]
    ours = fewstep.text2image(
        model, PROMPT, seed=SEED, steps=3, guidance_scale=4.0, sampler="ddim", controls={"canny": (edges(1), 0.7)}
    )
    assert apart(ours, theirs) <= GREY_LEVELS


def test_a_consistency_model_is_steered_too(tmp_path: Path, sd1: Path) -> None:
    folder = write_miniature_sd1(tmp_path / "lcm")
    LCMScheduler.from_config(LCMScheduler.load_config(folder / "scheduler")).save_pretrained(folder / "scheduler")
    model = fewstep.load(folder, device="cpu", controlnets=nets(sd1)[:1])
    pipeline = pipeline_of(StableDiffusionControlNetPipeline, folder, nets(sd1)[:1])
    pipeline.scheduler = LCMScheduler.from_pretrained(folder / "scheduler")
    theirs = pipeline(
        PROMPT,
        image=[edges(1)],
        controlnet_conditioning_scale=[0.8],
        generator=torch.Generator().manual_seed(SEED),
        num_inference_steps=4,
        guidance_scale=1.0,
    ).images[0]
    ours = fewstep.text2image(model, PROMPT, seed=SEED, steps=4, controls={"canny": (edges(1), 0.8)})
    assert apart(ours, theirs) <= GREY_LEVELS


def test_over_a_picture_it_is_steered_as_well(sd1: Path) -> None:
    model = fewstep.load(sd1, device="cpu", controlnets=nets(sd1))
    options: dict[str, Any] = {"seed": SEED, "steps": 4, "strength": 0.5}
    plain = fewstep.image2image(model, PROMPT, edges(5), **options)
    assert apart(fewstep.image2image(model, PROMPT, edges(5), controls={"depth": edges(2)}, **options), plain) > 5
    assert apart(fewstep.image2image(model, PROMPT, edges(5), controls={"depth": (edges(2), 0)}, **options), plain) == 0


def test_what_cannot_be_is_said(sd1: Path, tmp_path: Path) -> None:
    model = fewstep.load(sd1, device="cpu")
    with pytest.raises(InvalidRequest, match="no ControlNet 'canny' here; sd1 has none loaded"):
        fewstep.text2image(model, PROMPT, controls={"canny": edges(1)})
    steered = fewstep.load(sd1, device="cpu", controlnets=nets(sd1))
    with pytest.raises(InvalidRequest, match="no ControlNet 'pose' here; loaded are canny, depth"):
        fewstep.text2image(steered, PROMPT, controls={"pose": edges(1)})
    with pytest.raises(InvalidRequest, match="the scale of a control is 3"):
        fewstep.text2image(steered, PROMPT, controls={"canny": (edges(1), 3)})
    other = write_miniature_sdxl(tmp_path / "sdxl")
    with pytest.raises(InvalidModel, match="the ControlNet canny was made for another base"):
        fewstep.load(other, device="cpu", controlnets=nets(sd1)[:1])
    with pytest.raises(ModelNotFound, match="no ControlNet 'nowhere'"):
        fewstep.load(sd1, device="cpu", controlnets=["nowhere"])


def test_on_the_command_line(
    sd1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in nets(sd1):
        shutil.copytree(folder, tmp_path / folder.name)
    edges(1).save("edges.png")
    common = ["--model", str(sd1), "--steps", "2", "--device", "cpu"]
    arguments = ["generate", PROMPT, "--seed", "3", "-o", "a.png", *common, "--control", "./canny=edges.png:0.8"]
    assert main(arguments) == 0
    (used,) = read_record("a.png").controls
    assert (used.name, used.scale) == ("canny", 0.8)
    capsys.readouterr()
    assert main(["generate", "--from", "a.png", "-o", "b.png", *common]) == 2
    assert "was steered by another picture for the ControlNet canny" in capsys.readouterr().err
    assert main(["generate", "--from", "a.png", "-o", "b.png", *common, "--control", "canny=edges.png:0.8"]) == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    assert main(["generate", PROMPT, "-o", "c.png", *common, "--control", "edges.png"]) == 2
    assert "give NET=PICTURE" in capsys.readouterr().err


def test_the_same_net_may_read_several_pictures(sd1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number in (1, 2):
        edges(number).save(f"{number}.png")
    nets_twice = ["--control", f"{nets(sd1)[0]}=1.png:0.8", "--control", f"{nets(sd1)[0]}=2.png:0.4"]
    common = ["--model", str(sd1), "--steps", "2", "--seed", "3", "--device", "cpu"]
    assert main(["generate", PROMPT, "-o", "a.png", *common, *nets_twice]) == 0
    assert [(used.name, used.scale) for used in read_record("a.png").controls] == [("canny", 0.8), ("canny-2", 0.4)]
    model = fewstep.load(sd1, device="cpu", controlnets=[nets(sd1)[0]] * 2)
    controls: dict[str, Any] = {"canny": ("1.png", 0.8), "canny-2": ("2.png", 0.4)}
    expected = fewstep.text2image(model, PROMPT, seed=SEED, steps=2, controls=controls)
    alone = fewstep.text2image(model, PROMPT, seed=SEED, steps=2, controls={"canny-2": ("2.png", 0.4)})
    assert apart(Image.open("a.png"), expected) <= GREY_LEVELS
    assert apart(Image.open("a.png"), alone) > 3


@pytest.mark.slow
def test_batch_travel_and_serve_steer_too(
    sd1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    edges(1).save("edges.png")
    common = ["--model", str(sd1), "--steps", "2", "--device", "cpu"]
    steered = [*common, "--control", f"{nets(sd1)[0]}=edges.png:0.8"]
    model = fewstep.load(sd1, device="cpu", controlnets=nets(sd1)[:1])
    controls: dict[str, Any] = {"canny": ("edges.png", 0.8)}
    expected = fewstep.text2image(model, PROMPT, seed=0, steps=2, controls=controls)
    Path("prompts.txt").write_text(f"{PROMPT}\na dog")
    assert main(["batch", "prompts.txt", "-o", "out", *steered]) == 0
    assert apart(read_image("out/1.png"), expected) <= GREY_LEVELS
    assert [used.scale for used in read_record("out/2.png").controls] == [0.8]
    capsys.readouterr()
    assert main(["batch", "prompts.txt", "-o", "out", *common]) == 2  # not the same pictures
    assert "made otherwise" in capsys.readouterr().err
    assert main(["travel", PROMPT, "a dog", "--frames", "3", "-o", "way.png", *steered]) == 0
    assert apart(read_image("way.png").convert("RGB"), expected) <= GREY_LEVELS
    assert main(["travel", "--from", "way.png", "-o", "x.png", "--model", str(sd1)]) == 2
    assert "was steered by another picture for the ControlNet canny" in capsys.readouterr().err


def test_a_server_steers_for_those_who_bring_no_picture(
    sd1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    edges(1).save("edges.png")
    edges(2).save("other.png")
    engines: list[Engine] = []
    monkeypatch.setattr("fewstep.server.app.create_app", lambda engine, *_, **__: engines.append(engine))
    monkeypatch.setattr("uvicorn.Server.run", lambda *_, **__: None)
    port = ["--port", "0", "--device", "cpu", "--model", str(sd1)]
    assert main(["serve", *port, "--control", f"{nets(sd1)[0]}=edges.png:0.8", "--control", str(nets(sd1)[1])]) == 0
    (engine,) = engines
    assert engine.model.steered_by == ("canny", "depth")
    plain = asyncio.run(engine.order(Request.of(PROMPT, 0))).plans[0].controls
    assert [control and control.scale for control in plain] == [0.8, None]
    brought = Request.of(PROMPT, 0, controls={"depth": Control(edges(2), 0.5)})
    assert [control and control.scale for control in asyncio.run(engine.order(brought)).plans[0].controls] == [
        None,
        0.5,
    ]
