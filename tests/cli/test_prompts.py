"""Prompts on the command line and in files: adapters by name, other programs' syntax, older pictures' own words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import adapters
import fewstep
from fewstep.cli.main import main
from fewstep.cli.output import write_picture
from fewstep.imaging.reading import read_image
from fewstep.models import locating
from fewstep.models.model import Model
from fewstep.pipelines.generate import generate_plan
from fewstep.pipelines.plan import complete
from fewstep.pipelines.provenance import read_record
from fewstep.pipelines.request import Request

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(
    miniature: Path,
    student: Model,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """`fewstep ...` in a folder with ink.safetensors, and the miniature in the starter's place: its code and stderr."""
    monkeypatch.setitem(locating.BUILT_IN, "starter", miniature)
    monkeypatch.chdir(tmp_path)
    adapters.write_kohya(
        Path("ink.safetensors"), {"lora_unet": adapters.random_layers(student.network.module, 1)}, alpha=3.0
    )

    def run_command(*arguments: object) -> tuple[int, str]:
        code = main([*map(str, arguments)])
        return code, capsys.readouterr().err

    return run_command


def pixels(path: str) -> np.ndarray:
    return np.asarray(read_image(path), dtype=int)


def test_an_adapter_in_the_prompt_is_found_and_applied(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    how = ["--seed", 1, "--steps", 1]
    assert run("generate", "a cat", *how, "--lora", "ink.safetensors:0.8", "-o", "wanted.png")[0] == 0
    assert run("generate", "a cat <lora:ink:0.8>", *how, "-o", "beside.png")[0] == 0
    given = ["--lora", "ink.safetensors"]
    assert run("generate", "a cat <lora:ink:0.8>", *how, *given, "-o", "given.png")[0] == 0
    Path("elsewhere").mkdir()
    Path("ink.safetensors").rename("elsewhere/ink.safetensors")
    monkeypatch.setenv("FEWSTEP_LORAS", "nowhere:elsewhere")
    assert run("generate", "a cat <lora:ink:0.8>", *how, "-o", "folder.png")[0] == 0
    for name in ("beside.png", "given.png", "folder.png"):
        assert np.array_equal(pixels(name), pixels("wanted.png"))
        assert read_record(name).prompt == "a cat"
        assert read_record(name).loras == read_record("wanted.png").loras
    again = ["generate", "--from", "beside.png", "--lora", "elsewhere/ink.safetensors:0.8", "-o", "again.png"]
    assert run(*again)[0] == 0
    assert np.array_equal(pixels("again.png"), pixels("wanted.png"))


@pytest.mark.parametrize("name", ["gone", "../ink", "/etc/ink", "owner/ink"])
def test_an_adapter_that_is_not_found_is_refused_before_anything_is_loaded(run: Run, name: str) -> None:
    code, said = run("generate", f"a cat <lora:{name}:0.8>", "--model", "there-is-no-such-model", "-o", "x.png")
    assert code == 2
    assert f"the prompt names the LoRA {name!r}, which is not here" in said
    code, said = run("generate", f"a cat <lora:{name}:0.8>", "--lora", "ink.safetensors", "-o", "x.png")
    assert (code, Path("x.png").exists()) == (2, False)
    assert f"no LoRA {name!r} here; loaded are ink" in said


def test_what_is_not_done_is_refused_by_name(run: Run) -> None:
    for prompt in ("a [cat:dog:0.5]", "a cat AND a dog", "a __colour__ cat"):
        code, said = run("generate", prompt, "-o", "x.png")
        assert (code, Path("x.png").exists()) == (2, False)
        assert "is what other programs read as" in said
    assert run("generate", r"a cat \AND a dog", "--steps", 1, "-o", "x.png")[0] == 0
    assert read_record("x.png").prompt == "a cat AND a dog"


def test_an_older_picture_s_own_prompt_paints_as_it_did(run: Run, student: Model) -> None:
    prompt = "a [cat|dog] <lora:ink:0.8> AND a __fox__ [red:0.5]"  # which were words when it was painted
    (picture,) = generate_plan(fewstep.load("starter", device="cpu"), complete(Request.of(prompt, 7, steps=1), student))
    write_picture(picture, Path("old.png"))
    assert run("generate", "--from", "old.png", "-o", "again.png")[0] == 0
    assert np.array_equal(pixels("again.png"), pixels("old.png"))
    assert read_record("again.png").prompt == prompt
    code, said = run("generate", "a [cat|dog]", "--from", "old.png", "-o", "new.png")
    assert (code, "is what other programs read as" in said) == (2, True)


def test_in_a_batch_each_row_has_its_own(run: Run) -> None:
    Path("rows.csv").write_text('prompt,name\na cat,plain\n"a <lora:ink:0.8> cat",inked\n', encoding="utf-8")
    assert run("batch", "rows.csv", "-o", "out", "--steps", 1)[0] == 0
    run("generate", "a cat", "--seed", 0, "--steps", 1, "-o", "plain.png")
    run("generate", "a cat", "--seed", 1, "--steps", 1, "--lora", "ink.safetensors:0.8", "-o", "inked.png")
    for name in ("plain", "inked"):
        assert np.abs(pixels(f"out/{name}.png") - pixels(f"{name}.png")).max() <= 1
    Path("rows.csv").write_text("prompt\na cat\n[cat|dog]\n", encoding="utf-8")
    code, said = run("batch", "rows.csv", "-o", "more")
    assert code == 2
    assert "rows.csv, picture 2: '[cat|dog]' in the prompt" in said


def test_a_line_break_in_a_cell_stays_between_its_words(run: Run) -> None:
    Path("rows.csv").write_bytes(b'prompt,seed\r\n"a red\r\ncat, sitting",1\r\n"a\n\ndog",2\r\n')
    Path("rows.jsonl").write_text('{"prompt": "a red\u2028fox\x85 cub", "name": "fox"}\n', encoding="utf-8")
    assert run("batch", "rows.csv", "-o", "out", "--steps", 1)[0] == 0
    assert run("batch", "rows.jsonl", "-o", "out", "--steps", 1)[0] == 0
    assert read_record("out/1.png").prompt == "a red\ncat, sitting"
    assert read_record("out/2.png").prompt == "a\n\ndog"
    assert read_record("out/fox.png").prompt == "a red\u2028fox\x85 cub"
    run("generate", "a red cat, sitting", "--seed", 1, "--steps", 1, "-o", "same.png")
    assert np.abs(pixels("out/1.png") - pixels("same.png")).max() <= 1


def test_what_is_no_csv_is_refused_with_its_line(run: Run) -> None:
    Path("rows.csv").write_text("prompt\na cat\n" + "x" * 200_000 + "\n", encoding="utf-8")
    code, said = run("batch", "rows.csv", "-o", "out")
    assert (code, "rows.csv is not CSV after line 2: field larger than" in said) == (2, True)
