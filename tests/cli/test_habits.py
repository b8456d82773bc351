"""The habits of the command line: streams, formats, JSON, short options, lines in place of a bar, what is kept."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fewstep
from fewstep.cli import options, progress
from fewstep.cli.main import main
from fewstep.imaging.reading import read_image
from fewstep.models import loading, locating
from fewstep.pipelines import generate, travel
from fewstep.pipelines.provenance import read_record
from fewstep.runtime import machine

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(miniature: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """`fewstep ...` in an empty folder, with the miniature in the starter's place; `given` is its standard input."""
    monkeypatch.setitem(locating.BUILT_IN, "starter", miniature)
    monkeypatch.setitem(locating.BUILT_IN, "starter-teacher", miniature / "teacher")
    monkeypatch.chdir(tmp_path)

    def run_command(*arguments: object, given: str | bytes = "") -> tuple[int, str, str]:
        data = given.encode() if isinstance(given, str) else given
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        try:
            code = main([str(each) for each in arguments])
        except SystemExit as ended:  # a script for a shell's completion
            code = int(ended.code or 0)
        sys.stdout.flush()
        return code, *capfd.readouterr()

    return run_command


def pixels(path: Path | str) -> np.ndarray:
    return np.asarray(read_image(path).convert("RGB"), dtype=int)


def form_of(path: str) -> tuple[str | None, int]:
    """The format of a picture, and how many frames it has."""
    with Image.open(path) as image:
        return image.format, getattr(image, "n_frames", 1)


@pytest.mark.parametrize("name", ["cat.png", "cat.jpg", "CAT.JPEG", "cat.webp"])
def test_every_format_carries_what_makes_the_picture_again(run: Run, name: str) -> None:
    words = "кошка, 猫 (blue:1.2)"
    assert run("generate", words, "--steps", 1, "--seed", 5, "-o", name)[0] == 0
    assert run("generate", words, "--steps", 1, "--seed", 5, "-o", "plain.png")[0] == 0
    form = {"png": "PNG", "webp": "WEBP"}.get(name.lower().rpartition(".")[2], "JPEG")
    assert form_of(name) == (form, 1)
    assert np.abs(pixels(name) - pixels("plain.png")).mean() < 8  # noise is the worst for a lossy format
    assert read_record(name) == read_record("plain.png")
    assert read_record(name).prompt == words
    assert run("generate", "--from", name, "-o", "again.png")[0] == 0
    assert np.array_equal(pixels("again.png"), pixels("plain.png"))


def test_other_programs_read_the_parameters_of_a_jpeg(run: Run) -> None:
    run("generate", "a cat", "--steps", 1, "--seed", 5, "-o", "cat.jpg")
    with Image.open("cat.jpg") as image:
        comment = image.getexif().get_ifd(0x8769)[0x9286]
    assert comment.startswith(b"UNICODE\0")
    assert comment[8:].decode("utf-16-be").startswith("a cat\nSteps: 1, ")


def test_parameters_that_a_jpeg_cannot_hold_are_left_out_and_that_is_said(run: Run) -> None:
    words = "🙂" * 9_000
    code, _, err = run("generate", words, "--negative-prompt", words, "--steps", 1, "-o", "x.jpg")
    assert (code, "longer than a JPEG can hold" in err) == (0, True)
    assert read_image("x.jpg").size == (128, 128)
    assert run("generate", words, "--negative-prompt", words, "--steps", 1, "-o", "x.webp")[0] == 0
    assert read_record("x.webp").prompt == words


@pytest.mark.parametrize("exif", [b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0nonsense", b""])
def test_a_photograph_with_broken_exif_is_a_picture_all_the_same(run: Run, exif: bytes) -> None:
    Image.new("RGB", (64, 64), "orange").save("photo.jpg", exif=exif)
    assert run("generate", "cat", "--image", "photo.jpg", "--steps", 2, "-o", "x.png")[0] == 0


def png_of(arguments: list[str], miniature: Path, given: bytes = b"") -> bytes:
    """What a real process writes to a real pipe."""
    command = [sys.executable, "-m", "fewstep", *arguments, "--model", str(miniature)]
    return subprocess.run(
        command, input=given, capture_output=True, check=True, env={**os.environ, "PYTHONUTF8": "0"}
    ).stdout


@pytest.mark.slow
def test_a_prompt_comes_and_a_picture_goes_through_pipes(run: Run, miniature: Path) -> None:
    data = png_of(["generate", "-", "-o", "-", "--seed", "5", "--steps", "1"], miniature, "a cat né\n".encode())
    Path("piped.png").write_bytes(data)
    run("generate", "a cat né", "--seed", 5, "--steps", 1, "-o", "named.png", "--model", miniature)
    assert data == Path("named.png").read_bytes()


def test_several_pictures_do_not_fit_into_one_stream(run: Run) -> None:
    code, out, err = run("generate", "cat", "-n", 2, "-o", "-", "--steps", 1)
    assert (code, out, "or --grid" in err) == (2, "", True)


@pytest.mark.parametrize(
    ("given", "words"), [("", "nothing came"), (" \n", "nothing came"), (b"\xff\xfe\xfa", "UTF-8")]
)
def test_a_prompt_that_does_not_come_is_said(run: Run, given: str | bytes, words: str) -> None:
    code, _, err = run("generate", "-", given=given)
    assert (code, words in err) == (2, True)


@pytest.mark.parametrize(
    ("given", "arguments"),
    [
        ("a cat\n\na {dog}\n", ()),
        ('{"prompt": "a cat"}\n{"prompt": "a {dog}"}\n', ()),
        ("prompt\na cat\na {dog}\n", ("--format", "csv")),
    ],
)
def test_a_batch_comes_through_a_pipe(run: Run, given: str, arguments: tuple[str, ...]) -> None:
    code, out, err = run("batch", "-", "-o", "out", "--steps", 1, *arguments, given=given)
    assert (code, out.split()) == (0, ["out/1.png", "out/2.png"]), err
    assert [read_record(path).prompt for path in out.split()] == ["a cat", "a {dog}"]


def test_a_name_says_the_format_of_a_batchs_picture(run: Run) -> None:
    rows = '{"prompt": "a cat", "name": "a.jpg"}\n{"prompt": "a cat", "name": "v1.5"}'
    code, out, _ = run("batch", "-", "-o", "out", "--steps", 1, given=rows)
    assert (code, out.split()) == (0, ["out/a.jpg", "out/v1.5.png"])
    assert form_of("out/a.jpg") == ("JPEG", 1)
    assert "0 painted, 2 were there" in run("batch", "-", "-o", "out", "--steps", 1, given=rows)[2]


def test_json_has_a_line_for_each_picture(run: Run) -> None:
    _, out, _ = run("generate", "a cat", "-n", 2, "--seed", 5, "--steps", 1, "-o", "x.png", "--json")
    first, second = map(json.loads, out.splitlines())
    assert (first["path"], second["path"], second["seed"], second["prompt"]) == ("x-1.png", "x-2.png", 6, "a cat")


def test_json_of_inspect(run: Run, miniature: Path) -> None:
    run("generate", "a cat", "--seed", 5, "--steps", 1, "-o", "x.png")
    _, out, _ = run("inspect", "x.png", miniature, "--json")
    picture, model = map(json.loads, out.splitlines())
    assert (picture["record"]["seed"], picture["kind"]) == (5, "a picture")
    assert (model["file"], model["predicts"]) == (str(miniature), "v_prediction")


@pytest.mark.slow
def test_json_of_doctor(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "matrix_speed", lambda *_: machine.Speed("cpu", "float32", 1e11))
    monkeypatch.setattr(machine, "step_seconds", lambda _: (0.25, 0.5))
    code, out, _ = run("doctor", "--json")
    facts = json.loads(out)
    assert (code, facts["missing"], facts["machine"]["flops"]) == (0, [], 1e11)
    assert facts["expected"]["pictures"] == {"1": 0.75, "2": 1.0, "4": 1.5}
    monkeypatch.setenv("FEWSTEP_MODEL", "nowhere")
    code, out, _ = run("doctor", "--json")
    assert (code, "no model 'nowhere'" in json.loads(out)["expected"]["error"]) == (1, True)


def test_short_options(run: Run) -> None:
    assert run("-V")[1] == f"fewstep {fewstep.__version__}\n"
    for command in ("generate", "serve", "doctor", "train-lora"):
        assert "--help" in run(command, "-h")[1]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(run: Run, monkeypatch: pytest.MonkeyPatch, shell: str) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    code, out, _ = run("--show-completion", shell)
    assert (code, "_FEWSTEP_COMPLETE" in out) == (0, True)


def test_completion_knows_commands_and_options() -> None:
    def completed(line: str) -> str:
        wanted = {"_FEWSTEP_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
        command = [sys.executable, "-c", "from fewstep.cli.main import app; app(prog_name='fewstep')"]
        return subprocess.run(command, env={**os.environ, **wanted}, capture_output=True, text=True).stdout

    assert completed("fewstep trav").split() == ["travel"]
    assert "--negative-prompt" in completed("fewstep generate --neg")


def test_the_environment_names_the_model_and_an_option_wins(
    run: Run, miniature: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("generate", "cat", "--steps", 1, "-o", "starter.png")
    monkeypatch.setenv("FEWSTEP_MODEL", "starter-teacher")
    run("generate", "cat", "--steps", 1, "-o", "a.png")
    assert read_record("a.png").model == "starter-teacher"
    run("generate", "cat", "--steps", 1, "-o", "b.png", "--model", "starter")
    assert read_record("b.png").model == "starter"
    run("generate", "--from", "starter.png", "-o", "c.png")  # what a picture says wins, too
    assert read_record("c.png").model == "starter"
    run("travel", "a", "b", "--frames", 2, "--steps", 1, "-o", "d.webp")
    assert read_record("d.webp").model == "starter-teacher"
    run("batch", "-", "-o", "out", "--steps", 1, given="cat")
    assert read_record("out/1.png").model == "starter-teacher"
    monkeypatch.setenv("FEWSTEP_MODEL", "nosuch")
    assert "no model 'nosuch'" in run("generate", "cat")[2]
    monkeypatch.setenv("FEWSTEP_MODEL", "")
    assert options.default_model() == "starter"


@pytest.mark.slow
def test_long_work_says_a_line_every_ten_seconds_where_there_is_no_terminal(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "BETWEEN_LINES", 0.05)
    painted = generate.sample

    def slowly(*arguments: object) -> Iterator[object]:
        for step in painted(*arguments):  # type: ignore[arg-type]
            time.sleep(0.2)
            yield step

    monkeypatch.setattr(generate, "sample", slowly)
    arguments = ("generate", "cat", "-o", "x.png", "--seed", 1, "--steps", 2)
    lines = run(*arguments)[2].splitlines()
    assert "painting: 1 of 2, 0 s" in lines
    assert all(line.startswith(("loading: ", "painting: ")) for line in lines)
    assert run(*arguments, "--quiet")[2] == ""
    monkeypatch.setenv("FEWSTEP_QUIET", "1")
    assert run(*arguments)[2] == ""


def after(calls: int, function: Callable[..., object]) -> Callable[..., object]:
    """`function`, and Ctrl-C in its place once it was called so many times."""
    done = []

    def interrupted(*arguments: object) -> object:
        done.append(arguments)
        if len(done) > calls:
            raise KeyboardInterrupt
        return function(*arguments)

    return interrupted


def test_ctrl_c_keeps_what_is_painted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fewstep.pipelines.plan.BATCH_LIMIT", 2)
    monkeypatch.setattr(generate, "sample", after(2, generate.sample))
    code, out, err = run("generate", "cat", "-n", 200, "--seed", 5, "--steps", 1, "-o", "x.png")
    assert (code, out.split()) == (130, ["x-1.png", "x-2.png", "x-3.png", "x-4.png"])
    assert "what is painted so far is kept: 4" in err
    assert [read_record(name).seed for name in out.split()] == [5, 6, 7, 8]


def test_ctrl_c_keeps_the_sheet_and_the_way(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fewstep.pipelines.plan.BATCH_LIMIT", 2)
    usual = generate.sample
    monkeypatch.setattr(generate, "sample", after(2, usual))
    assert run("generate", "cat", "-n", 200, "--grid", "--seed", 5, "--steps", 1, "-o", "x.png")[:2] == (130, "x.png\n")
    assert read_record("x.png").num_images == 4
    monkeypatch.setattr(generate, "sample", after(2, usual))
    assert run("travel", "a", "b", "--frames", 50, "--steps", 1, "-o", "x.webp")[:2] == (130, "x.webp\n")
    assert form_of("x.webp") == ("WEBP", 4)
    monkeypatch.setattr(generate, "sample", usual)
    run("generate", "--from", "x.png", "-o", "again.png")
    assert Path("again.png").read_bytes() == Path("x.png").read_bytes()


def test_a_failure_keeps_what_is_painted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fewstep.pipelines.plan.BATCH_LIMIT", 2)
    usual, calls = Image.Image.save, []

    def fills_up(self: Image.Image, path: Path, **more: object) -> None:
        calls.append(path)
        if len(calls) > 3:
            raise OSError(28, "No space left on device")
        usual(self, path, **more)

    monkeypatch.setattr(Image.Image, "save", fills_up)
    code, out, err = run("generate", "cat", "-n", 6, "--steps", 1, "-o", "x.png")
    assert (code, out.split()) == (2, ["x-1.png", "x-2.png", "x-3.png"])
    assert "cannot write x-4.png: the disk is full" in err


BEFOREHAND = {
    "must be a multiple of 16": ["generate", "cat", "--width", "100"],
    "the height is 100": ["generate", "cat", "--height", "100", "--lora", "here.safetensors"],
    "was distilled for 3 to 15": ["generate", "cat", "--guidance-scale", "1"],
    "is not for miniature": ["generate", "cat", "--sampler", "heun"],
    "do not fit": ["generate", "cat", "--steps", "51"],
    "is beyond miniature": ["generate", "cat", "--timesteps", "1500"],
    "no LoRA 'nowhere.safetensors'": ["generate", "cat", "--lora", "nowhere.safetensors"],
    "the weight of here.safetensors is 99.0": ["generate", "cat", "--lora", "here.safetensors:99"],
    "no network for --control './canny'": ["generate", "cat", "--control", "./canny=good.png"],
    "no autoencoder 'nowhere'": ["generate", "cat", "--vae", "nowhere"],
    "there is no device 'gpu'": ["generate", "cat", "--device", "gpu"],
    "unknown dtype 'int4'": ["generate", "cat", "--dtype", "int4"],
    "unknown memory policy": ["generate", "cat", "--memory", "none"],
    "unknown kind of model": ["generate", "cat", "--kind", "fast"],
    "no model './nosuch'": ["generate", "cat", "--model", "./nosuch"],
    "there is no folder nowhere": ["generate", "cat", "-o", "nowhere/x.png"],
    "must end in .png, .jpg": ["generate", "cat", "-o", "x.bmp"],
    "File name too long": ["generate", "cat", "-o", "x" * 300 + ".png"],
    "cannot write good.png/x": ["batch", "prompts.txt", "-o", "good.png/x"],
    "the width is 100": ["batch", "wide.jsonl", "-o", "out"],
    "no folder gone": ["travel", "a", "b", "-o", "gone/x.webp"],
    "1 frames for 2 stops": ["travel", "a", "b", "--frames", "1", "-o", "x.webp"],
    "the number of steps is 0": ["travel", "a", "b", "--steps", "0", "-o", "x.webp"],
    "no LoRA 'gone'": ["serve", "--lora", "gone", "--port", "0"],
    "no network for --control 'gone'": ["serve", "--control", "gone", "--port", "0"],
    "there is no folder good.png": ["merge", "starter", "--lora", "lcm-lora", "-o", "good.png/x"],
    "cannot write out: it is there already": ["merge", "starter", "--lora", "lcm-lora", "-o", "out"],
    "no folder gone-three": ["export", "starter", "-o", "gone-three/x"],
    "cannot write out: it is there already ": ["export", "starter", "-o", "out"],
    "no folder gone-too": ["convert", "here.safetensors", "--to", "kohya", "-o", "gone-too/x.safetensors"],
    "good.png is no folder ": ["finetune", "--model", "starter", "--data", "out", "-o", "good.png/run"],
    "good.png is no folder  ": ["evaluate", "-o", "good.png/run"],
    "good.png is no folder   ": ["cache", "--data", "out", "-o", "good.png/run"],
}


@pytest.mark.parametrize("complaint", BEFOREHAND)
def test_what_can_be_known_before_is_refused_before_anything_is_loaded(
    run: Run, monkeypatch: pytest.MonkeyPatch, complaint: str
) -> None:
    Image.new("RGB", (8, 8)).save("good.png")
    Path("here.safetensors").touch()
    Path("prompts.txt").write_text("a cat")
    Path("wide.jsonl").write_text('{"prompt": "a cat", "width": 100}')
    Path("out").mkdir()
    Path("out/owl.txt").touch()

    def loaded(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(fewstep, "load", loaded)
    monkeypatch.setattr(loading, "load", loaded)
    code, out, err = run(*BEFOREHAND[complaint])
    assert (code, out) == (2, ""), err
    assert complaint.strip() in err
    assert len(err.splitlines()) == 1


def test_an_outline_says_what_the_loaded_model_says(miniature: Path) -> None:
    from fewstep.models.outline import Outline

    for name in (miniature, miniature / "teacher"):
        outline, model = Outline.of(str(name)), fewstep.load(name, device="cpu")
        assert outline is not None
        for fact in ("name", "traits", "card"):
            assert getattr(outline, fact) == getattr(model, fact), fact
        assert outline.profile.described == model.profile.described
        assert outline.profile.facts() == model.profile.facts()
        assert outline.traits == model.traits


@pytest.mark.slow
def test_an_animation_carries_its_parameters_and_is_made_again(run: Run) -> None:
    words = ("travel", "a cat", "a 犬", "--seed", 3, "--seed", 4, "--frames", 4, "--back", "--steps", 2, "--fps", 5)
    for name in ("way.gif", "way.webp", "way.png"):
        assert run(*words, "-o", name)[0] == 0
        record = read_record(name)
        assert record.travel is not None
        assert record.travel.stops == (("a cat", 3), ("a 犬", 4))
        assert (record.travel.frames, record.travel.back, record.travel.fps, record.steps) == (4, True, 5.0, 2)
        assert run("travel", "--from", name, "-o", f"again-{name}")[0] == 0
        assert Path(f"again-{name}").read_bytes() == Path(name).read_bytes()
    run("travel", "--from", "way.webp", "--one-way", "--frames", 3, "-o", "short.webp")
    assert form_of("short.webp") == ("WEBP", 3)
    assert "fewstep travel --from way.webp" in run("inspect", "way.webp")[1]
    code, _, err = run("generate", "--from", "way.webp", "-o", "x.png")
    assert (code, "fewstep travel --from" in err) == (2, True)
    run("generate", "a", "--steps", 1, "-o", "picture.png")
    code, _, err = run("travel", "--from", "picture.png", "-o", "x.webp")
    assert (code, "is no animation" in err) == (2, True)


def test_frames_in_python_carry_their_place(miniature: Path) -> None:
    model = fewstep.load(miniature, device="cpu")
    frames = travel.travel(model, [("a cat", 1), ("a dog", 2)], frames=3, steps=1)
    records = [json.loads(frame.info["fewstep"])["travel"] for frame in frames]
    assert [record["frame"] for record in records] == [0, 1, 2]
    assert records[0]["stops"] == [["a cat", 1], ["a dog", 2]]
