"""LoRA files in other spellings: the numbers stay, diffusers reads them, and real architectures' names are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.loaders import StableDiffusionLoraLoaderMixin, StableDiffusionXLLoraLoaderMixin
from safetensors.torch import load_file

import adapters
import fewstep
from fewstep.errors import CannotWrite, FewstepWarning, InvalidModel
from fewstep.models.adapters.lora.convert import convert, write_lora
from fewstep.models.adapters.lora.file import LoraFile
from fewstep.models.adapters.lora.kinds.lora import LoraLayer
from fewstep.models.adapters.lora.names import SPELLINGS, Spelling, kohya_names
from fewstep.models.adapters.lora.put_on import layers_of, merged, with_loras
from fewstep.models.families.sd import SD1, SD2
from fewstep.models.families.sdxl import SDXL
from fewstep.models.families.unet import UNetFamily
from fewstep.models.families.unet_names import stability_names
from fewstep.models.model import Model
from fewstep.models.saving import save

KNOWN_SIZES = {"SD 1.x": 859_520_964, "SD 2.x": 865_910_724, "SDXL": 2_567_463_684}  # of the published U-Nets


@pytest.fixture
def model(miniature: Path) -> Model:
    return fewstep.load(miniature / "teacher", device="cpu")


@pytest.mark.parametrize("family", [SD1, SD2, SDXL], ids=lambda each: each.name)
def test_the_architectures_have_the_published_sizes(family: UNetFamily) -> None:
    unet = family.blank("unet")
    assert sum(x.numel() for x in unet.parameters()) == KNOWN_SIZES[family.name]
    assert all(x.is_meta for x in unet.parameters())


def files_of_real_size(tmp_path: Path, family: UNetFamily, stability: bool) -> Path:
    """An adapter of rank 1 for every layer that the published LCM-LoRAs take, under the names that they have."""
    unet = family.blank("unet")
    layers = {
        name: (
            torch.zeros(1, *module.weight.shape[1:]),
            torch.zeros(len(module.weight), 1, *[1] * (module.weight.ndim - 2)),
        )
        for name, module in layers_of(unet).items()
        if adapters.TARGETS.search(name)
    }
    if stability:
        spelled = {layer: name for name, layer in stability_names(layers, unet.config).items()}
        layers = {spelled[name]: layer for name, layer in layers.items()}
    return adapters.write_kohya(tmp_path / "lcm-lora.safetensors", {"lora_unet": layers}, alpha=1.0)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "stability"), [(SD1, False), (SD2, False), (SDXL, False), (SDXL, True)])
def test_files_for_real_architectures_are_wholly_understood(
    tmp_path: Path, family: UNetFamily, stability: bool
) -> None:
    file = LoraFile.read(files_of_real_size(tmp_path, family, stability))
    assert (file.family, file.kind, file.ranks) == (family.name, "lcm", (1,))
    assert convert(file, "diffusers", tmp_path / "converted.safetensors") == []
    converted = LoraFile.read(tmp_path / "converted.safetensors")
    assert converted.spelling == "diffusers"
    assert len(converted.layers["unet"]) == len(file.layers["unet"])
    unet = family.blank("unet")
    mixin = StableDiffusionXLLoraLoaderMixin if family is SDXL else StableDiffusionLoraLoaderMixin
    theirs, _ = mixin.lora_state_dict(load_file(file.path), unet_config=unet.config)
    assert len(theirs) == 2 * len(converted.layers["unet"])
    table = kohya_names(layers_of(unet), family.lora_names("unet", layers_of(unet), unet.config))
    assert {table[name] for name in file.layers["unet"]} == set(converted.layers["unet"])


@pytest.mark.parametrize("first", SPELLINGS)
@pytest.mark.parametrize("second", SPELLINGS)
def test_there_and_back_the_numbers_stay(model: Model, tmp_path: Path, first: Spelling, second: Spelling) -> None:
    layers = {
        name: LoraLayer(down, up, alpha=float(1 + index % 3))
        for index, (name, (down, up)) in enumerate(adapters.random_layers(model.network.module, 1).items())
    }
    paths = [tmp_path / ("a" if each == "peft" else "a.safetensors") for each in (first, second)]
    paths[1] = paths[1].with_stem("b")
    write_lora({"unet": layers}, first, paths[0], record={"kind": "lcm"})
    assert convert(LoraFile.read(paths[0]), second, paths[1], model) == []
    there = LoraFile.read(paths[1])
    assert (there.spelling, there.kind) == (second, "lcm")
    found = with_loras(model, [paths[1]])
    modules = layers_of(found.network.module)
    for name, layer in layers.items():
        module = modules[name]
        adapter = module.adapters["0"]
        assert torch.equal(adapter.down, layer.down)
        assert torch.equal(adapter.up, layer.up)
        assert adapter.scale == layer.alpha / layer.rank


def test_diffusers_reads_what_was_written(model: Model, tmp_path: Path) -> None:
    layers = {
        name: LoraLayer(down, up, 2.0) for name, (down, up) in adapters.random_layers(model.network.module, 1).items()
    }
    for spelling in ("kohya", "diffusers"):
        path = tmp_path / f"{spelling}.safetensors"
        write_lora({"unet": layers}, spelling, path)  # type: ignore[arg-type]
        fresh = fewstep.load(model.origin.folder, device="cpu").network.module  # type: ignore[arg-type]
        state, alphas, metadata = StableDiffusionLoraLoaderMixin.lora_state_dict(
            path, unet_config=fresh.config, return_lora_metadata=True
        )
        StableDiffusionLoraLoaderMixin.load_lora_into_unet(
            state, alphas, fresh, adapter_name="theirs", metadata=metadata
        )
        modules = layers_of(fresh)
        for name, layer in layers.items():
            module = modules[name]
            assert torch.equal(module.lora_A["theirs"].weight, layer.down)  # type: ignore[index,union-attr]
            assert module.scaling["theirs"] == pytest.approx(2.0 / 3)  # type: ignore[index]


def test_a_merged_model_paints_as_with_the_adapters_on_top(model: Model, miniature: Path, tmp_path: Path) -> None:
    text = adapters.with_prefix(adapters.random_layers(model.text.encoders["text_encoder"], 9))
    parts = {"lora_unet": adapters.random_layers(model.network.module, 1), "lora_te": text}
    path = adapters.write_kohya(tmp_path / "lcm_ink.safetensors", parts, alpha=2.0)
    with pytest.warns(FewstepWarning, match="by its name alone"):
        on_top = with_loras(model, [(path, 0.7)])
    expected = np.asarray(fewstep.text2image(on_top, "a cat", seed=1), dtype=int)
    result = merged(on_top)
    assert result.loras is None
    assert not [name for name, _ in result.network.module.named_modules() if "adapters" in name]
    save(result, tmp_path / "merged", base=miniature / "teacher")
    again = fewstep.load(tmp_path / "merged", device="cpu")
    assert (again.profile.kind, again.profile.steps) == ("lcm", 4)
    assert (
        json.loads((tmp_path / "merged/scheduler/scheduler_config.json").read_text())["_class_name"] == "LCMScheduler"
    )
    painted = np.asarray(fewstep.text2image(again, "a cat", seed=1), dtype=int)
    assert np.abs(painted - expected).max() <= 1
    with pytest.raises(CannotWrite, match="it is there already"):
        save(result, tmp_path / "merged", base=miniature / "teacher")
    with pytest.raises(InvalidModel, match="merge them first"):
        save(with_loras(result, [path.rename(tmp_path / "ink.safetensors")]), tmp_path / "x", miniature / "teacher")
    assert not list(tmp_path.glob(".fewstep*"))


def test_an_unknown_base_needs_the_model(model: Model, tmp_path: Path) -> None:
    path = adapters.write_kohya(
        tmp_path / "x.safetensors", {"lora_unet": adapters.random_layers(model.network.module, 1)}, 1.0
    )
    with pytest.raises(InvalidModel, match="name it with --model"):
        convert(LoraFile.read(path), "diffusers", tmp_path / "y.safetensors")
    both = {
        "unet": adapters.random_layers(model.network.module, 1),
        "text_encoder": adapters.random_layers(model.text.encoders["text_encoder"], 1),
    }
    adapters.write_diffusers(path, both, 1.0)
    with pytest.raises(InvalidModel, match="also changes a text encoder"):
        convert(LoraFile.read(path), "peft", tmp_path / "y", model)
