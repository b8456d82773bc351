"""`fewstep generate` as a person or a script meets it: files, streams, exit codes."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

import adapters
import fewstep
from fewstep.cli import options
from fewstep.cli.main import main
from fewstep.imaging.reading import read_image
from fewstep.models import loading, locating, replaced
from fewstep.models.families.starter import STARTER
from fewstep.models.families.unet import UNetFamily
from fewstep.pipelines import generate
from fewstep.pipelines.provenance import read_record


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture
def run(miniature: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`fewstep generate ...` in an empty folder, with the miniature in the starter's place."""
    monkeypatch.setitem(locating.BUILT_IN, "starter", miniature)
    monkeypatch.setitem(locating.BUILT_IN, "starter-teacher", miniature / "teacher")
    monkeypatch.chdir(tmp_path)

    def run_command(*arguments: object) -> Outcome:
        code = main(["generate", *map(str, arguments)])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run_command


def pixels(path: Path | str) -> np.ndarray:
    return np.asarray(read_image(path), dtype=int)


def files() -> list[str]:
    return sorted(path.name for path in Path().iterdir())


def test_a_sentence_becomes_a_file_and_its_path_is_all_that_stdout_gets(run: Run) -> None:
    outcome = run("a cat face", "-o", "cat.png", "--seed", 7)
    assert (outcome.code, outcome.out) == (0, "cat.png\n")
    assert outcome.err == ""
    assert files() == ["cat.png"]
    assert read_image("cat.png").size == (128, 128)


def test_a_model_of_ones_own_is_said_to_be_what_it_was_taken_for(run: Run, miniature: Path) -> None:
    assert "prediction type" not in run("cat", "--steps", 1).err
    told = run("cat", "--steps", 1, "--model", miniature).err
    assert "miniature: a consistency model, prediction type v_prediction, w embedded; 4 steps by default" in told
    other = run("cat", "--steps", 1, "--model", miniature / "teacher", "--prediction-type", "epsilon").err
    assert "a diffusion model, prediction type epsilon;" in other
    assert run("cat", "--steps", 1, "--seed", 1, "--model", miniature, "--quiet").err == ""


def test_the_picture_is_the_one_that_python_gives(run: Run, miniature: Path) -> None:
    run("a cat", "-o", "cat.png", "--seed", 7, "--steps", 2, "--guidance-scale", 5)
    model = fewstep.load(miniature, device="cpu")
    expected = fewstep.text2image(model, "a cat", seed=7, steps=2, guidance_scale=5.0)
    assert np.array_equal(pixels("cat.png"), np.asarray(expected))


def test_several_are_numbered_and_take_the_next_seeds(run: Run) -> None:
    outcome = run("cat", "-n", 3, "-o", "out.png", "--seed", 5, "--steps", 1)
    assert outcome.out.split() == ["out-1.png", "out-2.png", "out-3.png"]
    assert [read_record(name).seed for name in outcome.out.split()] == [5, 6, 7]
    run("cat", "-o", "second.png", "--seed", 6, "--steps", 1)
    assert np.abs(pixels("second.png") - pixels("out-2.png")).max() <= 1


def test_a_random_seed_is_told_and_names_the_file(run: Run) -> None:
    outcome = run("cat", "--steps", 1)
    seed = read_record(outcome.out.strip()).seed
    assert f"seed {seed}" in outcome.err
    assert files() == [f"fewstep-{seed}.png"]


def test_the_file_says_how_it_was_made(run: Run, miniature: Path) -> None:
    run("a cat", "-o", "cat.png", "--seed", 7)
    info = read_image("cat.png").info
    record = json.loads(info["fewstep"])
    assert (record["prompt"], record["seed"], record["steps"], record["sampler"]) == ("a cat", 7, 4, "lcm")
    assert (record["model"], record["version"]) == ("starter", fewstep.__version__)
    assert record["model_hash"] == fewstep.load(miniature, device="cpu").origin.hash
    assert info["parameters"].startswith("a cat\nSteps: 4, ")


def test_adapters_are_recorded_and_asked_for_again(run: Run, miniature: Path) -> None:
    layers = {"lora_unet": adapters.random_layers(fewstep.load(miniature, device="cpu").network.module, 1)}
    adapters.write_kohya(Path("ink.safetensors"), layers, alpha=3.0)
    assert run("a cat", "-o", "plain.png", "--seed", 7).code == 0
    assert run("a cat", "-o", "ink.png", "--seed", 7, "--lora", "ink.safetensors:0.5").code == 0
    assert np.abs(pixels("ink.png") - pixels("plain.png")).max() > 10
    (lora,) = read_record("ink.png").loras
    assert (lora.name, lora.weight, lora.reference) == ("ink", 0.5, None)
    assert read_image("ink.png").info["parameters"].startswith("a cat <lora:ink:0.5>\nSteps: 4, ")
    outcome = run("--from", "ink.png", "-o", "again.png")
    assert outcome.code == 2
    assert "was made with the LoRA ink" in outcome.err
    assert "--lora FILE:0.5" in outcome.err
    assert run("--from", "ink.png", "-o", "again.png", "--lora", "ink.safetensors:0.5").err.count("warning") == 0
    assert np.array_equal(pixels("again.png"), pixels("ink.png"))
    assert "was made with the LoRAs" in run("--from", "plain.png", "-o", "x.png", "--lora", "ink.safetensors").err


def test_a_built_in_adapter_is_found_again(run: Run, miniature: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = {"lora_unet": adapters.random_layers(fewstep.load(miniature, device="cpu").network.module, 1)}
    ink = adapters.write_kohya(Path("blue-ink.safetensors"), layers, alpha=3.0)
    monkeypatch.setitem(locating.ADAPTERS, "blue-ink", ink)
    assert run("owl", "-o", "owl.png", "--seed", 7, "--lora", "blue-ink:0.8").code == 0
    assert run("--from", "owl.png", "-o", "again.png").code == 0
    assert Path("again.png").read_bytes() == Path("owl.png").read_bytes()


def test_an_adapter_that_does_not_fit_is_one_line(run: Run) -> None:
    Path("broken.safetensors").write_bytes(b"nothing")
    for source, words in {
        "broken.safetensors": "cannot be read as safetensors",
        "nowhere.safetensors": "no LoRA 'nowhere.safetensors'",
        "broken.safetensors:nan": "the weight of broken.safetensors is nan",
    }.items():
        outcome = run("a cat", "-o", "x.png", "--lora", source)
        assert (outcome.code, outcome.out, len(outcome.err.strip().splitlines()[-1:])) == (2, "", 1)
        assert words in outcome.err
        assert not Path("x.png").exists()


def test_times_of_ones_own_are_recorded(run: Run) -> None:
    assert run("a cat", "-o", "a.png", "--seed", 7, "--timesteps", "999,459,19").code == 0
    assert read_record("a.png").timesteps == (999, 459, 19)
    assert run("--from", "a.png", "-o", "b.png").code == 0
    assert np.array_equal(pixels("a.png"), pixels("b.png"))
    assert run("--from", "a.png", "-o", "c.png", "--steps", 2).code == 0
    assert (read_record("c.png").steps, read_record("c.png").timesteps) == (2, None)
    assert "give numbers with commas" in run("a cat", "-o", "x.png", "--timesteps", "9;5").err


def test_from_makes_the_same_picture_again(run: Run) -> None:
    run("a cat", "-o", "cat.png", "--seed", 7, "--steps", 2, "--guidance-scale", 6)
    assert run("--from", "cat.png", "-o", "again.png").code == 0
    assert Path("again.png").read_bytes() == Path("cat.png").read_bytes()


def test_options_override_what_from_says(run: Run) -> None:
    run("a cat", "-o", "cat.png", "--seed", 7)
    run("dog", "--from", "cat.png", "-o", "dog.png", "--steps", 2)
    record = read_record("dog.png")
    assert (record.prompt, record.seed, record.steps) == ("dog", 7, 2)


def test_a_sheet_is_one_file_that_can_be_made_again(run: Run) -> None:
    run("cat", "-n", 4, "--grid", "-o", "sheet.png", "--seed", 1, "--steps", 1)
    assert files() == ["sheet.png"]
    assert read_image("sheet.png").size == (260, 260)
    run("--from", "sheet.png", "-o", "again.png")
    assert Path("again.png").read_bytes() == Path("sheet.png").read_bytes()


def test_a_picture_over_a_picture(run: Run) -> None:
    run("cat", "-o", "cat.png", "--seed", 1)
    assert run("dog", "--image", "cat.png", "--strength", 0.5, "-o", "dog.png", "--seed", 2).code == 0
    assert read_record("dog.png").strength == 0.5
    refused = run("--from", "dog.png", "-o", "again.png")
    assert refused.code == 2
    assert "give that one with --image" in refused.err
    run("--from", "dog.png", "--image", "cat.png", "-o", "again.png")
    assert Path("again.png").read_bytes() == Path("dog.png").read_bytes()
    other = run("--from", "dog.png", "--image", "dog.png", "-o", "other.png")
    assert other.code == 0
    assert "warning: dog.png was painted over another picture" in other.err


def test_a_mask_is_needed_again(run: Run) -> None:
    run("cat", "-o", "cat.png", "--seed", 1)
    mask = Image.new("L", (128, 128))
    mask.paste(255, (0, 0, 64, 64))
    mask.save("mask.png")
    assert run("dog", "--image", "cat.png", "--mask", "mask.png", "-o", "dog.png", "--seed", 2).code == 0
    refused = run("--from", "dog.png", "--image", "cat.png", "-o", "again.png")
    assert refused.code == 2
    assert "give that one with --mask" in refused.err
    run("--from", "dog.png", "--image", "cat.png", "--mask", "mask.png", "-o", "again.png")
    assert Path("again.png").read_bytes() == Path("dog.png").read_bytes()
    assert run("dog", "--mask", "mask.png", "-o", "none.png").code == 2


def test_other_weights_are_told(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run("cat", "-o", "cat.png")
    outcome = run("--from", "cat.png", "--model", "starter-teacher", "--sampler", "ddim", "-o", "teacher.png")
    assert outcome.code == 0
    assert "warning: cat.png was made with the weights" in outcome.err


def test_a_picture_by_a_model_from_a_folder_asks_for_the_folder(run: Run, miniature: Path) -> None:
    run("cat", "-o", "cat.png", "--model", miniature)
    outcome = run("--from", "cat.png", "-o", "again.png")
    assert outcome.code == 2
    assert "give that folder with --model" in outcome.err
    assert str(miniature) not in Path("cat.png").read_bytes().decode("latin-1")


def test_the_teacher_takes_a_sampler_and_a_negative_prompt(run: Run) -> None:
    outcome = run(
        "cat",
        "--model",
        "starter-teacher",
        "--sampler",
        "heun",
        "--negative-prompt",
        "dog",
        "--steps",
        2,
        "-o",
        "x.png",
    )
    assert (outcome.code, "warning" in outcome.err) == (0, False)
    assert read_record("x.png").negative_prompt == "dog"


def test_what_has_no_effect_or_is_cut_short_warns_in_one_line(run: Run) -> None:
    outcome = run("cat " * 200, "--negative-prompt", "dog", "-o", "x.png", "--steps", 1)
    warned = [line for line in outcome.err.splitlines() if line.startswith("warning:")]
    assert outcome.code == 0
    assert len(warned) == 2
    assert "the negative prompt has no effect" in warned[0]
    assert "miniature does not see: 'cat cat" in warned[1]


def test_quiet_is_quiet(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("cat", "--negative-prompt", "dog", "-o", "x.png", "--steps", 1, "--seed", 1)
    assert "has no effect" in run(*arguments).err
    outcome = run(*arguments, "--quiet")
    assert (outcome.code, outcome.out.strip(), outcome.err) == (0, "x.png", "")
    monkeypatch.setenv("FEWSTEP_QUIET", "1")
    assert run(*arguments).err == ""


@pytest.mark.parametrize("way", ["--quiet", "FEWSTEP_QUIET"])
def test_quiet_still_tells_a_random_seed(run: Run, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    if way == "FEWSTEP_QUIET":
        monkeypatch.setenv(way, "1")
    outcome = run("cat", "-o", "x.png", "--steps", 1, *([way] if way == "--quiet" else []))
    assert outcome.err == f"seed {read_record('x.png').seed}\n"


def test_fast_means_bfloat16_and_the_fast_decoder(
    run: Run, miniature: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fewstep.models.fast_decoder import FastDecoder, FastDecoderConfig

    folder = shutil.copytree(miniature, tmp_path / "bringing")
    (folder / "fast_decoder").mkdir()
    FastDecoder(FastDecoderConfig(16, 8, (1, 1, 1, 1), 2)).save(folder / "fast_decoder")
    model = ("--model", folder)
    assert run("cat", "-o", "x.png", "--steps", 1, "--seed", 1, "--fast", *model).code == 0
    record = read_record("x.png")
    assert (record.precision, record.decoder) == ("bfloat16", "fast")
    same = ("cat", "-o", "y.png", "--steps", 1, "--seed", 1, "--precision", "bfloat16", "--decoder", "fast")
    assert run(*same, *model).code == 0
    assert run("--from", "x.png", "-o", "z.png", *model).code == 0
    pictures = [Image.open(name).tobytes() for name in ("x.png", "y.png", "z.png")]
    assert pictures == [pictures[0]] * 3
    outcome = run("cat", "--decoder", "fast")
    assert outcome.code == 2
    assert "brings no fast decoder" in outcome.err


def test_fast_decode_takes_the_tiny_autoencoder(run: Run, miniature: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[str] = []

    def locate(name: str, what: str, within: str, **_: object) -> Path:
        fetched.append(name)
        return miniature / "vae"

    kin = dataclasses.replace(STARTER, text_width=32, tiny="madebyollin/taesd")
    monkeypatch.setattr(UNetFamily, "of_width", lambda family, width: kin)
    monkeypatch.setattr(replaced, "locate_network", locate)
    assert run("cat", "-o", "x.png", "--steps", 1, "--fast-decode").code == 0
    assert run("--from", "x.png", "-o", "same.png").code == 0
    assert Path("same.png").read_bytes() == Path("x.png").read_bytes()
    assert fetched == ["madebyollin/taesd"] * 2
    assert run("--from", "x.png", "-o", "full.png", "--full-decode").code == 0
    assert read_record("full.png").vae is None
    assert run("cat", "-o", "y.png", "--steps", 1, "--vae", "someone/vae").code == 0
    assert run("--from", "y.png", "-o", "full.png", "--full-decode").code == 0
    assert Path("full.png").read_bytes() == Path("y.png").read_bytes()


@pytest.mark.parametrize(
    ("vae", "fast_decode", "recorded", "expected"),
    [
        (None, None, None, None),
        (None, None, "fast", "fast"),
        (None, False, "fast", None),
        (None, False, "someone/vae", "someone/vae"),
        (None, True, "someone/vae", "fast"),
        ("mine", None, "fast", "mine"),
        ("mine", False, "fast", "mine"),
        ("fast", True, None, "fast"),
    ],
)
def test_full_decode_undoes_fast_and_nothing_else(
    vae: str | None, fast_decode: bool | None, recorded: str | None, expected: str | None
) -> None:
    assert options.decoder(vae, fast_decode, recorded) == expected


@pytest.mark.parametrize("arguments", [("--fast-decode", "--vae", "other"), ("--full-decode", "--vae", "fast")])
def test_two_decoders_are_refused(run: Run, arguments: tuple[str, ...]) -> None:
    outcome = run("cat", *arguments)
    assert (outcome.code, "choose one of them" in outcome.err) == (2, True)


def test_the_kind_of_model_can_be_overridden(run: Run) -> None:
    assert run("cat", "-o", "x.png", "--steps", 2, "--kind", "diffusion").code == 0
    assert read_record("x.png").sampler == "dpm++"
    assert run("--from", "x.png", "-o", "same.png").code == 0
    assert Path("same.png").read_bytes() == Path("x.png").read_bytes()
    assert run("--from", "x.png", "-o", "lcm.png", "--kind", "lcm", "--sampler", "lcm").code == 0
    assert "unknown kind of model 'fast'" in run("cat", "--kind", "fast").err
    assert "unknown memory policy 'none'" in run("cat", "--memory", "none").err


def test_another_prediction_and_decoder_are_remembered(run: Run, miniature: Path) -> None:
    shutil.copytree(miniature, "model")
    card = json.loads(Path("model/fewstep.json").read_text())
    Path("model/fewstep.json").write_text(json.dumps(card | {"name": "mine"}))
    options = ("--model", "model", "--seed", 3, "--steps", 2)
    assert run("cat", *options, "-o", "plain.png").code == 0
    outcome = run("cat", *options, "-o", "x.png", "--prediction-type", "sample")
    assert (outcome.code, read_record("x.png").prediction_type) == (0, "sample")
    assert Path("plain.png").read_bytes() != Path("x.png").read_bytes()
    outcome = run("--from", "x.png", "--model", "model", "-o", "same.png")
    assert "differ" not in outcome.err
    assert Path("same.png").read_bytes() == Path("x.png").read_bytes()


def test_an_empty_prompt_is_allowed(run: Run) -> None:
    assert run("", "-o", "x.png", "--steps", 1).code == 0


def test_an_existing_file_is_replaced_whole_and_not_written_into(run: Run) -> None:
    Path("x.png").write_bytes(b"old")
    Path("same.png").hardlink_to("x.png")
    assert run("cat", "-o", "x.png", "--steps", 1).code == 0
    assert read_image("x.png").size == (128, 128)
    assert Path("same.png").read_bytes() == b"old"


MISTAKES = {
    "nothing to paint": [],
    "must be a whole number from 1": ["cat", "--steps", "0"],
    "do not fit": ["cat", "--steps", "51"],
    "'--steps'": ["cat", "--steps", "four"],
    "the strength is 1.5": ["cat", "--image", "good.png", "--strength", "1.5"],
    "without a picture": ["cat", "--strength", "0.5"],
    "there is no picture at": ["cat", "--image", "missing.png"],
    "is not a picture in a format": ["cat", "--image", "empty.png"],
    "the guidance scale is nan": ["cat", "--guidance-scale", "nan"],
    "was distilled for 3 to 15": ["cat", "--guidance-scale", "1"],
    "unknown sampler": ["cat", "--sampler", "plms"],
    "is not for miniature": ["cat", "--sampler", "heun"],
    "must be a multiple of 16": ["cat", "--height", "100"],
    "the number of pictures is 0": ["cat", "-n", "0"],
    "no model 'nosuch'": ["cat", "--model", "nosuch"],
    "no model_index.json": ["cat", "--model", "."],
    "is a pickle": ["cat", "--model", "old.ckpt"],
    "there is no device 'gpu'": ["cat", "--device", "gpu"],
    "unknown dtype 'int4'": ["cat", "--dtype", "int4"],
    "there is no folder nowhere": ["cat", "-o", "nowhere/x.png"],
    "must end in .png": ["cat", "-o", "x.tiff"],
    "it is a folder": ["cat", "-o", "folder.png"],
    "does not say how it was made": ["--from", "good.png"],
    "No such option: --colour": ["cat", "--colour", "red"],
    "unexpected extra argument": ["a", "cat"],
}


@pytest.mark.parametrize("complaint", MISTAKES)
def test_a_mistake_gets_one_line_code_2_and_no_file(run: Run, complaint: str) -> None:
    Image.new("RGB", (8, 8)).save("good.png")
    Path("empty.png").touch()
    Path("old.ckpt").write_bytes(b"pickle")
    Path("folder.png").mkdir()
    before = files()
    outcome = run(*MISTAKES[complaint])
    assert (outcome.code, outcome.out) == (2, "")
    lines = [line for line in outcome.err.splitlines() if not line.startswith(("loading", "painting"))]
    assert len(lines) == 1, outcome.err
    assert lines[0].startswith("error: ")
    assert complaint in lines[0]
    assert files() == before


@pytest.mark.slow
@given(
    arguments=st.lists(
        st.one_of(
            st.sampled_from(
                [
                    "--steps",
                    "--seed",
                    "-n",
                    "--guidance-scale",
                    "--strength",
                    "--height",
                    "--sampler",
                    "--dtype",
                    "--grid",
                ]
            ),
            st.sampled_from(["0", "-1", "nan", "1e400", "9" * 30, "x", "", "--", "-", "-n=2", "cat", "lcm", "é"]),
        ),
        max_size=5,
    )
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_any_words_on_the_command_line_give_a_picture_or_one_line(run: Run, arguments: list[str]) -> None:
    outcome = run(*arguments, "--model", "nosuch")
    assert outcome.code == 2
    assert sum(line.startswith("error: ") for line in outcome.err.splitlines()) == 1
    assert "Traceback" not in outcome.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_folder_is_refused_before_painting(run: Run) -> None:
    Path("locked").mkdir(mode=0o500)
    outcome = run("cat", "-o", "locked/x.png")
    assert (outcome.code, "cannot write locked/x.png" in outcome.err) == (2, True)


def test_a_full_disk_leaves_nothing_behind(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: Image.Image, path: Path, **_: object) -> None:
        path.write_bytes(b"\x89PNG half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fails)
    outcome = run("cat", "-o", "x.png", "--steps", 1)
    assert (outcome.code, files()) == (2, [])
    assert "cannot write x.png: the disk is full" in outcome.err


@pytest.mark.parametrize(("words", "reason"), [("CUDA out of memory.\nTried", "CUDA out of memory."), ("", "OutOfMem")])
def test_memory_that_is_used_up_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch, words: str, reason: str) -> None:
    def too_large(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError(words)

    monkeypatch.setattr(loading, "load", too_large)
    outcome = run("cat")
    assert (outcome.code, len(outcome.err.splitlines())) == (2, 2)  # "loading", and the error
    assert f"error: not enough memory ({reason}" in outcome.err
    assert "--memory" not in outcome.err


@pytest.mark.parametrize("moment", ["painting", "writing"])
def test_ctrl_c_leaves_nothing_behind(run: Run, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    if moment == "painting":
        monkeypatch.setattr(generate, "sample", interrupted)
    else:
        monkeypatch.setattr(Image.Image, "save", interrupted)
    outcome = run("cat", "-o", "x.png", "--steps", 1)
    assert (outcome.code, outcome.out, files()) == (130, "", [])
    assert "interrupted" in outcome.err.splitlines()


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["--version"], 0, f"fewstep {fewstep.__version__}"),
        (["--help"], 0, "generate"),
        (["generate", "--help"], 0, "--from"),
        (["nonsense"], 2, "error: No such command 'nonsense'"),
    ],
)
def test_the_command_as_a_module(arguments: list[str], code: int, expected: str) -> None:
    outcome = subprocess.run([sys.executable, "-m", "fewstep", *arguments], capture_output=True, text=True)
    assert outcome.returncode == code
    assert expected in outcome.stdout + outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_words_of_ones_own_are_recorded_and_asked_for_again(run: Run) -> None:
    save_file({"emb_params": torch.randn(2, 32)}, "toy.safetensors")
    assert run("a toy cat", "-o", "plain.png", "--seed", 7).code == 0
    assert run("a toy cat", "-o", "toy.png", "--seed", 7, "--embedding", "toy.safetensors").code == 0
    assert np.abs(pixels("toy.png") - pixels("plain.png")).max() > 3
    (word,) = read_record("toy.png").embeddings
    assert (word.word, word.reference) == ("toy", None)
    assert f'TI hashes: "toy: {word.hash}"' in read_image("toy.png").info["parameters"]
    outcome = run("--from", "toy.png", "-o", "x.png")
    assert (outcome.code, "give it with --embedding FILE=toy" in outcome.err) == (2, True)
    assert run("--from", "toy.png", "-o", "again.png", "--embedding", "toy.safetensors").code == 0
    assert Path("again.png").read_bytes() == Path("toy.png").read_bytes()
    save_file({"emb_params": torch.randn(2, 32)}, "other.safetensors")
    other = run("--from", "toy.png", "-o", "y.png", "--embedding", "other.safetensors=toy")
    assert (other.code, "was made with the embeddings" in other.err) == (0, True)


def test_the_end_of_the_schedule_is_recorded_and_repeated(run: Run) -> None:
    common = ("a cat", "--seed", 7, "--steps", 2, "--model", "starter-teacher")
    assert run(*common, "-o", "plain.png").code == 0
    assert run(*common, "-o", "zero.png", "--zero-snr").code == 0
    assert np.abs(pixels("zero.png") - pixels("plain.png")).max() > 3
    assert read_record("zero.png").zero_snr is True
    assert run("--from", "zero.png", "-o", "again.png").code == 0
    assert Path("again.png").read_bytes() == Path("zero.png").read_bytes()
    assert run("--from", "zero.png", "-o", "not.png", "--no-zero-snr").code == 0
    assert np.abs(pixels("not.png") - pixels("plain.png")).max() <= 1


def test_another_unet_over_the_models_other_parts(run: Run, miniature: Path) -> None:
    common = ("a cat", "--seed", 7, "--steps", 2, "--guidance-scale", 4)
    assert run(*common, "-o", "whole.png", "--model", miniature).code == 0
    unet = ("--model", miniature / "teacher", "--unet", miniature / "unet")
    assert run(*common, "-o", "parts.png", *unet).code == 0
    assert np.abs(pixels("parts.png") - pixels("whole.png")).max() <= 1
    wrong = run(*common, "-o", "x.png", "--unet", miniature / "vae")
    assert (wrong.code, "is no U-Net: it is an autoencoder" in wrong.err) == (2, True)
    refused = run(*common, "-o", "x.png", "--model", miniature / "unet")
    assert (refused.code, "is no model's folder: it is a U-Net alone" in refused.err) == (2, True)
