"""`fewstep batch`: files of prompts become pictures, again goes on, and nothing is overwritten."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import fewstep
from fewstep.cli import batch as command
from fewstep.cli.main import main
from fewstep.imaging.reading import read_image
from fewstep.pipelines.provenance import read_record

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, miniature: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)

    def run_command(text: str, ending: str = ".jsonl", *arguments: object) -> tuple[int, str, str]:
        Path(f"prompts{ending}").write_text(text)
        code = main(["batch", f"prompts{ending}", "-o", "out", "--model", str(miniature), *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run_command


def pixels(path: str) -> np.ndarray:
    return np.asarray(read_image(path), dtype=int)


def test_every_kind_of_file(run: Run, miniature: Path) -> None:
    code, out, err = run("a cat\n\na dog\n", ".txt", "--steps", 1)
    assert (code, out.split()) == (0, ["out/1.png", "out/2.png"])
    assert "2 painted, 0 were there" in err
    code, out, _ = run('prompt,seed,steps,name\na cat,7,2,puss\n"a, dog",,1,dog\n', ".csv")
    assert (code, out.split()) == (0, ["out/puss.png", "out/dog.png"])
    assert (read_record("out/dog.png").prompt, read_record("out/dog.png").seed) == ("a, dog", 1)
    rows = [{"prompt": "a cat", "name": "x", "guidance_scale": 5}, {"prompt": "a fox", "width": 64, "name": "y.png"}]
    code, out, _ = run("\n".join(map(json.dumps, rows)))
    assert (code, out.split()) == (0, ["out/x.png", "out/y.png"])
    assert read_record("out/x.png").guidance_scale == 5.0
    assert read_image("out/y.png").width == 64
    model = fewstep.load(miniature, device="cpu")
    expected = fewstep.text2image(model, "a dog", seed=1, steps=1)
    assert np.abs(pixels("out/2.png") - np.asarray(expected, dtype=int)).max() <= 1


def test_pictures_to_start_from(run: Run) -> None:
    Image.new("RGB", (50, 50), "orange").save("start.png")
    code, _, _ = run(json.dumps({"prompt": "a cat", "image": "start.png", "strength": 0.5}))
    assert code == 0
    assert read_record("out/1.png").strength == 0.5


def test_the_same_again_goes_on_where_it_stopped(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = "\n".join(json.dumps({"prompt": f"cat {n}", "steps": 1}) for n in range(5))
    generate = command._generate
    calls = []

    def interrupted(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        generate(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(command, "_generate", interrupted)
    assert run(rows, ".jsonl", "--batch-size", 2)[0] == 130
    assert sorted(path.name for path in Path("out").iterdir()) == ["1.png", "2.png"]
    before = {path: path.stat().st_mtime_ns for path in Path("out").iterdir()}
    monkeypatch.setattr(command, "_generate", generate)
    code, out, err = run(rows, ".jsonl", "--batch-size", 2)
    assert (code, len(out.split())) == (0, 5)
    assert "3 painted, 2 were there" in err
    assert all(path.stat().st_mtime_ns == then for path, then in before.items())


def test_another_picture_of_that_name_is_never_overwritten(run: Run) -> None:
    assert run(json.dumps({"prompt": "a cat", "steps": 1}))[0] == 0
    before = Path("out/1.png").read_bytes()
    code, _, err = run(json.dumps({"prompt": "a dog", "steps": 1}))
    assert (code, "is there and was made otherwise" in err) == (2, True)
    Path("out/1.png").write_bytes(b"mine")
    assert run(json.dumps({"prompt": "a cat", "steps": 1}))[0] == 2
    assert Path("out/1.png").read_bytes() == b"mine"
    assert before != b"mine"


@pytest.mark.parametrize(
    ("text", "ending", "words"),
    [
        ("", ".txt", "asks for no pictures"),
        ("{", ".jsonl", "line 1 is not JSON"),
        ("[1]", ".jsonl", "line 1 is not a JSON object"),
        ('{"prompt": "a"}\n{"promt": "a"}', ".jsonl", "picture 2: unknown field 'promt'"),
        ('{"seed": 1}', ".jsonl", "picture 1: it has no prompt"),
        ('{"prompt": "a", "steps": 0}', ".jsonl", "picture 1: the number of steps is 0"),
        ('{"prompt": "a", "name": "../a"}', ".jsonl", "is none for a file"),
        ('{"prompt": "a", "name": "B"}\n{"prompt": "a", "name": "b"}', ".jsonl", "another one is named 'b', too"),
        ('{"prompt": "a", "image": "gone.png"}', ".jsonl", "there is no picture at gone.png"),
        ("prompt,steps\na,many", ".csv", "the number of steps is 'many'"),
        ("prompt\na,b", ".csv", "more fields than the head has"),
        ("x", ".xls", r"give a .txt, .csv or .jsonl file"),
        ('{"prompt": "a", "width": 13}', ".jsonl", "the width is 13"),
        ('{"prompt": "a", "sampler": "heun"}', ".jsonl", "1: the sampler 'heun' is not for miniature"),
    ],
)
def test_mistakes_are_found_before_anything_is_painted(run: Run, text: str, ending: str, words: str) -> None:
    code, out, err = run(text, ending)
    assert (code, out) == (2, "")
    assert words in err
    assert not list(Path("out").glob("*"))


def test_the_options_of_a_model_are_those_of_generate(run: Run, miniature: Path) -> None:
    """Also in `travel`: what loads a model has one list of options."""
    save_file({"emb_params": torch.randn(2, 32)}, "toy.safetensors")
    how = ("--embedding", "toy.safetensors", "--unet", miniature / "teacher" / "unet", "--zero-snr")
    assert run("a toy cat\n", ".txt", "--steps", 2, *how)[0] == 0
    made = read_record("out/1.png")
    assert (made.zero_snr, [each.word for each in made.embeddings]) == (True, ["toy"])
    options = {"unet": miniature / "teacher" / "unet", "zero_snr": True, "embeddings": ["toy.safetensors"]}
    model = fewstep.load(miniature, device="cpu", **options)  # type: ignore[arg-type]
    expected = fewstep.text2image(model, "a toy cat", seed=made.seed, steps=2)
    assert np.abs(pixels("out/1.png") - np.asarray(expected, dtype=int)).max() <= 1
    travel = (
        "travel",
        "a toy cat",
        "a cat",
        "-o",
        "x.webp",
        "--frames",
        "2",
        "--steps",
        "1",
        "--model",
        str(miniature),
    )
    assert main([*travel, *map(str, how)]) == 0
    assert main([*travel, *map(str, how), "--variant", "fp16"]) == 2
