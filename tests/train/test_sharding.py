"""Weights divided between two real processes: they learn what one process learns, go on, and are written whole."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env
from PIL import Image
from safetensors.torch import load_file

import fewstep
from fewstep.cli.main import main
from fewstep.errors import InvalidConfig
from fewstep.train import measures
from fewstep.train.processes import Processes
from fewstep.train.state import CHECKPOINT
from miniature import write_miniature
from ranks import run_in_two

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:.*is deprecated")]

LAUNCH = """
distributed_type: FSDP
fsdp_config:
  fsdp_version: 2
num_machines: 1
num_processes: 2
mixed_precision: "no"
"""
RECIPE = """
from fewstep.train import measures
from fewstep.train.config import WatchConfig
from fewstep.train.defaults import changed, default_config

measures.PATH_STEPS = 2  # of the teacher's paths: enough for random weights

def config():
    watch = WatchConfig(prompts=("a red fox",), steps=(1,), every=8, best="teacher_gap")
    settings = default_config("distill", "miniature/teacher", "pictures", lora={lora})
    return changed(settings, {{
        "fit.pictures": 16, "fit.batch_size": 4, "fit.accumulate": {accumulate}, "fit.lr": 1e-4, "fit.warmup": 1,
        "watch": watch, "device": "cpu", "checkpointing": {lora}, "objective.phases": 2,
        "objective.target": {target!r},
    }} | ({{"lora.rank": 4}} if {lora} else {{}}))
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command runs; what the recipe sets for its own process is put back in this one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(measures, "PATH_STEPS", 2)
    write_miniature(tmp_path / "miniature")
    (tmp_path / "pictures").mkdir()
    for index, colour in enumerate(("red", "blue", "green", "white")):
        Image.new("RGB", (140, 130), colour).save(tmp_path / "pictures" / f"a_{colour}_cat_{index}.png")
    (tmp_path / "launch.yaml").write_text(LAUNCH)
    return tmp_path


def distil(output: str, *options: str) -> None:
    """Run the command in one process: this one."""
    assert main(["distill", "--recipe", "recipe.py", "-o", output, *options]) == 0


def distil_in_two(home: Path, output: str, *options: str) -> None:
    """Run the command as people do: twice, under accelerate's launcher."""
    port = str(20000 + random.Random().randrange(20000))
    launch = ["accelerate.commands.launch", "--config_file", "launch.yaml", "--main_process_port", port, "-m"]
    command = [sys.executable, "-m", *launch, "fewstep", "distill", "--recipe", "recipe.py"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ACCELERATE_")}
    result = subprocess.run(
        [*command, "-o", output, *options],
        cwd=home,
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def distil_forked(home: Path, output: str, *options: str) -> None:
    """The same without waiting for imports; the launcher's part is to set the environment."""
    launch = launch_command_parser().parse_args(["--config_file", str(home / "launch.yaml"), "-m", "fewstep"])
    launch, *_ = _validate_launch_command(launch)
    run_in_two(["distill", "--recipe", "recipe.py", "-o", output, *options], home, prepare_multi_gpu_env(launch))


def assert_learnt_the_same(home: Path) -> None:
    one, two = (load_file(home / name / CHECKPOINT) for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=2e-4)
    start = {name: tensor for name, tensor in one.items() if name.startswith("model/")}
    assert any(not torch.equal(tensor, one[name.replace("model/", "ema/")]) for name, tensor in start.items())


def test_a_network_in_two_parts_learns_what_one_does_and_is_resumed_and_written_whole(home: Path) -> None:
    (home / "recipe.py").write_text(RECIPE.format(lora=False, target="ema", accumulate=2))
    distil("one")
    distil_forked(home, "two", "--pictures", "8")
    distil_forked(home, "two")
    assert_learnt_the_same(home)
    assert (home / "two" / "measures.jsonl").read_text().count("\n") == 3
    fewstep.load(home / "two" / "model", device="cpu")
    weights = "model/unet/diffusion_pytorch_model.safetensors"
    one, two = (load_file(home / name / weights) for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=2e-3, atol=5e-4)


def test_an_adapter_on_a_network_in_two_parts_goes_on_in_one_process(home: Path) -> None:
    """The teacher is the same network with the adapter off; a checkpoint does not know how many wrote it."""
    (home / "recipe.py").write_text(RECIPE.format(lora=True, target="student", accumulate=1))
    distil("one")
    distil_in_two(home, "two", "--pictures", "8")
    distil("two")
    assert_learnt_the_same(home)
    one, two = (load_file(home / name / "pytorch_lora_weights.safetensors") for name in ("one", "two"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-2, atol=2e-4)


@pytest.mark.parametrize("names", [["ACCELERATE_USE_DEEPSPEED"], ["ACCELERATE_USE_FSDP", "FSDP_OFFLOAD_PARAMS"]])
def test_other_ways_to_divide_weights_are_refused(names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in names:
        monkeypatch.setenv(name, "false")
    assert Processes.here() == Processes()
    for name in names:
        monkeypatch.setenv(name, "true")
    with pytest.raises(InvalidConfig, match="use FSDP without"):
        Processes.here()
