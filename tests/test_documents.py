"""Every command and every Python block of the README and the guides runs, in order, on the starter."""

from __future__ import annotations

import dataclasses
import importlib.util
import io
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import adapters
import fewstep
from conftest import HAS_STARTER
from documents import RUN, Block, blocks
from fewstep.cli.main import main
from fewstep.evaluate import run as evaluation
from fewstep.evaluate import sweep
from fewstep.evaluate.reference import Reference
from fewstep.models import loading
from fewstep.train import run as training
from miniature import write_miniature_sd1
from serving import serving

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BASES = ("stable-diffusion-v1-5", "sd15", "my-sd15")  # somebody's Stable Diffusion
STUDENTS = ("my-lcm", "other-lcm")
PICTURES = ("my-style", "my-drawings", "pictures", "photos")


@pytest.fixture(scope="module")
def possessions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What readers have: models, adapters, pictures, prompts."""
    home = tmp_path_factory.mktemp("possessions")
    write_miniature_sd1(home / BASES[0])
    write_miniature_sd1(home / STUDENTS[0], time_cond_proj_dim=256)
    layers = {"lora_unet": adapters.random_layers(fewstep.load(home / BASES[0], device="cpu").network.module, 1)}
    for name in ("ink", "hyper", "their-lcm-lora"):
        adapters.write_kohya(home / f"{name}.safetensors", layers, alpha=3.0)
    for names in (BASES, STUDENTS):
        for name in names[1:]:
            (home / name).symlink_to(home / names[0])
    noise = np.random.default_rng(0)
    for name in PICTURES:
        (home / name).mkdir()
        for what in ("owl", "red apple", "sailing boat", *(f"teapot {number}" for number in range(13))):
            Image.fromarray(noise.integers(0, 255, (130, 140, 3), dtype=np.uint8)).save(home / name / f"{what}.png")
    shutil.copy(home / "photos" / "owl.png", home / "photo.png")
    Image.open(home / "photo.png").save(home / "photo.jpg")
    (home / "prompts.txt").write_text("a blue cat\na red dog\na sad robot\na fox face\n")
    (home / "prompts.csv").write_text("prompt,seed,steps\na cat,7,2\na dog,8,2\n")
    torch.save({"state_dict": {"layer.weight": torch.ones(2, 2)}}, home / "model.ckpt")
    (home / "src").symlink_to(ROOT / "src")
    return home


class Reader:
    """Somebody who has the starter and `possessions`, and types what a document says."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch
        self._commands: dict[str, Callable[[list[str]], None]] = {
            "fewstep": self._fewstep,
            "make": self._make,
            "pip": self._pip,
            "python": self._python,
            "export": self._export,
            "accelerate": self._accelerate,
        }

    def do(self, block: Block) -> None:
        if block.file is not None:
            Path(block.file).write_text(block.text)
        elif block.language == "python":
            self._run_python(block.text)
        else:
            for line in block.commands:
                self.type(line)

    def type(self, line: str) -> None:
        words = shlex.split(line, comments=True)
        if "|" in words:
            before, _, line = line.partition("|")
            sent = subprocess.run(["bash", "-c", before], check=True, capture_output=True).stdout
            self._patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(sent)))
            words = shlex.split(line, comments=True)
        assert words[0] in self._commands, f"no reader can type {line!r}"
        self._commands[words[0]](words[1:])

    def _fewstep(self, arguments: list[str]) -> None:
        arguments = shlex.split(_theirs(shlex.join(arguments)))
        if arguments[0] == "serve":
            arguments += ["--port", "0", "--runtime", "pytorch"]
        if "--server" in arguments:
            with serving(loading.load("starter", device="cpu")) as server:
                place = arguments.index("--server") + 1
                assert arguments[place] == "http://127.0.0.1:7860"
                arguments[place] = server.url
                assert main(arguments) == 0
        else:
            assert main(arguments) == 0, shlex.join(["fewstep", *arguments])
        for option, value in pairwise(arguments):
            if option == "-o" and "--dry-run" not in arguments and "--search-timesteps" not in arguments:
                assert list(Path().glob(f"{Path(value).with_suffix('')}*")), f"nothing made {value}"

    def _make(self, arguments: list[str]) -> None:
        """That it would be made: a virtual environment of its own for each test would take minutes."""
        subprocess.run(
            ["make", "-n", f"PYTHON={sys.executable}", *arguments], cwd=ROOT, check=True, capture_output=True
        )

    def _pip(self, arguments: list[str]) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        assert arguments[:2] == ["install", "-e"], f"fewstep is on no index: pip {shlex.join(arguments)}"
        (extra,) = re.fullmatch(r"\.\[(\w+)\]", arguments[2]).groups()  # type: ignore[union-attr]
        assert extra in project["optional-dependencies"]

    def _python(self, arguments: list[str]) -> None:
        if arguments[0] == "-m":
            assert importlib.util.find_spec(arguments[1]) is not None
        else:
            assert arguments[0] == "-c"
            self._run_python(arguments[1])

    def _export(self, arguments: list[str]) -> None:
        for each in arguments:
            name, _, value = each.partition("=")
            self._patch.setenv(name, str(Path(value).expanduser()))

    def _accelerate(self, arguments: list[str]) -> None:
        """By one process."""
        assert arguments[0] == "launch"
        place = arguments.index("-m")
        assert arguments[place + 1] == "fewstep"
        self._fewstep(arguments[place + 2 :])

    def _run_python(self, text: str) -> None:
        text, names = _theirs(text), {"__name__": "__main__"}
        if "7860" not in text:
            exec(compile(text, "a document", "exec"), names)
            return
        with serving(loading.load("starter", device="cpu")) as server:
            exec(compile(text.replace("7860", server.address.partition(":")[2]), "a document", "exec"), names)


def _theirs(text: str) -> str:
    """The published LCM-LoRA, which cannot be had here, is another for somebody's Stable Diffusion."""
    if any(f"./{name}" in text for name in BASES):
        return re.sub(r"(?<=[ +\"])lcm-lora(?=[ \"]|$)", "their-lcm-lora.safetensors", text)
    return text


def _first(reference: Reference, count: int) -> Reference:
    """Of a reference the first pictures."""
    return dataclasses.replace(reference, features=reference.features[:count])


@pytest.fixture
def reader(possessions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    for each in possessions.iterdir():
        (tmp_path / each.name).symlink_to(each)
    monkeypatch.chdir(tmp_path)
    usual = loading.load
    kept = cache(lambda name, options: usual(name, **dict(options)))

    def load(name: str | Path = "starter", device: Any = None, dtype: Any = None, **options: Any) -> Any:
        """Each model once; training, which changes what it is given, asks elsewhere."""
        options |= {"device": device, "dtype": dtype}
        if options.get("loras"):
            options["loras"] = tuple(options["loras"])
        options = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
        return kept(name, tuple(sorted(options.items())))

    assert training.load is usual
    monkeypatch.setattr(loading, "load", load)
    monkeypatch.setattr(fewstep, "load", load)
    monkeypatch.setattr(sweep, "load", load)
    timed = sweep.measure_speed
    monkeypatch.setattr(sweep, "measure_speed", lambda *given: timed(*given[:3], 2, 1, *given[5:]))  # 2 pictures, once
    read = evaluation.read_reference
    monkeypatch.setattr(evaluation, "read_reference", lambda *given: _first(read(*given), 200))
    monkeypatch.setattr("fewstep.train.measures.PATH_STEPS", 2)  # of the teacher's paths that a run's gap is told by
    monkeypatch.setattr("uvicorn.Server.run", lambda *_, **__: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("FEWSTEP_MODEL", raising=False)
        yield Reader(patch)


@pytest.mark.slow
@pytest.mark.skipif(not HAS_STARTER, reason="no weights yet")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_every_block_runs(document: Path, reader: Reader) -> None:
    for block in blocks(document):
        if block.language in RUN:
            try:
                reader.do(block)
            except BaseException as error:
                error.add_note(f"in {document.name}, line {block.line}")
                raise


def test_what_is_shortened_is_there(tmp_path: Path) -> None:
    document = tmp_path / "guide.md"
    document.write_text("<!-- shortened in tests: -n 9 => -n 1 -->\n```sh\nfewstep a -n 9  # nine\n\nb \\\n  c\n```\n")
    (block,) = blocks(document)
    assert [shlex.split(each, comments=True) for each in block.commands] == [["fewstep", "a", "-n", "1"], ["b", "c"]]
    for wrong in (
        "<!-- shortened in tests: -n 8 => -n 1 -->\n```sh\na\n```\n",
        "<!-- shortened in tests: a => b -->\ntext\n",
    ):
        document.write_text(wrong)
        with pytest.raises(ValueError, match="line"):
            list(blocks(document))


def test_a_document_that_promises_what_is_not_there_is_noticed(reader: Reader) -> None:
    for line in (
        "fewstep generate cat --image sketch.png",
        "fewstep generate cat --colour red",
        "make nothing-of-the-kind",
        "pip install 'fewstep[serve]'",
        "pip install -e '.[nothing]'",
        "python -m recipes.nothing",
        "sudo reboot",
    ):
        with pytest.raises((AssertionError, subprocess.CalledProcessError)):
            reader.type(line)
