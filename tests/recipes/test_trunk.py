"""The training that never stops: it goes on to the bit, steps aside for others, and its files can be read by anyone."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import typer
from safetensors.torch import load_file
from torch import Tensor, nn

import fewstep
from fewstep.errors import InUse
from fewstep.files import holder, locked
from fewstep.train.config import FitConfig
from recipes import lease, trunk
from recipes.emoji import art, baggage, composers, drawings, watch
from recipes.emoji.channels_last_norm import ChannelsLastNorm, use_channels_last_norms
from recipes.emoji.packages import NpmPackage
from recipes.emoji.pool import Pool
from recipes.emoji.watch import Watch
from recipes.lease import Turn
from recipes.trunk import Trunk, falling
from tiny_world import tiny_world, write_world

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CONFIG = FitConfig(pictures=24, batch_size=8, lr=1e-3, warmup=8, ema_halflife=16, precision="bfloat16")


def numbers(number: int) -> dict[str, Tensor]:
    return {"value": torch.arange(4) + 10 * number}


def drawn(pool: Pool, seen: int) -> set[int]:
    pool.advance(seen)
    return set(pool.draw(400, torch.Generator().manual_seed(seen))["value"].tolist())


def test_the_pool_moves_on_and_a_resumed_one_is_where_it_was(tmp_path: Path) -> None:
    made: list[int] = []

    def make(number: int) -> dict[str, Tensor]:
        made.append(number)
        return numbers(number)

    pool = Pool(make, tmp_path, width=2, size=4)
    assert drawn(pool, 0) == {0, 1, 2, 3}
    assert drawn(pool, 16) == {0, 1, 2, 3, 10, 11, 12, 13}  # each seen four times, another shard comes
    assert drawn(pool, 32) == {10, 11, 12, 13, 20, 21, 22, 23}  # and the oldest goes
    assert [file.stem for file in sorted(tmp_path.iterdir())] == ["000001", "000002"]
    assert drawn(Pool(make, tmp_path, width=2, size=4), 32) == drawn(pool, 32)
    assert made == [0, 1, 2]


@pytest.mark.parametrize("shape", [(3, 16, 8, 8), (2, 24, 5, 7), (1, 8, 1, 2)])
def test_the_norm_for_channels_last_is_group_norm(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    norm = nn.GroupNorm(8, shape[1], eps=1e-3).double()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    quick = nn.Sequential(nn.GroupNorm(8, shape[1], eps=1e-3).double())
    quick[0].load_state_dict(norm.state_dict())
    use_channels_last_norms(quick)
    assert isinstance(quick[0], ChannelsLastNorm)
    x = torch.randn(shape, dtype=torch.float64).contiguous(memory_format=torch.channels_last) * 3 + 2
    gradient = torch.randn(shape, dtype=torch.float64)
    results = []
    for module in (norm, quick):
        module.zero_grad()
        y = module(own := x.clone(memory_format=torch.preserve_format).requires_grad_(True))
        y.backward(gradient)
        results.append([y.detach(), own.grad, *(weight.grad for weight in module.parameters())])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_a_command_with_the_turn_stops_the_training_until_it_ends_even_by_a_kill() -> None:
    turn = Turn()
    turn.offer()
    command = [sys.executable, "-m", "recipes.lease", sys.executable, "-c", "print(1, flush=True); input()"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        time.sleep(0.3)
        assert other.poll() is None
        steps: list[float] = []

        def train() -> None:
            while len(steps) < 3:
                turn.offered = 0.0  # as when its two seconds are over
                turn.offer()
                steps.append(time.monotonic())

        training = threading.Thread(target=train, daemon=True)
        training.start()
        assert other.stdout.readline() == b"1\n"  # it has the turn
        done = len(steps)
        time.sleep(0.5)
        assert len(steps) == done
        other.kill()
        training.join(10)
        assert len(steps) == 3
    turn.release()


def test_a_command_that_is_not_there_is_named() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "recipes.lease", "no-such-command"], cwd=ROOT, capture_output=True, text=True
    )
    assert (run.returncode, run.stderr) == (1, "no-such-command: No such file or directory\n")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trunk, "SIZE", 16)
    monkeypatch.setattr(watch, "WATCHED_EVERY", 16)
    monkeypatch.setattr(Trunk, "world", tiny_world())
    monkeypatch.setattr(trunk, "evaluation_shards", lambda world, encoder: {"some": encoder.shard(world, 9, 0, 4)})


def grown(home: Path, pictures: int) -> dict[str, Tensor]:
    one = Trunk(home)
    one.grow(one.folder, dataclasses.replace(CONFIG, pictures=pictures))
    return load_file(one.folder / trunk.CHECKPOINT)


@pytest.mark.usefixtures("small")
def test_it_goes_on_to_the_bit_and_says_what_it_is_measured_by(tmp_path: Path) -> None:
    whole = grown(tmp_path / "whole", 24)
    grown(tmp_path / "parts", 16)
    parts = grown(tmp_path / "parts", 24)
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    unet = set(fewstep.load("starter-teacher", device="cpu").network.module.state_dict())
    assert {name.removeprefix("ema/") for name in whole if name.startswith("ema/")} == unet
    slots = {name.removeprefix("optimizer/").rpartition(".")[0] for name in whole if name.startswith("optimizer/")}
    assert slots == unet
    rows = [json.loads(line) for line in (tmp_path / "whole" / "trunk" / trunk.WATCHED).read_text().splitlines()]
    assert [row["seen"] for row in rows] == [0, 16]
    assert 0 < rows[0]["some"] < 2


@pytest.mark.usefixtures("small")
def test_a_second_writer_is_refused_and_what_was_watched_is_not_watched_again(tmp_path: Path) -> None:
    (tmp_path / "trunk").mkdir()
    with locked(tmp_path / "trunk", "the trunk"):
        second = subprocess.run(
            [sys.executable, "-m", "recipes.trunk", "--folder", str(tmp_path)], cwd=ROOT, capture_output=True, text=True
        )
    assert second.returncode == 1
    assert "error: the trunk" in second.stderr
    assert "is in use by another process" in second.stderr
    (file := tmp_path / "watched").write_text('{"seen": 32}\n')
    assert Watch(file, None, {}).done == 32  # type: ignore[arg-type]


def test_every_half_million_it_is_written_what_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class State:
        averaged = staticmethod(nullcontext)
        seen = 0

    monkeypatch.setattr(watch, "watched", lambda objective, shards: {"plain": 0.5})
    monkeypatch.setattr(watch, "found_rates", lambda model: {"found two parts": 0.25})
    objective: Any = SimpleNamespace(model=None)
    state: Any = State()
    for end in (655_360, 1_179_648):  # the second one begins where the first one stopped
        writes = Watch(tmp_path / "watched", objective, {})
        while state.seen <= end:
            writes(state)
            state.seen += 131_072
    rows = [json.loads(line) for line in (tmp_path / "watched").read_text().splitlines()]
    assert [row["seen"] for row in rows if "found two parts" in row] == [524_288, 1_048_576]


def test_a_branch_falls_from_where_the_trunk_is_to_nothing() -> None:
    config = falling(CONFIG, 1000, 0.25)
    assert config.pictures == 1250
    assert [round(config.rate(seen), 3) for seen in (1000, 1125, 1250)] == [1.0, 0.5, 0.0]


@pytest.mark.usefixtures("small")
def test_a_gpu_sends_back_a_trunk_and_a_branch_in_small_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here on a CPU, with two cores' composers and a tiny world."""
    write_world(tmp_path)
    monkeypatch.setattr(trunk, "CONFIG", dataclasses.replace(CONFIG, checkpoint_minutes=60))
    monkeypatch.setattr(composers.os, "cpu_count", lambda: 2)
    trunk.gpu(tmp_path / "out", tmp_path, None, minutes=0.02, batch_size=8)
    sizes = {file.name: file.stat().st_size for file in (tmp_path / "out").iterdir()}
    weights = {f"{name}-{number}.safetensors" for name in ("trunk", "branch") for number in (1, 2)}
    assert sizes.keys() == weights | {trunk.WATCHED}
    assert max(sizes.values()) < 16 * 2**20
    (tmp_path / "branch").mkdir()
    for number in (1, 2):
        (tmp_path / "out" / f"branch-{number}.safetensors").rename(tmp_path / "branch" / f"{number}.safetensors")
    (one := Trunk(tmp_path / "home")).start_from(tmp_path / "branch")
    start = fewstep.load("starter-teacher", device="cpu").network.module.state_dict()
    moved = [
        name for name, weight in one.model.network.module.state_dict().items() if not torch.equal(weight, start[name])
    ]
    assert len(moved) > 0.7 * len(start)


def test_a_pause_lasts_until_it_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEWSTEP_CACHE", str(tmp_path))
    lease.pause()
    training = threading.Thread(target=(turn := Turn()).offer, daemon=True)
    training.start()
    training.join(0.3)
    assert training.is_alive()
    lease.resume()
    training.join(10)
    assert not training.is_alive()
    turn.release()


def test_it_is_told_to_stop_by_the_number_in_its_lock(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home := tmp_path / "trunk").mkdir()
    script = (
        "import signal, sys, time; from pathlib import Path; from fewstep.files import locked\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
        f"with locked(Path({str(home)!r})): print('locked', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        assert holder(home) == other.pid
        trunk.stop(tmp_path)
        assert other.wait(10) == 0
    assert holder(home) is None
    assert "no trunk has begun" in capsys.readouterr().out
    with pytest.raises(typer.BadParameter, match="no trunk grows"):
        trunk.stop(tmp_path)


def test_where_one_grows_no_other_is_started(tmp_path: Path) -> None:
    (tmp_path / "trunk").mkdir()
    with locked(tmp_path / "trunk", "the trunk"), pytest.raises(InUse, match="in use by another process"):
        trunk.start(tmp_path, None, cores=1)


def test_the_lease_lies_in_the_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEWSTEP_CACHE", str(tmp_path))
    (turn := Turn()).offer()
    turn.release()
    assert lease.lease_file() == tmp_path / "starter" / "turn.lock"
    assert lease.lease_file().is_file()


def test_the_art_that_travels_is_small_and_says_what_it_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def as_it_is(package: NpmPackage, folder: Path) -> Path:
        return folder / package.tarball.removesuffix(".tgz")

    monkeypatch.setattr(baggage, "unpacked", as_it_is)
    (source := tmp_path / "source").mkdir()
    for package in (*drawings.STYLES.values(), art.LABELS):
        (source / package.tarball).write_bytes(b"archive")
    for language in ("en", "de"):
        (labels := as_it_is(art.LABELS, source) / language).mkdir(parents=True)
        (labels / "data.json").write_text("[]")
    assert baggage.pack_art(source, tmp_path / "target") == 6 * len(b"archive") + 2
    names = {path.name for path in (tmp_path / "target").rglob("*")}
    assert "en" in names
    assert "de" not in names
    assert baggage.left_behind(tmp_path / "target") == ["fluent-emoji"]
    assert baggage.left_behind(tmp_path / "elsewhere") == []
