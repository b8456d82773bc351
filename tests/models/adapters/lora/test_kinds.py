"""LoHa, LoKr, DoRA, OFT: a layer with one of them gives what LyCORIS and PEFT give, merged and unmerged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoHaConfig, LoKrConfig, LoraConfig, OFTConfig, get_peft_model
from safetensors.torch import save_file
from torch import Tensor, nn

import adapters
import fewstep
from fewstep.errors import FewstepWarning, InvalidModel
from fewstep.models.adapters.lora.convert import convert, write_lora
from fewstep.models.adapters.lora.file import LoraFile
from fewstep.models.adapters.lora.kinds.base import Change
from fewstep.models.adapters.lora.kinds.dora import DoraLayer
from fewstep.models.adapters.lora.kinds.full import FullLayer
from fewstep.models.adapters.lora.kinds.loha import LohaLayer
from fewstep.models.adapters.lora.kinds.lokr import LokrLayer
from fewstep.models.adapters.lora.kinds.lora import LoraLayer
from fewstep.models.adapters.lora.kinds.oft import OftLayer
from fewstep.models.adapters.lora.layer import AdaptedLayer, Shares
from fewstep.models.adapters.lora.put_on import layers_of, merged, with_loras
from fewstep.models.model import Model

LAYERS = {"linear": lambda: nn.Linear(12, 16), "conv": lambda: nn.Conv2d(12, 16, 3, padding=1, stride=2)}
INPUTS = {"linear": (2, 5, 12), "conv": (2, 12, 6, 6)}


def seeded(make: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return make()


def on_top(path: Path, layer: nn.Module, share: float = 1.0) -> AdaptedLayer:
    """The layer with the only change in the file."""
    (change,) = LoraFile.read(path).changes
    fitted = change.fitted(layer.weight.shape)  # type: ignore[arg-type]
    assert fitted is not None
    shares = Shares()
    shares.now = [share]
    return AdaptedLayer.on(layer, shares, {0: fitted})


def check(path: Path, kind: str, expected: Tensor, x: Tensor) -> None:
    """The layer on top, and the merged one, give `expected`, which is not what the layer gives alone."""
    layer = seeded(LAYERS[kind])
    assert (layer(x) - expected).abs().max() > 0.05
    torch.testing.assert_close(on_top(path, layer)(x), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(on_top(path, layer).merged([1.0])(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize(
    ("algorithm", "options"),
    [
        ("locon", {}),
        ("locon", {"use_tucker": True}),
        ("locon", {"weight_decompose": True}),
        ("locon", {"weight_decompose": True, "wd_on_out": False}),
        ("loha", {}),
        ("loha", {"use_tucker": True, "rs_lora": True}),
        ("loha", {"weight_decompose": True}),
        ("lokr", {"factor": 2}),
        ("lokr", {"factor": 4, "lora_dim": 1, "decompose_both": True}),
        ("lokr", {"factor": 2, "lora_dim": 1, "use_tucker": True}),
        ("lokr", {"full_matrix": True, "lora_dim": 10_000}),
        ("lokr", {"factor": 2, "weight_decompose": True, "wd_on_out": False}),
        ("full", {}),
        ("diag-oft", {}),
        ("diag-oft", {"constraint": 0.01, "rescaled": True}),
        ("boft", {}),
        ("boft", {"rescaled": True}),
    ],
)
def test_a_layer_gives_what_lycoris_gives(
    algorithm: str, options: Mapping[str, Any], kind: str, tmp_path: Path
) -> None:
    modules = pytest.importorskip("lycoris.modules")
    made = {getattr(each, "name", ""): each for each in modules.MODULE_LIST}[
        "kron" if algorithm == "lokr" else algorithm
    ]
    layer = seeded(LAYERS[kind])
    theirs = seeded(lambda: made("x", layer, **{"lora_dim": 4, "alpha": 3.0, **options}))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(5)
        for name, parameter in theirs.named_parameters():
            if "org" not in name and "bias" not in name and parameter is not layer.weight:
                parameter += 0.4 * torch.randn_like(parameter)
    x = torch.randn(INPUTS[kind])
    theirs.apply_to()
    with torch.no_grad():
        expected = theirs(x)
    tensors = {f"lora_unet_layer.{name}": value for name, value in theirs.state_dict().items() if "org" not in name}
    save_file(
        {name: value.detach().clone().contiguous() for name, value in tensors.items()}, tmp_path / "x.safetensors"
    )
    check(tmp_path / "x.safetensors", kind, expected, x)


class Network(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.layer = seeded(LAYERS[kind])

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layer(x)
        return result


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(r=3, lora_alpha=12),
        LoraConfig(r=3, lora_alpha=12, use_rslora=True),
        LoraConfig(r=3, lora_alpha=5, use_dora=True),
        LoraConfig(r=3, lora_alpha=5, rank_pattern={"layer": 2}, alpha_pattern={"^layer": 7}),
        LoHaConfig(r=3, alpha=5),
        LoHaConfig(r=3, alpha=5, use_effective_conv2d=True),
        LoKrConfig(r=2, alpha=5, decompose_factor=2),
        LoKrConfig(r=2, alpha=5, decompose_factor=2, use_effective_conv2d=True),
        LoKrConfig(r=100, alpha=300, decompose_both=True),
        OFTConfig(r=0, oft_block_size=4),
        OFTConfig(r=0, oft_block_size=4, use_cayley_neumann=False, block_share=True),
        OFTConfig(r=0, oft_block_size=4, num_cayley_neumann_terms=3),
    ],
    ids=lambda config: f"{config.peft_type.value}",
)
def test_a_layer_gives_what_peft_gives(config: Any, kind: str, tmp_path: Path) -> None:
    config.target_modules = ["layer"]
    network = get_peft_model(Network(kind), config)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(5)
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter += 0.3 * torch.randn_like(parameter)
    network.save_pretrained(tmp_path)
    x = torch.randn(INPUTS[kind])
    with torch.no_grad():
        expected = network.eval().merge_and_unload()(x)  # for OFT over a kernel PEFT's own unmerged layer is another
    check(tmp_path / "adapter_model.safetensors", kind, expected, x)
    check(tmp_path, kind, expected, x)


def pixels(model: Model, **options: Any) -> np.ndarray:
    picture = fewstep.text2image(model, "a blue cat", seed=3, steps=2, **options)
    return np.asarray(picture).astype(int)


@pytest.mark.parametrize("make", [adapters.loha_layers, adapters.oft_layers])
def test_pictures_merged_and_unmerged_are_the_same(make: Any, miniature: Path, tmp_path: Path) -> None:
    base = fewstep.load(miniature / "teacher", device="cpu")
    plain = pixels(base)
    save_file(make(base.network.module), tmp_path / "style.safetensors")
    model = with_loras(base, [tmp_path / "style.safetensors"])
    assert abs(pixels(model, loras={"style": 0.0}) - plain).max() == 0
    whole, half = pixels(model), pixels(model, loras={"style": 0.5})
    assert abs(whole - plain).max() > 10
    assert abs(whole - half).max() > 3
    assert abs(pixels(merged(model, {"style": 0.5})) - half).max() <= 1


def test_rows_of_a_batch_take_their_own_share_of_any_kind(miniature: Path, tmp_path: Path) -> None:
    base = fewstep.load(miniature / "teacher", device="cpu")
    save_file(adapters.oft_layers(base.network.module), tmp_path / "turn.safetensors")
    parts = {"lora_unet": adapters.random_layers(base.network.module, 1)}
    model = with_loras(
        base, [tmp_path / "turn.safetensors", adapters.write_kohya(tmp_path / "ink.safetensors", parts, 2.0)]
    )
    x, t = torch.randn(2, *model.traits.latent_shape(128, 128)), torch.tensor([999, 500])
    conds = [model.encode_text(["a cat"], each) for each in [(0.3, -1.0), (1.0, 0.4)]]
    together = model.denoise(x, t, type(conds[0]).cat(conds))
    alone = [model.denoise(x[i : i + 1], t[i : i + 1], cond) for i, cond in enumerate(conds)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-4)
    assert (alone[0] - model.denoise(x[:1], t[:1], conds[1])).abs().max() > 0.05


def test_what_is_of_no_layer_is_left_out_and_named(miniature: Path, tmp_path: Path) -> None:
    """As OneTrainer bundles an embedding with a LoRA."""
    base = fewstep.load(miniature / "teacher", device="cpu")
    layers = adapters.random_layers(base.network.module, 1)
    path = adapters.write_kohya(tmp_path / "style.safetensors", {"lora_unet": layers}, 2.0)
    expected = pixels(with_loras(base, [path]))
    from safetensors.torch import load_file

    save_file(load_file(path) | {"bundle_emb.x.clip_l": torch.zeros(2, 32)}, path)
    with pytest.warns(
        FewstepWarning, match=r"1 of its tensors are of no layer and are left out \(bundle_emb.x.clip_l\)"
    ):
        model = fewstep.load(miniature / "teacher", device="cpu", loras=[path])
    assert abs(pixels(model) - expected).max() == 0


def test_dora_keeps_its_change_in_every_spelling(miniature: Path, tmp_path: Path) -> None:
    model = fewstep.load(miniature / "teacher", device="cpu")
    tensors = {}
    for name, (down, up) in adapters.random_layers(model.network.module, 1).items():
        key = f"lora_unet_{name.replace('.', '_')}"
        tensors |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up, f"{key}.alpha": torch.tensor(2.0)}
        weight = layers_of(model.network.module)[name].weight
        tensors[f"{key}.dora_scale"] = 1.3 * weight.detach().flatten(1).norm(dim=1).reshape(
            -1, *[1] * (weight.ndim - 1)
        )  # type: ignore[union-attr,operator]
    save_file(tensors, tmp_path / "a.safetensors")
    file = LoraFile.read(tmp_path / "a.safetensors")
    assert file.algorithm == "DoRA"
    expected = pixels(fewstep.load(miniature / "teacher", device="cpu", loras=[tmp_path / "a.safetensors"]))
    for spelling, name in (("kohya", "b.safetensors"), ("diffusers", "c.safetensors"), ("peft", "d")):
        assert convert(file, spelling, tmp_path / name, model) == []  # type: ignore[arg-type]
        again = fewstep.load(miniature / "teacher", device="cpu", loras=[tmp_path / name])
        assert abs(pixels(again) - expected).max() <= 1


def test_rank_stabilised_ones_keep_their_change_when_converted(miniature: Path, tmp_path: Path) -> None:
    """alpha / sqrt(rank), in PEFT's folder and in diffusers' metadata; the other spellings know only alpha / rank."""
    model = fewstep.load(miniature / "teacher", device="cpu")
    layers = adapters.random_layers(model.network.module, 1)
    folder = adapters.write_peft(tmp_path / "peft", layers, 2.0)
    config = json.loads((folder / "adapter_config.json").read_text()) | {"use_rslora": True}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    tensors = {
        f"unet.{name}.lora_{m}.weight": x for name, pair in layers.items() for m, x in zip("AB", pair, strict=True)
    }
    said = {"unet.r": 3, "unet.lora_alpha": 2.0, "unet.use_rslora": True}
    save_file(tensors, tmp_path / "d.safetensors", {"lora_adapter_metadata": json.dumps(said)})
    for source in (folder, tmp_path / "d.safetensors"):
        file = LoraFile.read(source)
        assert {round(change.scale, 6) for change in file.changes if isinstance(change, LoraLayer)} == {
            round(2 / 3**0.5, 6)
        }
        for spelling, name in (("kohya", "k.safetensors"), ("diffusers", "e.safetensors"), ("peft", "p")):
            target = tmp_path / f"{source.stem}-{name}"
            convert(file, spelling, target, model)  # type: ignore[arg-type]
            scales = [change.scale for change in LoraFile.read(target).changes if isinstance(change, LoraLayer)]
            assert scales == pytest.approx([2 / 3**0.5] * len(layers))


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))) / 3


OTHERS: list[Change] = [
    LohaLayer(draw(16, 3), draw(3, 12), draw(16, 3), draw(3, 12), scale=0.7),
    LokrLayer(0.7, w1=draw(4, 3), w2=draw(4, 4)),
    LokrLayer(0.7, w1=draw(4, 3), w2_a=draw(4, 2), w2_b=draw(2, 4)),
    OftLayer(draw(4, 4, 4), constraint=0.01, rescale=draw(16, 1)),
    OftLayer(draw(2, 4, 4, 4)),
    FullLayer(draw(16, 12)),
    DoraLayer(LoraLayer(draw(2, 12), draw(16, 2), 3.0), draw(1, 12)),
    DoraLayer(LohaLayer(draw(16, 3), draw(3, 12), draw(16, 3), draw(3, 12), scale=0.7), draw(16, 1)),
]


@pytest.mark.parametrize("change", OTHERS, ids=lambda change: change.kind)
def test_other_kinds_keep_their_change_in_kohyas_spelling(change: Change, tmp_path: Path) -> None:
    write_lora({"unet": {"layer": change}}, "kohya", tmp_path / "x.safetensors")
    (again,) = LoraFile.read(tmp_path / "x.safetensors").changes
    weight = draw(16, 12)
    assert change.delta(weight).abs().max() > 0.05
    torch.testing.assert_close(again.delta(weight), change.delta(weight))


def test_kinds_that_a_spelling_has_no_names_for(miniature: Path, tmp_path: Path) -> None:
    model = fewstep.load(miniature / "teacher", device="cpu")
    save_file(adapters.loha_layers(model.network.module), tmp_path / "x.safetensors")
    with pytest.raises(InvalidModel, match="is a LoHa, for which diffusers has no names: choose kohya"):
        convert(LoraFile.read(tmp_path / "x.safetensors"), "diffusers", tmp_path / "y.safetensors", model)
    assert convert(LoraFile.read(tmp_path / "x.safetensors"), "kohya", tmp_path / "y.safetensors", model) == []


@pytest.mark.parametrize("text", ["null", "[1, 2]", "{", '"words"', "3"])
def test_metadata_that_is_no_object_is_said_and_not_used(text: str, tmp_path: Path) -> None:
    layers = {"a.attn2.to_q": (torch.randn(3, 8), torch.randn(8, 3))}
    path = adapters.write_diffusers(tmp_path / "x.safetensors", {"unet": layers}, 2.0)
    from safetensors.torch import load_file

    save_file(load_file(path), path, {"lora_adapter_metadata": text, "fewstep": text})
    with pytest.warns(FewstepWarning, match="lora_adapter_metadata is no JSON object and is not used"):
        file = LoraFile.read(path)
    assert (file.alphas, file.record) == ((3.0,), {})


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"lora_alpha": "much"}, "lora_alpha = 'much'; it must be a number"),
        ({"alpha_pattern": [1]}, "alpha_pattern = .1.; it must be an object"),
        ({"alpha_pattern": {"(": 1}}, "which is no pattern of a name"),
        ({"alpha_pattern": {"(a*)*b": 1}}, "which is no pattern of a name"),
        ({"coft": True}, "constrained OFT"),
    ],
)
def test_configs_that_cannot_be(config: dict[str, Any], words: str, tmp_path: Path) -> None:
    folder = adapters.write_peft(tmp_path / "x", {"a": (torch.randn(3, 8), torch.randn(8, 3))}, 2.0)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(InvalidModel, match=words):
        LoraFile.read(folder)


@pytest.mark.parametrize(
    "tensors",
    [
        {"hada_w1_a": torch.zeros(4, 0), "hada_w1_b": torch.zeros(0, 4), "hada_w2_a": torch.zeros(4, 0)},
        {"lora_down.weight": torch.zeros(4), "lora_up.weight": torch.zeros(4)},
        {"lora_down.weight": torch.tensor(1.0), "lora_up.weight": torch.tensor(1.0)},
        {"lora_down.weight": torch.zeros(2, 4), "lora_up.weight": torch.zeros(4, 2), "alpha": torch.zeros(2)},
        {
            "lora_down.weight": torch.zeros(2, 4),
            "lora_up.weight": torch.zeros(4, 2),
            "alpha": torch.tensor(float("nan")),
        },
        {"lora_down.weight": torch.zeros(2, 4), "lora_up.weight": torch.zeros(4, 2), "lora_mid.weight": torch.zeros(3)},
        {"oft_blocks": torch.zeros(2, 3, 4)},
        {"oft_blocks": torch.zeros(2, 2, 3, 3)},
        {"oft_R.weight": torch.zeros(2, 4)},
        {"lokr_w1": torch.zeros(2, 2), "lokr_w2_a": torch.zeros(2, 2)},
        {"alpha": torch.tensor(1.0)},
    ],
    ids=lambda tensors: "+".join(tensors),
)
def test_damaged_layers_are_said_to_be_so(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    save_file({f"lora_unet_x.{name}": value for name, value in tensors.items()}, tmp_path / "x.safetensors")
    with pytest.raises(InvalidModel, match=r"x\.safetensors is damaged: "):
        LoraFile.read(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    "tensors",
    [
        {"hada_w1_a": (16, 3), "hada_w1_b": (3, 12), "hada_w2_a": (16, 3), "hada_w2_b": (3, 11)},
        {"hada_w1_a": (16, 3), "hada_w1_b": (2, 12), "hada_w2_a": (16, 3), "hada_w2_b": (3, 12)},
        {"lokr_w1": (3, 2), "lokr_w2": (5, 6)},
        {"lokr_w1": (4, 2, 1), "lokr_w2": (4, 6)},
        {"oft_blocks": (3, 5, 5)},
        {"oft_R.weight": (5, 3)},
        {"diff": (16, 11)},
        {"lora_down.weight": (2, 12), "lora_up.weight": (16, 2), "dora_scale": (12, 1)},
        {"lora_down.weight": (2, 12), "lora_up.weight": (15, 2)},
    ],
    ids=lambda tensors: "+".join(tensors),
)
def test_shapes_that_do_not_fit_a_layer_are_left_out(tensors: dict[str, tuple[int, ...]], tmp_path: Path) -> None:
    save_file({f"lora_unet_x.{name}": torch.ones(shape) for name, shape in tensors.items()}, tmp_path / "x.safetensors")
    (change,) = LoraFile.read(tmp_path / "x.safetensors").changes
    assert change.fitted(torch.Size((16, 12))) is None
