"""The training commands: what they print, what they refuse, and that the same command goes on."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from fewstep.cli.main import main
from fewstep.cli.training_options import numbers_of, size_of, w_range_of
from fewstep.errors import InvalidRequest
from full_disk import files_of_at_most

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
SHORT = ["--pictures", "8", "--batch-size", "4", "--rank", "2", "--prompt", "a cat", "--steps", "1", "--device", "cpu"]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for colour in ("red", "blue", "green"):
        Image.new("RGB", (128, 128), colour).save(folder / f"a {colour} cat.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def distil(miniature: Path, pictures: Path, output: Path, *more: str) -> int:
    command = ["distill", "--teacher", str(miniature / "teacher"), "--data", str(pictures), "-o", str(output)]
    return main([*command, "--lora", *SHORT, *more])


@pytest.mark.slow
def test_a_run_says_what_it_left_out_and_where_the_result_is(
    tmp_path: Path, miniature: Path, pictures: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert distil(miniature, pictures, tmp_path / "run", "--minutes", "0") == 0
    assert "stopped after 4 of 8 pictures; the same command goes on" in capfd.readouterr().err
    assert distil(miniature, pictures, tmp_path / "run") == 0
    out, err = capfd.readouterr()
    assert out.split() == [
        str(tmp_path / "run" / name) for name in ("pytorch_lora_weights.safetensors", "run.safetensors")
    ]
    assert "broken.png" in err
    assert "from 4 on" in err
    picture = tmp_path / "fast.png"
    base = ["generate", "a cat", "--model", str(miniature / "teacher"), "--steps", "2", "-o", str(picture)]
    assert main([*base, "--lora", str(tmp_path / "run")]) == 0
    assert picture.is_file()
    assert main(["inspect", str(tmp_path / "run")]) == 0
    assert "LCM-LoRA" in capfd.readouterr().out


def test_a_dry_run_prints_everything_and_writes_nothing(
    tmp_path: Path, miniature: Path, pictures: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert distil(miniature, pictures, tmp_path / "run", "--dry-run", "--solver", "dpm++") == 0
    out, err = capfd.readouterr()
    for line in ("objective.solver", "weights in training", "4 pictures", "memory: optimiser", "pictures at once"):
        assert line in out
    assert "2 substeps or more" in err
    assert not (tmp_path / "run").exists()


def test_a_recipe_is_a_function_and_options_override_it(
    tmp_path: Path, miniature: Path, pictures: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "mine.py"
    recipe.write_text(
        "from fewstep.train.defaults import changed, default_config\n"
        "def config():\n"
        f"    base = default_config('style', {str(miniature / 'teacher')!r}, {str(pictures)!r}, lora=True)\n"
        "    return changed(base, {'fit.lr': 0.125, 'lora.rank': 3})\n"
        "def wrong():\n    return 3\n"
    )
    assert main(["train-lora", "--recipe", str(recipe), "-o", str(tmp_path / "run"), "--rank", "5", "--dry-run"]) == 0
    out = capfd.readouterr().out
    assert "0.125" in out
    assert [line.split()[-1] for line in out.splitlines() if line.startswith("lora.rank")] == ["5"]
    assert main(["train-lora", "--recipe", f"{recipe}:wrong", "-o", str(tmp_path / "run"), "--dry-run"]) == 2
    assert "must return a fewstep.train.config.RunConfig" in capfd.readouterr().err


def test_a_cache_is_made_once_and_used_as_data(
    tmp_path: Path, miniature: Path, pictures: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cache = tmp_path / "cache"
    assert main(["cache", "--model", str(miniature), "--data", str(pictures), "-o", str(cache), "--device", "cpu"]) == 0
    out, err = capfd.readouterr()
    assert "3 pictures, 3 captions" in out
    assert "broken.png" in err
    finetune = ["finetune", "--model", str(miniature), "--data", str(cache), "-o", str(tmp_path / "run"), "--lora"]
    assert main([*finetune, *SHORT]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["distill", "-o", "x"], "--teacher is missing"),
        (["distill", "--teacher", "starter-teacher", "-o", "x"], "--data is missing"),
        (["distill", "--teacher", "t", "--data", "d", "-o", "x", "--rank", "4"], "add --lora"),
        (["distill", "--teacher", "t", "--data", "d", "-o", "x", "--solver", "euler"], "ddim, dpm++, heun"),
        (["finetune", "--model", "m", "--data", "d", "-o", "x", "--size", "big"], "the size is 'big'"),
        (["train-lora", "--recipe", "none.py", "-o", "x"], "there is no Python file none.py"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], message: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    err = capfd.readouterr().err
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_numbers_are_read_as_people_write_them() -> None:
    assert (size_of("512"), size_of("512x768")) == ((512, 512), (512, 768))
    assert numbers_of("1,2, 4") == (1, 2, 4)
    assert (w_range_of("none"), w_range_of("7.5"), w_range_of("1:9")) == ((0.0, 0.0), (6.5, 6.5), (0.0, 8.0))
    with pytest.raises(InvalidRequest, match="a range"):
        w_range_of("much")


@pytest.mark.slow
def test_interrupted_it_checkpoints_and_says_how_to_go_on(tmp_path: Path, miniature: Path, pictures: Path) -> None:
    """A real process and a real signal, as from Ctrl-C."""
    script = (
        "import os, signal, sys\n"
        "import fewstep.train.run as run\n"
        "from fewstep.cli.main import main\n"
        "train = run.train\n"
        "def interrupted(config, folder, *, measures, hooks):\n"
        "    step = hooks.step\n"
        "    def once(seen, scalars):\n"
        "        step(seen, scalars)\n"
        "        if seen == 8: os.kill(os.getpid(), signal.SIGINT)\n"
        "    object.__setattr__(hooks, 'step', once)\n"
        "    return train(config, folder, measures=measures, hooks=hooks)\n"
        "run.train = interrupted\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    arguments = ["distill", "--teacher", str(miniature / "teacher"), "--data", str(pictures), "--lora", *SHORT]
    arguments += ["-o", str(tmp_path / "run"), "--pictures", "4000"]
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 130, done.stderr
    assert "with a checkpoint" in done.stderr
    assert "stopped after 12 of 4000 pictures; the same command goes on" in done.stderr
    assert (tmp_path / "run" / "checkpoint.safetensors").is_file()


def one_error(capfd: pytest.CaptureFixture[str], *words: str) -> None:
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith(("error:", "Traceback"))]
    for word in words:
        assert word in line


@pytest.mark.slow
def test_a_disk_that_takes_no_more_ends_a_run_in_one_line_and_the_same_command_goes_on(
    tmp_path: Path, miniature: Path, pictures: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (pictures / "broken.png").unlink()
    command = ["finetune", "--model", str(miniature), "--data", str(pictures), *SHORT[:4], *SHORT[6:], "--lr", "1e-3"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main([*command, "-o", str(whole)]) == 0
    stages = {
        1_000: "cannot write",  # the settings, or the cache
        50_000: "encoders-at-rest",
        2_000_000: "checkpoint.safetensors: File too large (the checkpoint after 8 pictures)",
    }
    for size, stage in stages.items():
        with files_of_at_most(size):
            assert main([*command, "-o", str(parts)]) == 2
        one_error(capfd, stage)
        names = {path.name for path in parts.rglob("*")}
        assert not {name for name in names if "part-" in name or name.startswith((".tmp", "encoders", "checkpoint"))}
    assert main([*command, "-o", str(parts)]) == 0
    one, two = (load_file(run / "checkpoint.safetensors") for run in (whole, parts))
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())
    left = (parts / "model" / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()
    more = [*command, "--pictures", "12", "-o", str(parts)]
    with files_of_at_most(50_000):
        assert main(more) == 2
    checkpoint = load_file(parts / "checkpoint.safetensors")
    assert all(torch.equal(tensor, checkpoint[name]) for name, tensor in one.items())
    assert (parts / "model" / "unet" / "diffusion_pytorch_model.safetensors").read_bytes() == left
    assert main(more) == 0


def test_a_cache_that_does_not_fit_leaves_nothing(
    tmp_path: Path, miniature: Path, pictures: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with files_of_at_most(1_000):
        assert main(["cache", "--model", str(miniature), "--data", str(pictures), "-o", str(tmp_path / "c")]) == 2
    one_error(capfd, f"error: cannot write {tmp_path / 'c'}: File too large")
    assert [path.name for path in tmp_path.iterdir()] == ["pictures"]


def test_any_other_file_on_a_full_disk_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path, miniature: Path, pictures: Path
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "run.json")

    monkeypatch.setattr("fewstep.train.run.write_records", full)
    assert distil(miniature, pictures, tmp_path / "run") == 2
    one_error(capfd, "error: run.json: the disk is full")
