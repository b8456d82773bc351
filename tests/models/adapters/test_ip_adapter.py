"""IP-Adapters and T2I-Adapters: diffusers' pictures, for every kind of file, row by row, beside the other kinds."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    LCMScheduler,
    StableDiffusionAdapterPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLAdapterPipeline,
    StableDiffusionXLPipeline,
    T2IAdapter,
)
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

import fewstep
from fewstep.cli.main import main
from fewstep.core.noise import PictureNoise
from fewstep.errors import InvalidModel, InvalidRequest, ModelNotFound
from fewstep.models.adapters.steered import with_steering
from fewstep.models.conditioning import Conditioning
from fewstep.models.memory import Placement
from fewstep.models.model import Model
from fewstep.pipelines.provenance import read_record
from miniature import write_miniature_sd1, write_miniature_sdxl

PROMPT, SEED = "a blue cat", 3
GREY_LEVELS = 1
VISION, PROJECTED, TOKENS = 32, 24, 4


def picture(seed: int, size: tuple[int, int] = (40, 56)) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(values).resize(size, Image.Resampling.BICUBIC)


def write_adapter(home: Path, unet: Any, kind: str, name: str = "ip-adapter", seed: int = 5) -> Path:
    """A random IP-Adapter in the published layout: models/NAME.safetensors with models/image_encoder beside it."""
    width = unet.config.cross_attention_dim
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if not (home / "models" / "image_encoder").is_dir():
            config = CLIPVisionConfig(
                hidden_size=VISION,
                intermediate_size=48,
                num_hidden_layers=2,
                num_attention_heads=2,
                image_size=16,
                patch_size=8,
                projection_dim=PROJECTED,
            )
            CLIPVisionModelWithProjection(config).save_pretrained(home / "models" / "image_encoder")
        weights = {f"image_proj.{key}": value for key, value in _projection(kind, width).items()}
        number = 1
        for key in unet.attn_processors:
            if not key.endswith("attn2.processor"):
                continue
            inner = unet.get_submodule(key.removesuffix(".processor")).to_q.out_features
            for part in "kv":
                weights[f"ip_adapter.{number}.to_{part}_ip.weight"] = torch.randn(inner, width) * 0.3
            number += 2
    save_file(weights, home / "models" / f"{name}.safetensors")
    return home / "models" / f"{name}.safetensors"


def _projection(kind: str, width: int) -> dict[str, torch.Tensor]:
    from diffusers.models.embeddings import IPAdapterPlusImageProjection

    if kind == "plain":
        return {
            "proj.weight": torch.randn(TOKENS * width, PROJECTED),
            "proj.bias": torch.randn(TOKENS * width),
            "norm.weight": torch.ones(width),
            "norm.bias": torch.zeros(width),
        }
    if kind == "full":
        return {
            "proj.0.weight": torch.randn(VISION, VISION),
            "proj.0.bias": torch.randn(VISION),
            "proj.2.weight": torch.randn(width, VISION),
            "proj.2.bias": torch.randn(width),
            "proj.3.weight": torch.ones(width),
            "proj.3.bias": torch.zeros(width),
        }
    inner = 64
    weights = IPAdapterPlusImageProjection(
        embed_dims=VISION, output_dims=width, hidden_dims=inner, depth=4, heads=1, num_queries=TOKENS
    ).state_dict()
    published = {
        "ln0": "0.norm1",
        "ln1": "0.norm2",
        "attn.to_q": "0.to_q",
        "attn.to_out.0": "0.to_out",
        "ff.0": "1.0",
        "ff.1.net.0.proj": "1.1",
        "ff.1.net.2": "1.3",
    }
    for layer in range(4):
        for ours, theirs in published.items():
            for end in ("weight", "bias"):
                if (value := weights.pop(f"layers.{layer}.{ours}.{end}", None)) is not None:
                    weights[f"layers.{layer}.{theirs}.{end}"] = value
        both = [weights.pop(f"layers.{layer}.attn.to_{part}.weight") for part in "kv"]
        weights[f"layers.{layer}.0.to_kv.weight"] = torch.cat(both)
    return weights


def noise_for(model: Model) -> torch.Tensor:
    return PictureNoise((SEED,)).draw(model.traits.latent_shape(128, 128))


def apart(ours: Image.Image, theirs: Image.Image) -> int:
    return int(np.abs(np.asarray(ours, dtype=int) - np.asarray(theirs, dtype=int)).max())


def pipeline_of(kind: Any, folder: Path, **more: Any) -> Any:
    pipeline = kind.from_pretrained(folder, dtype=torch.float32, **more)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def sd1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_miniature_sd1(tmp_path_factory.mktemp("ip") / "sd1")


def with_adapters(folder: Path, home: Path, *kinds: str) -> tuple[Model, list[Path]]:
    unet = fewstep.load(folder, device="cpu").network.module
    home.mkdir(exist_ok=True)
    files = [write_adapter(home, unet, kind, f"ip-{number}", number) for number, kind in enumerate(kinds)]
    return fewstep.load(folder, device="cpu", controlnets=files), files


@pytest.mark.slow
@pytest.mark.parametrize("kinds", [("plain",), ("plus",), ("full",), ("plain", "plus")])
def test_pictures_are_those_of_diffusers(sd1: Path, tmp_path: Path, kinds: tuple[str, ...]) -> None:
    model, files = with_adapters(sd1, tmp_path / "home", *kinds)
    pipeline = pipeline_of(StableDiffusionPipeline, sd1)
    pipeline.load_ip_adapter(str(tmp_path / "home"), subfolder="models", weight_name=[file.name for file in files])
    scales = [0.7, 0.4][: len(kinds)]
    pipeline.set_ip_adapter_scale(scales)
    pictures = [picture(number) for number in range(len(kinds))]
    theirs = pipeline(
        PROMPT,
        ip_adapter_image=pictures,
        latents=noise_for(model),
        num_inference_steps=3,
        guidance_scale=4.0,
    ).images[0]
    options: dict[str, Any] = {"seed": SEED, "steps": 3, "guidance_scale": 4.0, "sampler": "ddim"}
    controls = {f"ip-{number}": (pictures[number], scales[number]) for number in range(len(kinds))}
    ours = fewstep.text2image(model, PROMPT, controls=controls, **options)
    assert apart(ours, theirs) <= GREY_LEVELS
    plain = fewstep.text2image(fewstep.load(sd1, device="cpu"), PROMPT, **options)
    assert apart(ours, plain) > 3
    assert apart(fewstep.text2image(model, PROMPT, **options), plain) == 0  # without a picture, as if it were not there
    assert apart(fewstep.text2image(model, PROMPT, controls={"ip-0": (pictures[0], 0)}, **options), plain) == 0


@pytest.mark.slow
def test_sdxl(tmp_path: Path) -> None:
    folder = write_miniature_sdxl(tmp_path / "sdxl")
    model, files = with_adapters(folder, tmp_path / "home", "plain")
    pipeline = pipeline_of(StableDiffusionXLPipeline, folder)
    pipeline.load_ip_adapter(str(tmp_path / "home"), subfolder="models", weight_name=files[0].name)
    pipeline.set_ip_adapter_scale(0.6)
    theirs = pipeline(
        PROMPT,
        ip_adapter_image=picture(1),
        latents=noise_for(model),
        num_inference_steps=3,
        guidance_scale=4.0,
        height=128,
        width=128,
    ).images[0]
    options: dict[str, Any] = {"seed": SEED, "steps": 3, "guidance_scale": 4.0, "sampler": "ddim"}
    ours = fewstep.text2image(model, PROMPT, controls={"ip-0": (picture(1), 0.6)}, **options)
    assert apart(ours, theirs) <= GREY_LEVELS


def test_a_consistency_model_reads_pictures_too(tmp_path: Path) -> None:
    folder = write_miniature_sd1(tmp_path / "lcm")
    LCMScheduler.from_config(LCMScheduler.load_config(folder / "scheduler")).save_pretrained(folder / "scheduler")
    model, files = with_adapters(folder, tmp_path / "home", "plain")
    pipeline = pipeline_of(StableDiffusionPipeline, folder)
    pipeline.scheduler = LCMScheduler.from_pretrained(folder / "scheduler")
    pipeline.load_ip_adapter(str(tmp_path / "home"), subfolder="models", weight_name=files[0].name)
    pipeline.set_ip_adapter_scale(0.8)
    theirs = pipeline(
        PROMPT,
        ip_adapter_image=picture(1),
        generator=torch.Generator().manual_seed(SEED),
        num_inference_steps=4,
        guidance_scale=1.0,
    ).images[0]
    ours = fewstep.text2image(model, PROMPT, seed=SEED, steps=4, controls={"ip-0": (picture(1), 0.8)})
    assert apart(ours, theirs) <= GREY_LEVELS


def test_the_model_that_it_is_put_on_stays_as_it_was(sd1: Path, tmp_path: Path) -> None:
    plain = fewstep.load(sd1, device="cpu")
    before = fewstep.text2image(plain, PROMPT, seed=SEED, steps=2)
    file = write_adapter(tmp_path, plain.network.module, "plain")
    steered = with_steering(plain, [file])
    assert steered.network.module.conv_in.weight is plain.network.module.conv_in.weight
    assert plain.network.module.config.encoder_hid_dim_type is None
    fewstep.text2image(steered, PROMPT, seed=SEED, steps=2, controls={file.stem: picture(1)})
    assert apart(before, fewstep.text2image(plain, PROMPT, seed=SEED, steps=2)) == 0


def test_rows_of_one_batch_take_as_much_as_they_say(sd1: Path, tmp_path: Path) -> None:
    model, _ = with_adapters(sd1, tmp_path / "home", "plain")
    assert model.adapters.image_prompts is not None
    cond = model.encode_prompts([PROMPT] * 3)
    tokens = model.adapters.image_prompts.tokens([picture(1)], model.device).expand(3, -1, -1)
    scales = torch.tensor([[0.0], [0.5], [1.5]])
    x = torch.randn(3, *model.traits.latent_shape(128, 128))
    together = model.denoise(x, 500, dataclasses.replace(cond, image_tokens=tokens, image_scales=scales))
    for row in range(3):
        rows = slice(row, row + 1)
        one = Conditioning(cond.states[rows], image_tokens=tokens[rows], image_scales=scales[rows])
        torch.testing.assert_close(together[rows], model.denoise(x[rows], 500, one), atol=1e-4, rtol=1e-4)
    assert (together[1] - together[2]).abs().max() > 1e-3


def write_t2i(folder: Path, unet: Any, *, xl: bool = False, in_channels: int = 3) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(9)
        kind = "full_adapter_xl" if xl else "full_adapter"
        channels = [*unet.config.block_out_channels, *([unet.config.block_out_channels[-1]] if xl else [])]
        T2IAdapter(
            in_channels=in_channels,
            channels=channels,
            num_res_blocks=1,
            downscale_factor=16 if xl else 8,
            adapter_type=kind,
        ).save_pretrained(folder)
    return folder


@pytest.mark.filterwarnings("ignore:The decode_latents method is deprecated")
@pytest.mark.parametrize("in_channels", [1, 3])
def test_t2i_adapters_are_those_of_diffusers(sd1: Path, tmp_path: Path, in_channels: int) -> None:
    net = write_t2i(tmp_path / "sketch", fewstep.load(sd1, device="cpu").network.module, in_channels=in_channels)
    model = fewstep.load(sd1, device="cpu", controlnets=[net])
    sketch = picture(2, (128, 128)).convert("L")
    theirs = pipeline_of(StableDiffusionAdapterPipeline, sd1, adapter=T2IAdapter.from_pretrained(net))(
        PROMPT,
        image=sketch if in_channels == 1 else sketch.convert("RGB"),
        adapter_conditioning_scale=0.6,
        latents=noise_for(model),
        num_inference_steps=3,
        guidance_scale=4.0,
        height=128,
        width=128,
    ).images[0]
    options: dict[str, Any] = {"seed": SEED, "steps": 3, "guidance_scale": 4.0, "sampler": "ddim"}
    ours = fewstep.text2image(model, PROMPT, controls={"sketch": (sketch, 0.6)}, **options)
    assert apart(ours, theirs) <= GREY_LEVELS
    assert apart(ours, fewstep.text2image(model, PROMPT, **options)) > 3


def test_t2i_adapters_of_sdxl(tmp_path: Path) -> None:
    folder = write_miniature_sdxl(tmp_path / "sdxl")
    net = write_t2i(tmp_path / "sketch", fewstep.load(folder, device="cpu").network.module, xl=True)
    model = fewstep.load(folder, device="cpu", controlnets=[net])
    theirs = pipeline_of(StableDiffusionXLAdapterPipeline, folder, adapter=T2IAdapter.from_pretrained(net))(
        PROMPT,
        image=picture(2, (128, 128)),
        adapter_conditioning_scale=0.8,
        latents=noise_for(model),
        num_inference_steps=3,
        guidance_scale=4.0,
        height=128,
        width=128,
    ).images[0]
    ours = fewstep.text2image(
        model,
        PROMPT,
        seed=SEED,
        steps=3,
        guidance_scale=4.0,
        sampler="ddim",
        controls={"sketch": (picture(2, (128, 128)), 0.8)},
    )
    assert apart(ours, theirs) <= GREY_LEVELS


def test_all_kinds_together_in_windows_on_the_command_line(
    sd1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unet = fewstep.load(sd1, device="cpu").network.module
    monkeypatch.chdir(tmp_path)
    write_adapter(tmp_path, unet, "plain")
    write_t2i(tmp_path / "sketch", unet)
    picture(1).save("cat.png")
    controls = ["--control", "models/ip-adapter.safetensors=cat.png:0.6", "--control", "./sketch=cat.png"]
    common = ["--model", str(sd1), "--steps", "2", "--device", "cpu", "--width", "192", "--tile"]
    assert main(["generate", PROMPT, "--seed", "3", "-o", "a.png", *common, *controls]) == 0
    assert {(used.name, used.scale) for used in read_record("a.png").controls} == {("ip-adapter", 0.6), ("sketch", 1.0)}
    assert main(["generate", "--from", "a.png", "-o", "b.png", *common, *controls]) == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()


def test_what_cannot_be_is_said(sd1: Path, tmp_path: Path) -> None:
    unet = fewstep.load(sd1, device="cpu").network.module
    file = write_adapter(tmp_path, unet, "plain")
    with pytest.raises(InvalidRequest, match="no ControlNet 'pose' here; loaded are ip-adapter"):
        fewstep.text2image(fewstep.load(sd1, device="cpu", controlnets=[file]), PROMPT, controls={"pose": picture(1)})
    other = write_miniature_sdxl(tmp_path / "sdxl")
    with pytest.raises(InvalidModel, match=r"the IP-Adapter ip-adapter.safetensors was made for another base"):
        fewstep.load(other, device="cpu", controlnets=[file])
    with pytest.raises(InvalidModel, match=r"the T2I-Adapter sketch was made for SD 1.x or 2.x"):
        fewstep.load(other, device="cpu", controlnets=[write_t2i(tmp_path / "sketch", unet)])
    with pytest.raises(ModelNotFound, match=r"no ControlNet or IP-Adapter 'nowhere.safetensors'"):
        fewstep.load(sd1, device="cpu", controlnets=["nowhere.safetensors"])
    pickle = tmp_path / "ip-adapter.bin"
    pickle.write_bytes(b"x")
    with pytest.raises(InvalidModel, match="is a pickle"):
        fewstep.load(sd1, device="cpu", controlnets=[pickle])
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes(file.read_bytes())
    (tmp_path / "models" / "image_encoder" / "config.json").rename(tmp_path / "config.json")
    with pytest.raises(InvalidModel, match="reads a picture encoder with projection_dim 24, and there is none"):
        fewstep.load(sd1, device="cpu", controlnets=[alone])
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(InvalidModel, match="is no ControlNet, T2I-Adapter or IP-Adapter"):
        fewstep.load(sd1, device="cpu", controlnets=[tmp_path / "other.safetensors"])
    face = {f"image_proj.{key}.weight": torch.zeros(1) for key in ("proj.0", "norm")}
    face |= {"ip_adapter.1.to_k_ip.weight": torch.zeros(1, 1)}
    save_file(face, tmp_path / "face.safetensors")
    with pytest.raises(InvalidModel, match="is for faces"):
        fewstep.load(sd1, device="cpu", controlnets=[tmp_path / "face.safetensors"])


@pytest.mark.slow
@pytest.mark.parametrize("spread", [Placement.in_turns, Placement.in_layers])
def test_they_work_where_parts_or_layers_take_turns(sd1: Path, tmp_path: Path, spread: Any) -> None:
    model, _ = with_adapters(sd1, tmp_path / "home", "plus")
    options: dict[str, Any] = {"seed": SEED, "steps": 2, "guidance_scale": 3.0}
    steered, plain = ({"controls": {"ip-0": picture(1)}}, {})
    expected = [fewstep.text2image(model, PROMPT, **options, **how) for how in (steered, plain)]
    spread(model.placement, model.stages, torch.device("cpu"))
    ours = [fewstep.text2image(model, PROMPT, **options, **how) for how in (steered, plain)]
    assert [apart(a, b) for a, b in zip(ours, expected, strict=True)] == [0, 0]
