"""LoRA: diffusers' pictures from the same files, in every spelling; and every row of a batch its own weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import LCMScheduler, StableDiffusionPipeline
from diffusers.loaders import StableDiffusionXLLoraLoaderMixin
from safetensors.torch import load_file, save_file

import adapters
import fewstep
from fewstep.core.noise import PictureNoise
from fewstep.errors import FewstepWarning, InvalidModel, InvalidRequest, ModelNotFound
from fewstep.models.adapters.lora.file import LoraFile
from fewstep.models.adapters.lora.layer import AdaptedLayer
from fewstep.models.adapters.lora.names import kohya_names
from fewstep.models.adapters.lora.put_on import layers_of, with_loras
from fewstep.models.adapters.lora.source import LoraSpec, find_lora
from fewstep.models.families.unet_names import stability_names
from fewstep.models.locating import ADAPTERS
from fewstep.models.model import Model
from miniature import sdxl_unet

ALPHA = 2.0
PROMPT = "a blue cat"


def parts_of(model: Model, seed: int = 1) -> dict[str, adapters.Layers]:
    text = adapters.random_layers(model.text.encoders["text_encoder"], seed + 100)
    return {"unet": adapters.random_layers(model.network.module, seed), "text_encoder": adapters.with_prefix(text)}


def write_style(path: Path, model: Model, seed: int = 1) -> Path:
    parts = parts_of(model, seed)
    return adapters.write_kohya(path, {"lora_unet": parts["unet"], "lora_te": parts["text_encoder"]}, ALPHA)


@pytest.fixture
def base(miniature: Path) -> Model:
    """The diffusion model, afresh: adapters change its networks."""
    return fewstep.load(miniature / "teacher", device="cpu")


def pixels(picture: object) -> np.ndarray:
    return np.asarray(picture).astype(int)


def theirs(base: Model, miniature: Path, loads: Callable[[StableDiffusionPipeline], None]) -> np.ndarray:
    """diffusers' picture with adapters loaded by `loads`, from the noise that seed 3 means."""
    fresh = fewstep.load(miniature / "teacher", device="cpu")
    from diffusers import DDIMScheduler

    pipeline = StableDiffusionPipeline(
        vae=fresh.autoencoder.module,
        text_encoder=fresh.text.encoders["text_encoder"],
        tokenizer=fresh.text.tokenizers["tokenizer"],
        unet=fresh.network.module,
        scheduler=DDIMScheduler.from_pretrained(miniature / "teacher" / "scheduler"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    loads(pipeline)
    lcm = isinstance(pipeline.scheduler, LCMScheduler)
    picture = pipeline(
        PROMPT,
        latents=PictureNoise((3,)).draw(fresh.traits.latent_shape(128, 128)),
        num_inference_steps=1 if lcm else 4,
        guidance_scale=1.0 if lcm else 3.0,
    ).images[0]
    return pixels(picture)


def ours(model: Model, **options: object) -> np.ndarray:
    settings = {"seed": 3, "steps": 4, "guidance_scale": 3.0, "sampler": "ddim"} | options
    return pixels(fewstep.text2image(model, PROMPT, **settings))  # type: ignore[call-overload]


def write_any(spelling: str, folder: Path, model: Model) -> tuple[Path, float]:
    """A file (or folder), and the alpha that it means."""
    parts = parts_of(model)
    match spelling:
        case "kohya":
            kohya = {"lora_unet": parts["unet"], "lora_te": parts["text_encoder"]}
            return adapters.write_kohya(folder / "style.safetensors", kohya, ALPHA), ALPHA
        case "diffusers":
            return adapters.write_diffusers(folder / "style.safetensors", parts, ALPHA), ALPHA
        case "old diffusers":
            return adapters.write_old_diffusers(folder / "style.safetensors", {"unet": parts["unet"]}), 3.0
    return adapters.write_peft(folder / "style", parts["unet"], ALPHA), ALPHA


@pytest.mark.parametrize("spelling", ["kohya", "diffusers"])
def test_pictures_are_those_of_diffusers(spelling: str, base: Model, miniature: Path, tmp_path: Path) -> None:
    path, _ = write_any(spelling, tmp_path, base)
    plain = ours(base)

    def loads(pipeline: StableDiffusionPipeline) -> None:
        pipeline.load_lora_weights(path, adapter_name="style")
        pipeline.set_adapters(["style"], [0.7])

    expected = theirs(base, miniature, loads)
    changed = ours(with_loras(base, [f"{path}:0.7"]))
    assert abs(changed - expected).max() <= 1
    assert abs(changed - plain).max() > 20


@pytest.mark.parametrize("spelling", ["kohya", "diffusers", "old diffusers", "peft"])
def test_every_spelling_means_the_same_layers(spelling: str, base: Model, tmp_path: Path) -> None:
    path, alpha = write_any(spelling, tmp_path, base)
    layers = parts_of(base)["unet"]
    weights = {name: module.weight.clone() for name, module in layers_of(base.network.module).items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = with_loras(base, [path])
    modules = layers_of(model.network.module)
    assert {name for name, module in modules.items() if isinstance(module, AdaptedLayer)} == set(layers)
    with model.loras.applied(None, model.device):  # type: ignore[union-attr]
        for name, (down, up) in layers.items():
            x = torch.randn(2, down.shape[1], *[4] * (down.ndim - 2))
            whole = weights[name] + alpha / 3 * torch.einsum("or,r...->o...", up.flatten(1), down)
            module = modules[name].base_layer
            called = modules[name](x)
            module.weight.data, kept = whole, module.weight.data
            torch.testing.assert_close(called, module(x), rtol=1e-4, atol=1e-4)
            module.weight.data = kept


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`")
def test_two_adapters_add_up_as_in_diffusers(base: Model, miniature: Path, tmp_path: Path) -> None:
    one, two = (write_style(tmp_path / f"{seed}.safetensors", base, seed) for seed in (1, 2))

    def loads(pipeline: StableDiffusionPipeline) -> None:
        pipeline.load_lora_weights(one, adapter_name="one")
        pipeline.load_lora_weights(two, adapter_name="two")
        pipeline.set_adapters(["one", "two"], [0.8, -0.5])

    expected = theirs(base, miniature, loads)
    model = with_loras(base, [(one, 0.8), (two, -0.5)])
    assert abs(ours(model) - expected).max() <= 1
    assert abs(ours(model, loras={"2": 0.0}) - expected).max() > 10


def test_an_lcm_lora_makes_a_few_step_model_as_in_diffusers(base: Model, miniature: Path, tmp_path: Path) -> None:
    layers = {"lora_unet": adapters.random_layers(base.network.module, 5)}
    path = adapters.write_kohya(tmp_path / "lcm-lora-test.safetensors", layers, ALPHA)

    def loads(pipeline: StableDiffusionPipeline) -> None:
        pipeline.load_lora_weights(path)
        pipeline.scheduler = LCMScheduler.from_config(pipeline.scheduler.config, timestep_spacing="leading")

    expected = theirs(base, miniature, loads)
    with pytest.warns(
        FewstepWarning, match=r"lcm-lora-test\.safetensors is taken for an LCM-LoRA .* by its name alone"
    ):
        model = with_loras(base, [path])
    assert (model.profile.kind, model.profile.steps, model.profile.guidance.scale) == ("lcm", 4, 1.0)
    assert abs(ours(model, sampler=None, steps=1, guidance_scale=None) - expected).max() <= 1
    with pytest.raises(InvalidRequest, match=r"with an LCM-LoRA has learnt its guidance, .*: 1 to 2 are allowed"):
        fewstep.text2image(model, "a cat", guidance_scale=2.1)


def test_an_lcm_lora_on_a_consistency_model_is_refused(base: Model, student: Model, tmp_path: Path) -> None:
    layers = {"lora_unet": adapters.random_layers(base.network.module, 5)}
    guessed = adapters.write_kohya(tmp_path / "lcm-lora-test.safetensors", layers, ALPHA)
    known = tmp_path / "known.safetensors"
    save_file(load_file(guessed), known, metadata={"fewstep": '{"kind": "lcm"}'})
    with pytest.warns(FewstepWarning, match="by its name alone; --kind diffusion says otherwise"):
        few = with_loras(base, [guessed])
    for model in (student, few):
        with pytest.raises(
            InvalidModel, match=rf"known\.safetensors is an LCM-LoRA, .* and {model.name} does so already"
        ):
            with_loras(model, [known])
    with pytest.raises(InvalidModel, match=r"is an LCM-LoRA \(by its name; for a style of that name say --kind lcm\),"):
        with_loras(student, [guessed])


def test_a_weight_of_zero_is_the_base_itself(base: Model, tmp_path: Path) -> None:
    plain = ours(base)
    model = with_loras(base, [write_style(tmp_path / "style.safetensors", base)])
    assert (ours(model, loras={"style": 0.0}) == plain).all()
    assert abs(ours(model) - plain).max() > 20


def test_every_row_of_a_batch_takes_its_own_weights(base: Model, tmp_path: Path) -> None:
    model = with_loras(base, [write_style(tmp_path / f"{seed}.safetensors", base, seed) for seed in (1, 2)])
    x, t = torch.randn(3, *model.traits.latent_shape(128, 128)), torch.tensor([999, 500, 100])
    weights = [(0.3, -1.0), (0.0, 0.0), (2.0, 0.4)]
    conds = [model.encode_text([PROMPT], each) for each in weights]
    together = model.denoise(x, t, type(conds[0]).cat(conds))
    alone = [model.denoise(x[i : i + 1], t[i : i + 1], cond) for i, cond in enumerate(conds)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-4)
    assert (alone[0] - model.denoise(x[:1], t[:1], conds[2])).abs().max() > 0.1


def test_a_picture_is_the_same_alone_and_among_others(base: Model, tmp_path: Path) -> None:
    model = with_loras(base, [write_style(tmp_path / "style.safetensors", base)])
    many = fewstep.text2image(model, PROMPT, seed=2, num_images=3, steps=2)
    assert abs(pixels(many[1]) - pixels(fewstep.text2image(model, PROMPT, seed=3, steps=2))).max() <= 1


def test_kohyas_sdxl_names_are_read_as_diffusers_reads_them(tmp_path: Path) -> None:
    unet = sdxl_unet()
    layers = adapters.random_layers(unet, 1)
    spelled = {layer: name for name, layer in stability_names(layers, unet.config).items()}
    assert set(spelled) == set(layers)
    path = adapters.write_kohya(
        tmp_path / "style.safetensors", {"lora_unet": {spelled[name]: layer for name, layer in layers.items()}}, ALPHA
    )
    state, alphas = StableDiffusionXLLoraLoaderMixin.lora_state_dict(load_file(path), unet_config=unet.config)
    StableDiffusionXLLoraLoaderMixin.load_lora_into_unet(state, alphas, unet, adapter_name="theirs")
    modules = layers_of(unet)
    table = kohya_names(layers, stability_names(layers, unet.config))
    for written, layer in LoraFile.read(path).layers["unet"].items():
        theirs = modules[table[written]]
        assert torch.equal(theirs.lora_A["theirs"].weight, layer.down)  # type: ignore[index,union-attr]
        assert theirs.scaling["theirs"] == layer.alpha / layer.rank  # type: ignore[index]


@pytest.mark.parametrize(
    ("text", "source", "weight"),
    [
        ("style.safetensors:0.8", "style.safetensors", 0.8),
        ("style.safetensors", "style.safetensors", 1.0),
        ("owner/name:-1", "owner/name", -1.0),
        ("C:\\loras\\style.safetensors", "C:\\loras\\style.safetensors", 1.0),
        ("lcm-lora:1.0", "lcm-lora", 1.0),
    ],
)
def test_how_an_adapter_is_asked_for(text: str, source: str, weight: float) -> None:
    assert LoraSpec.of(text) == LoraSpec(source, weight)


@pytest.mark.parametrize("weight", ["nan", "inf", "11", "-1e9"])
def test_a_weight_that_is_no_weight(weight: str) -> None:
    with pytest.raises(InvalidRequest, match="the weight of style is"):
        LoraSpec.of(f"style:{weight}")


def test_requests_name_adapters_that_are_loaded(base: Model, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="has no LoRA loaded"):
        fewstep.text2image(base, PROMPT, loras={"style": 1.0})
    model = with_loras(base, [write_style(tmp_path / "style.safetensors", base)])
    with pytest.raises(InvalidRequest, match="no LoRA 'other' here; loaded are style"):
        fewstep.text2image(model, PROMPT, loras={"other": 1.0})


def test_layers_that_the_model_lacks_are_named(base: Model, tmp_path: Path) -> None:
    path = write_style(tmp_path / "style.safetensors", base)
    tensors = load_file(path)
    for matrix in ("lora_down.weight", "lora_up.weight"):
        tensors[f"lora_unet_nowhere_at_all.{matrix}"] = torch.zeros(3, 3)
    save_file(tensors, path)
    with pytest.warns(FewstepWarning, match=r"1 of \d+ layers are not in .*unet: nowhere_at_all"):
        with_loras(base, [path])


@pytest.mark.parametrize(
    ("source", "name"), [("someone/ink", "ink"), ("someone/styles/ink.safetensors", "ink"), ("blue-ink", "blue-ink")]
)
def test_what_an_adapter_calls_itself_finds_it_again(
    source: str, name: str, base: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_style(tmp_path / "pytorch_lora_weights.safetensors", base)
    monkeypatch.setattr("fewstep.models.adapters.lora.source._download", lambda repository, file: path)
    monkeypatch.setitem(ADAPTERS, "blue-ink", path)
    file = find_lora(source, base)
    assert (file.name, file.reference) == (name, source)
    assert find_lora(str(file.reference), base).hash == file.hash


def test_files_that_do_not_fit_are_refused_in_words(base: Model, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"

    def refused(tensors: dict[str, torch.Tensor], words: str) -> None:
        save_file(tensors, path)
        with pytest.raises(InvalidModel, match=words):
            with_loras(base, [path])

    key = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    sdxl = {f"{key}.lora_down.weight": torch.zeros(4, 2048), f"{key}.lora_up.weight": torch.zeros(320, 4)}
    refused(sdxl, "was made for SDXL and miniature-teacher is")
    refused(
        {"lora_unet_x.lora_down.weight": torch.zeros(4, 8), "lora_unet_x.lora_up.weight": torch.zeros(8, 4)}, "not one"
    )
    refused({f"{key}.lora_down.weight": torch.zeros(4, 32)}, "is damaged: .* needs a down and an up matrix")
    refused({"lora_unet_x.hada_w1_a": torch.zeros(4)}, "is damaged: x has only hada_w1_a")
    refused({"lora_unet_x.lokr_w1": torch.zeros(4)}, "is damaged: x has only lokr_w1")
    refused({"lora_unet_x.oft_blocks": torch.zeros(4)}, "is damaged: the oft_blocks of x are no square blocks")
    refused({f"{key}.dora_scale": torch.zeros(4)}, "is damaged: .* has only dora_scale")
    refused({"strange.weight": torch.zeros(4)}, "is no LoRA that fewstep knows .*'strange.weight'")
    refused({}, "is no LoRA")
    path.write_bytes(b"not safetensors at all")
    with pytest.raises(InvalidModel, match="cannot be read as safetensors"):
        with_loras(base, [path])
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        InvalidModel, match=r"is no LoRA: a folder of one has pytorch_lora_weights.safetensors \(diffusers\) or"
    ):
        with_loras(base, [tmp_path / "empty"])
    pickle = tmp_path / "style.pt"
    pickle.write_bytes(b"x")
    with pytest.raises(InvalidModel, match="is a pickle"):
        with_loras(base, [pickle])


def test_an_adapter_that_is_nowhere(base: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for name in ("nowhere.safetensors", "loras/nowhere.safetensors"):
        with pytest.raises(ModelNotFound, match=rf"no LoRA '{name}': give a \.safetensors file"):
            with_loras(base, [name])
    with pytest.raises(ModelNotFound, match="the hub cannot be reached"):
        with_loras(base, ["someone/something"])
    with pytest.raises(ModelNotFound, match="no published LCM-LoRA for miniature-teacher"):
        with_loras(base, ["lcm-lora"])


@pytest.mark.slow
@pytest.mark.skipif(not all(path.is_file() for path in ADAPTERS.values()), reason="no weights yet")
def test_the_adapters_that_come_along_go_by_name_and_do_what_they_say() -> None:
    def colours(model: Model) -> float:
        """How far the drawing leans to red rather than blue, in [-255, 255]."""
        pixels = np.asarray(fewstep.text2image(model, "red apple", seed=0), dtype=float)
        return float((pixels[..., 0] - pixels[..., 2]).mean())

    def black(model: Model) -> float:
        """The share of nearly black pixels: OpenMoji's drawings have black outlines."""
        pictures = fewstep.text2image(model, ["red apple", "cat face", "house", "tulip"], seed=0)
        return float(np.mean([np.asarray(picture).max(-1) < 64 for picture in pictures]))

    fast = fewstep.load("starter-teacher", device="cpu", loras=["blue-ink", "lcm-lora"])
    assert (fast.profile.kind, fast.profile.sampler, fast.profile.steps, fast.profile.phases) == ("lcm", "tcd", 4, 1)
    assert fast.loras is not None
    assert [file.reference for file in fast.loras.files] == ["blue-ink", "lcm-lora"]
    plain = colours(fewstep.load("starter", device="cpu"))
    assert plain > 40
    for model in (
        fast,
        *(fewstep.load("starter", device="cpu", loras=[name]) for name in ("blue-ink", "blue-ink-lcf")),
    ):
        assert colours(model) < plain / 2
    outlined = fewstep.load("starter", device="cpu", loras=["openmoji"])
    assert black(outlined) > 3 * black(fewstep.load("starter", device="cpu"))
