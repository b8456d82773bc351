"""`fewstep inspect`, `convert` and `merge` as a person meets them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import adapters
import fewstep
from fewstep.cli.main import main
from fewstep.errors import FewstepWarning
from fewstep.models.adapters.lora.file import LoraFile
from fewstep.models.locating import STARTER
from full_disk import files_of_at_most
from miniature import write_miniature_sd1
from original import write_original

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)

    def run_command(*arguments: object) -> tuple[int, str, str]:
        code = main([str(each) for each in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run_command


@pytest.fixture
def style(run: Run, miniature: Path) -> Path:
    layers = {"lora_unet": adapters.random_layers(fewstep.load(miniature, device="cpu").network.module, 1)}
    return adapters.write_kohya(Path("lcm-ink.safetensors"), layers, alpha=2.0)


def test_inspect_says_what_a_file_is(run: Run, style: Path, miniature: Path) -> None:
    code, out, _ = run("inspect", style, "--model", miniature)
    assert code == 0
    for words in ("LCM-LoRA", "as kohya writes them", "rank", "layers of unet", "fits miniature", "wholly"):
        assert words in out
    code, out, _ = run("inspect", miniature, miniature / "teacher")
    assert code == 0
    for words in ("latent consistency model", "inside the network", "by a second call", "v_prediction", "128 x 128"):
        assert words in out


def test_a_mistyped_path_is_not_looked_for_on_the_hub(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *names, **_: asked.append(names) or "nowhere")
    code, _, err = run("inspect", "loras/stlye.safetensors")
    assert (code, asked) == (2, [])
    assert "no model 'loras/stlye.safetensors': give starter, starter-teacher, an existing folder or" in err


def test_inspect_reads_a_checkpoint_from_its_names(run: Run) -> None:
    names = ("input_blocks.0.0.weight", "time_embed.cond_proj.weight", "middle_block.1.attn2.to_k.weight")
    shapes = ((320, 4, 3, 3), (320, 256), (320, 768))
    tensors = {f"model.diffusion_model.{name}": torch.zeros(shape) for name, shape in zip(names, shapes, strict=True)}
    save_file(tensors | {"cond_stage_model.x": torch.zeros(1)}, "lcm.safetensors")
    code, out, _ = run("inspect", "lcm.safetensors")
    assert code == 0
    for words in ("one file, of a latent consistency model", "SD 1.x", "w embedded", "missing: give one with --vae"):
        assert words in out


def test_inspect_knows_what_goes_beside_a_model(run: Run) -> None:
    weights = {"x": torch.zeros(1)}
    networks = {
        "canny": {"_class_name": "ControlNetModel", "cross_attention_dim": 2048},
        "sketch": {"_class_name": "T2IAdapter", "adapter_type": "full_adapter"},
        "vae": {"_class_name": "AutoencoderKL", "latent_channels": 4},
    }
    for name, config in networks.items():
        Path(name).mkdir()
        (Path(name) / "config.json").write_text(json.dumps(config))
        save_file(weights, f"{name}/diffusion_pytorch_model.safetensors")
    prompts = {"image_proj.proj.weight": torch.zeros(4, 4), "ip_adapter.1.to_k_ip.weight": torch.zeros(4, 768)}
    save_file(prompts, "ip.safetensors")
    save_file({"decoder.conv_in.weight": torch.zeros(8, 4, 3, 3)}, "vae.safetensors")
    for name, kind, family in (
        ("canny", "ControlNet: give it with --control", "SDXL"),
        ("sketch", "T2I-Adapter: give it with --control", "SD 1.x or 2.x"),
        ("vae", "autoencoder: give it with --vae", "latents of 4 channels"),
        ("ip.safetensors", "IP-Adapter: give it with --control", "SD 1.x"),
        ("vae.safetensors", "autoencoder: give it with --vae", "latents of 4 channels"),
    ):
        code, out, _ = run("inspect", name)
        assert (code, kind in out, family in out) == (0, True, True)


@pytest.mark.skipif(not (STARTER / "model_index.json").is_file(), reason="no weights yet")
def test_adapters_that_come_along_go_by_name(run: Run) -> None:
    code, out, _ = run("inspect", "openmoji", "lcm-lora", "blue-ink")
    assert (code, out.count("the starter"), "LCM-LoRA" in out) == (0, 3, True)
    assert out.count("1 to 48, by layer") == 2
    convert = ("convert", "blue-ink", "--to", "diffusers", "-o", "d.safetensors", "--model", "starter")
    assert run(*convert)[0] == 0
    code, _, err = run(*convert, "--max-mb", 0.5)
    assert (code, "of the squared change is left, in ranks from" in err) == (0, True)
    assert Path("d.safetensors").stat().st_size <= 500_000
    code, _, err = run(*convert, "--max-mb", "inf")
    assert (code, "100.0% of the squared change is left" in err) == (0, True)
    code, _, err = run(*convert, "--max-mb", 0.01)
    assert (code, "with a rank of 1 in every layer it takes" in err) == (2, True)


@pytest.mark.skipif(not (STARTER / "model_index.json").is_file(), reason="no weights yet")
def test_inspect_says_how_a_picture_was_made_and_how_to_make_it_again(run: Run) -> None:
    assert run("generate", "a [red] fox", "--seed", 3, "-o", "a fox.png")[0] == 0
    code, out, _ = run("inspect", "a fox.png")
    assert (code, "a [red] fox" in out, "Seed: 3" in out) == (0, True, True)
    assert "fewstep generate --from 'a fox.png' -o again.png" in out
    Image.new("RGB", (40, 30)).save("plain.jpg")
    code, out, _ = run("inspect", "plain.jpg")
    assert (code, "40 x 30" in out, "it does not say" in out) == (0, True, True)
    code, _, err = run("inspect", "missing.png")
    assert (code, "there is no picture at missing.png" in err) == (2, True)


def test_inspect_names_some_of_what_does_not_fit(run: Run, miniature: Path) -> None:
    def inspected(layers: adapters.Layers) -> str:
        adapters.write_kohya(Path("x.safetensors"), {"lora_unet": layers}, 2.0)
        code, out, _ = run("inspect", "x.safetensors", "--model", miniature)
        assert code == 0
        return out

    out = inspected({f"down_blocks.{n}.strange": (torch.zeros(3, 8), torch.zeros(8, 3)) for n in range(23)})
    assert "but for 23 layers: down_blocks_0_strange, " in out
    assert " and 3 more" in out
    assert "no: it was made for SD 1.x" in inspected({"a.attn2.to_k": (torch.zeros(3, 768), torch.zeros(8, 3))})


def test_convert_and_merge(run: Run, style: Path, miniature: Path) -> None:
    assert run("convert", style, "--to", "diffusers", "-o", "d.safetensors", "--model", miniature)[:2] == (
        0,
        "d.safetensors\n",
    )
    assert LoraFile.read(Path("d.safetensors")).spelling == "diffusers"
    told = run("merge", miniature / "teacher", "--lora", f"{style}:0.5", "-o", "inked", "--dtype", "float32")
    assert told[:2] == (0, "inked\n")
    (said,) = told[2].splitlines()  # the libraries' bars and remarks are not ours
    assert "lcm-ink.safetensors is taken for an LCM-LoRA" in said
    assert "by its name alone; --kind diffusion says otherwise" in said
    merged = fewstep.load("inked", device="cpu")
    with pytest.warns(FewstepWarning, match="by its name alone"):
        on_top = fewstep.load(miniature / "teacher", device="cpu", loras=[(style, 0.5)])
    pictures = [np.asarray(fewstep.text2image(each, "a cat", seed=2), dtype=int) for each in (merged, on_top)]
    assert np.abs(pictures[0] - pictures[1]).max() <= 1


@pytest.mark.slow
def test_one_file_is_merged_into_a_folder(run: Run) -> None:
    write_original(write_miniature_sd1(Path("sd1")), Path("model.safetensors"))
    layers = {"lora_unet": adapters.random_layers(fewstep.load("sd1", device="cpu").network.module, 1)}
    style = adapters.write_kohya(Path("ink.safetensors"), layers, alpha=2.0)
    how = {"config": Path("sd1"), "prediction_type": "v_prediction"}
    options = ("--config", "sd1", "--prediction-type", "v_prediction", "--dtype", "float32")
    assert run("merge", "model.safetensors", "--lora", style, "-o", "inked", *options)[:2] == (0, "inked\n")
    merged = fewstep.load("inked", device="cpu")
    on_top = fewstep.load("model.safetensors", device="cpu", loras=[style], **how)
    plain = fewstep.load("model.safetensors", device="cpu", **how)
    pictures = [
        np.asarray(fewstep.text2image(each, "a cat", seed=2, steps=2), dtype=int) for each in (merged, on_top, plain)
    ]
    assert np.abs(pictures[0] - pictures[1]).max() <= 1
    assert np.abs(pictures[0] - pictures[2]).max() > 10


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("inspect", "nowhere.safetensors"), "no model 'nowhere.safetensors'"),
        (
            ("merge", "lcm-ink.safetensors", "--lora", "lcm-ink.safetensors", "-o", "out"),
            "no whole checkpoint of Stable Diff",
        ),
        (("convert", "lcm-ink.safetensors", "--to", "latin", "-o", "x.safetensors"), "choose one of kohya"),
        (("convert", "lcm-ink.safetensors", "--to", "peft", "-o", "x.safetensors"), "a peft LoRA is a folder"),
        (("convert", "lcm-ink.safetensors", "--to", "kohya", "-o", "x.safetensors"), "name it with --model"),
        (("merge", "nowhere", "--lora", "lcm-ink.safetensors", "-o", "x"), "no model 'nowhere'"),
    ],
)
@pytest.mark.usefixtures("style")
def test_mistakes_are_one_line(run: Run, arguments: tuple[str, ...], words: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert words in err
    assert sorted(path.name for path in Path().iterdir()) == ["lcm-ink.safetensors"]


@pytest.mark.parametrize("command", ["merge", "export", "kohya", "peft"])
def test_what_does_not_fit_onto_the_disk_is_one_line_and_leaves_nothing(
    run: Run, style: Path, miniature: Path, command: str
) -> None:
    commands: dict[str, list[object]] = {
        "merge": ["merge", miniature / "teacher", "--lora", style],
        "export": ["export", miniature],
    }
    convert = ["convert", style, "--model", miniature, "--to", command]
    output = "new.safetensors" if command == "kohya" else "new"
    with files_of_at_most(5_000):
        code, _, err = run(*commands.get(command, convert), "-o", output)
    assert (code, err.splitlines()[-1:]) == (2, [f"error: cannot write {output}: File too large"])
    assert "Traceback" not in err
    assert [path.name for path in Path().iterdir()] == [style.name]
