"""The starter's trunk: its teacher in training on compositions without end, at a constant rate, over many days.

    python -m recipes.trunk                      go on, until it is stopped
    python -m recipes.trunk start                the same in the background (`make trunk`)
    python -m recipes.trunk autoencoder          its autoencoder goes on, on the same compositions; `--adopt` ends that
    python -m recipes.trunk decoder              then the decoder alone, beside a critic; `--adopt` ends that, too
    python -m recipes.trunk branch               a copy whose rate falls to zero: weights to use
    python -m recipes.trunk gpu --output DIR     minutes on a GPU, back as weights (`make gpu-trunk`)
    python -m recipes.trunk status               how far it is
    python -m recipes.trunk curve                its log as a page in dev/log

All of it lies in fewstep's cache folder, in `starter/`: `trunk/` holds the checkpoint, whose weights bear the network's
own names, `log.jsonl` (the loss in training) and `watched.jsonl` (on pictures that are kept apart, and every half
million pictures what is found in generated ones). One process writes;
every other one is refused. Ctrl-C and SIGTERM leave a checkpoint, and a kill costs five minutes.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path
from types import FrameType
from typing import Annotated

import torch
import typer
from safetensors.torch import load_file
from torch import Tensor, nn

import fewstep
from fewstep.errors import FewstepError
from fewstep.files import cache_folder, holder, locked, write_tensors
from fewstep.models.autoencoder import Autoencoder
from fewstep.models.families.unet import NETWORKS
from fewstep.models.lean.part import twin_of
from fewstep.models.model import Model
from fewstep.models.parts import read_network
from fewstep.train.config import FitConfig
from fewstep.train.curves import write_report
from fewstep.train.log import read_log
from fewstep.train.state import CHECKPOINT, TrainState
from recipes import lease
from recipes.emoji import crisping, drawings, sharpening
from recipes.emoji.baggage import left_behind, pack_art
from recipes.emoji.composed import Composed, Encoder, evaluation_shards
from recipes.emoji.composers import Composers
from recipes.emoji.pool import SIZE, Pool, Shard
from recipes.emoji.run import run as fit
from recipes.emoji.stage import Stage
from recipes.emoji.watch import WATCHED, Watch, read_rows
from recipes.emoji.world import World
from recipes.lease import Turn

FOREVER = 10**9
CONFIG = FitConfig(
    pictures=FOREVER,
    batch_size=256,
    lr=0.0025,
    adam_lr=8e-4,
    warmup=8_192,
    ema_halflife=20_000,
    precision="bfloat16",
)
WIDTH = 12  # shards in the pool: 49,152 pictures
SETTLES = 8.0  # seconds after which a start has gone well
MOST_MB = 15  # in a file that comes back from a GPU

LOG = Path(__file__).parents[1] / "dev" / "log"

app = typer.Typer(add_completion=False, invoke_without_command=True, pretty_exceptions_enable=False)
Folder = Annotated[Path | None, typer.Option(help="Default: starter/ in fewstep's cache folder.")]


class Trunk:
    """The training in `home / "trunk"`, on art that lies in `home`."""

    def __init__(self, home: Path | None, config: FitConfig = CONFIG) -> None:
        self.home = home or cache_folder() / "starter"
        self.folder = self.home / "trunk"
        self.config = config
        self.turn = Turn()
        self.asked_to_stop = False
        self.draw: Callable[[int], Shard] = lambda number: self.encoder.shard(self.world, 0, number, SIZE)

    @cached_property
    def model(self) -> Model:
        """The package's teacher, over the autoencoder in `home / "vae"` where one has been made."""
        model = fewstep.load("starter-teacher", device="cuda" if torch.cuda.is_available() else "cpu", dtype="float32")
        if (own := self.home / "vae").is_dir():
            vae = read_network(NETWORKS["vae"], own, torch.float32).eval().requires_grad_(False)
        else:
            vae = twin_of(model.autoencoder.module)
        unet = twin_of(model.network.module).requires_grad_(True)
        autoencoder = Autoencoder(vae.to(model.device))
        return dataclasses.replace(model, network=model.network.holding(unet), autoencoder=autoencoder)

    @cached_property
    def world(self) -> World:
        drawings.build(self.home)
        return World.open(self.home)

    @cached_property
    def encoder(self) -> Encoder:
        return Encoder(self.model, self.turn.offer)

    def start_from(self, weights: Path) -> None:
        """Begin with other weights than the package's: a file of the same U-Net, or a folder of its parts."""
        if (self.folder / CHECKPOINT).is_file():
            raise typer.BadParameter(f"the trunk in {self.folder} has begun already: it goes on from its checkpoint")
        files = sorted(weights.glob("*.safetensors")) if weights.is_dir() else [weights]
        read = {name: weight.float() for file in files for name, weight in load_file(file).items()}
        self.model.network.module.load_state_dict(read)

    def grow(self, folder: Path, config: FitConfig) -> TrainState:
        """Train in `folder` until `config` or a signal says that it is enough."""
        pool = Pool(self.draw, self.folder / "shards", WIDTH, SIZE)
        objective = Composed(self.model, pool)
        watch = Watch(folder / WATCHED, objective, evaluation_shards(self.world, self.encoder))

        def before_step(state: TrainState) -> bool:
            self.turn.offer()
            pool.advance(state.seen)
            watch(state)
            return self.asked_to_stop

        try:
            return fit(self.model.network.module, objective, SIZE, config, folder, before_step=before_step)
        finally:
            self.turn.release()

    def train(self, stage: Stage, config: FitConfig, *, adopt: bool) -> None:
        """Let a stage of the autoencoder go on, step by step in turn with others; `adopt` ends it for the trunk."""
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, self.stop)

        def before_step() -> bool:
            self.turn.offer()
            return self.asked_to_stop

        try:
            stage.go_on(config, before_step, self.home / "vae" if adopt else None)
        finally:
            self.turn.release()

    def stop(self, number: int, frame: FrameType | None) -> None:
        self.asked_to_stop = True


@app.callback()
def grow(
    context: typer.Context,
    folder: Folder = None,
    weights: Annotated[
        Path | None, typer.Option("--from", help="Weights of the U-Net to begin with. [default: the package's]")
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Stop after this long. [default: when it is told to]")] = None,
) -> None:
    """Go on with the trunk until it is told to stop."""
    if context.invoked_subcommand is not None:
        return
    trunk = Trunk(folder)
    trunk.folder.mkdir(parents=True, exist_ok=True)
    with locked(trunk.folder, "the trunk"):
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, trunk.stop)
        if weights is not None:
            trunk.start_from(weights)
        state = trunk.grow(trunk.folder, dataclasses.replace(trunk.config, minutes=minutes))
    typer.echo(f"{state.seen:,} pictures seen; the same command goes on")


@app.command()
def start(
    folder: Folder = None,
    weights: Annotated[Path | None, typer.Option("--from", help="Weights of the U-Net to begin with.")] = None,
    cores: Annotated[int, typer.Option(help="How many it may have; two only when nothing else runs.", min=1)] = 1,
) -> None:
    """Go on in the background, on the last cores and behind everything else; `status` says how far it is."""
    home = folder or cache_folder() / "starter"
    log = home / "trunk" / "out.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with locked(log.parent, "the trunk"):  # said at once where another one grows already
        pass
    options = ["--folder", home.resolve(), *(["--from", weights.resolve()] if weights else [])]
    # A thread a core that sleeps when it waits: threads of two programs that spin stop each other.
    own = {"OMP_NUM_THREADS": str(cores), "OMP_WAIT_POLICY": "PASSIVE", "PYTHONUNBUFFERED": "1"}
    with log.open("a") as out:
        trunk = subprocess.Popen(
            [sys.executable, "-m", "recipes.trunk", *map(str, options)],
            cwd=Path(__file__).parents[1],
            env={**os.environ, **own},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            preexec_fn=lambda: _behind(cores),
        )
    with suppress(subprocess.TimeoutExpired):
        trunk.wait(SETTLES)
        lines = log.read_text(errors="replace").strip().splitlines()
        raise typer.BadParameter(f"the trunk ended at once ({log}): {lines[-1] if lines else trunk.returncode}")
    typer.echo(f"the trunk grows in process {trunk.pid}; what it says is in {log}")


def _behind(cores: int) -> None:
    """For this process: what is left of the machine's last cores."""
    os.nice(10)
    if hasattr(os, "sched_setaffinity"):  # not on macOS
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-cores:])


@app.command()
def stop(folder: Folder = None) -> None:
    """End the trunk that grows in the background, once it has written a checkpoint."""
    home = (folder or cache_folder() / "starter") / "trunk"
    if (number := holder(home)) is None:
        raise typer.BadParameter(f"no trunk grows in {home}")
    os.kill(number, signal.SIGTERM)
    while holder(home) is not None:
        time.sleep(0.5)
    status(folder)


@app.command()
def pause() -> None:
    """Let a trunk that grows in the background stand still until `resume`."""
    lease.pause()


@app.command()
def resume() -> None:
    """Let it go on."""
    lease.resume()


@app.command()
def autoencoder(
    folder: Folder = None,
    minutes: Annotated[float | None, typer.Option(help="Stop after this long.")] = None,
    pictures: Annotated[int, typer.Option(help="How many it sees in all.")] = sharpening.CONFIG.pictures,
    adopt: Annotated[bool, typer.Option(help="Let the trunk have what is there now, in place of training.")] = False,
) -> None:
    """Go on with the autoencoder, and print how near it comes, in decibels, on what is kept apart."""
    trunk = Trunk(folder)
    vae = trunk.model.autoencoder.module.requires_grad_(True)
    stage = Stage(trunk.home / "sharper", trunk.world, vae, vae, partial(sharpening.Sharpening, vae), sharpening.ladder)
    config = dataclasses.replace(sharpening.CONFIG, pictures=pictures, minutes=minutes)
    trunk.train(stage, config, adopt=adopt)


@app.command()
def decoder(
    folder: Folder = None,
    minutes: Annotated[float | None, typer.Option(help="Stop after this long.")] = None,
    pictures: Annotated[int, typer.Option(help="How many it sees in all.")] = crisping.CONFIG.pictures,
    adopt: Annotated[bool, typer.Option(help="Let the trunk have what is there now, in place of training.")] = False,
) -> None:
    """Go on with the decoder alone beside a critic, and print decibels and how crisp the edges are."""
    trunk = Trunk(folder)
    vae, critic = trunk.model.autoencoder.module, crisping.Critic()
    learners = crisping.learners(vae, critic)
    stage = Stage(
        trunk.home / "crisper", trunk.world, vae, learners, partial(crisping.Crisping, vae, critic), crisping.measured
    )
    config = dataclasses.replace(crisping.CONFIG, pictures=pictures, minutes=minutes)
    trunk.train(stage, config, adopt=adopt)


@app.command()
def branch(
    folder: Folder = None,
    share: Annotated[float, typer.Option(help="How many pictures the branch sees, as a share of the trunk's.")] = 0.25,
) -> None:
    """Let the rate fall to zero on a copy, and write its averaged weights; the trunk stays as it is."""
    trunk = Trunk(folder)
    with locked(trunk.folder, "the trunk"):
        newest = read_log(trunk.folder)[-1]["seen"]
        home = trunk.home / "branches" / f"{int(newest):09d}"
        if not (home / CHECKPOINT).is_file():
            home.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(trunk.folder / CHECKPOINT, home / CHECKPOINT)
        config = falling(trunk.config, int(newest), share)
        with trunk.grow(home, config).averaged():
            trunk.model.network.module.half().save_pretrained(home / "unet")  # type: ignore[operator]
    typer.echo(home / "unet")


def falling(config: FitConfig, seen: int, share: float) -> FitConfig:
    """From a constant rate at `seen` pictures to none, over `share` as many more."""
    more = int(share * seen)
    return dataclasses.replace(config, pictures=seen + more, cooldown=more / (seen + more))


@app.command("gpu-art")
def gpu_art(target: Annotated[Path, typer.Argument(help="The folder to bring along.")] = Path(".trunk")) -> None:
    """Gather the art that a GPU machine without a registry needs."""
    size = pack_art(cache_folder() / "starter" / "packages", target)
    typer.echo(f"{size / 2**20:.1f} MiB in {target}")


@app.command()
def gpu(
    output: Annotated[Path, typer.Option(help="Where the weights and the log go, in files of less than 16 MiB.")],
    folder: Folder = None,
    weights: Annotated[Path | None, typer.Option("--from", help="Weights of the U-Net to begin with.")] = None,
    minutes: Annotated[float, typer.Option(help="Of training; a quarter of it with a falling rate.")] = 4.0,
    batch_size: Annotated[int, typer.Option()] = 2048,
) -> None:
    """Train for minutes on a GPU with all cores composing, and write the averaged weights of trunk and branch."""
    trunk = Trunk(folder)
    config = dataclasses.replace(trunk.config, batch_size=batch_size, warmup=32 * batch_size, minutes=0.75 * minutes)
    output.mkdir(parents=True, exist_ok=True)
    if weights is not None:
        trunk.start_from(weights)
    drawings.build(trunk.home, processes=os.cpu_count() or 1, without=left_behind(trunk.home))
    with Composers(trunk.home, 0, SIZE) as composers:

        def draw(number: int) -> Shard:
            pixels, captions, _ = composers.shard(number)
            return trunk.encoder.encoded(list(pixels), captions)

        trunk.draw = draw
        trunk.folder.mkdir(parents=True, exist_ok=True)
        state = trunk.grow(trunk.folder, config)
        with state.averaged():
            write_shards(trunk.model.network.module, output, "trunk", state.seen)
        falling_for = dataclasses.replace(falling(config, state.seen, 1 / 3), minutes=0.3 * minutes)
        branched = trunk.grow(trunk.folder, falling_for)
        with branched.averaged():
            write_shards(trunk.model.network.module, output, "branch", branched.seen)
    shutil.copyfile(trunk.folder / WATCHED, output / WATCHED)


def write_shards(unet: nn.Module, output: Path, name: str, seen: int) -> None:
    """The weights in float16, `name-1.safetensors` and so on, each of at most `MOST_MB`."""
    parts: list[dict[str, Tensor]] = [{}]
    for key, weight in unet.state_dict().items():
        half = weight.detach().half().cpu()
        if sum(each.nbytes for each in parts[-1].values()) + half.nbytes > MOST_MB * 2**20:
            parts.append({})
        parts[-1][key] = half
    for number, part in enumerate(parts, 1):
        write_tensors(output / f"{name}-{number}.safetensors", part, {"seen": str(seen)})


@app.command()
def status(folder: Folder = None) -> None:
    """How far the trunk is, and what was measured last."""
    trunk = Trunk(folder).folder
    for row in (*read_log(trunk)[-1:], *read_rows(trunk / WATCHED)[-1:]):
        rest = "  ".join(f"{name} {value:.4g}" for name, value in row.items() if name != "seen")
        typer.echo(f"seen {int(row['seen']):,}  {rest}")
    if not (trunk / CHECKPOINT).is_file():
        typer.echo(f"no trunk has begun in {trunk}: make trunk")


@app.command()
def curve(folder: Folder = None, output: Annotated[Path, typer.Option()] = LOG) -> None:
    """Write what the trunk was measured by as a page with curves, and as lines of JSON."""
    trunk = Trunk(folder).folder
    output.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(trunk / WATCHED, output / "trunk.jsonl")
    log = read_log(trunk)
    write_report(output / "trunk.html", log[:: max(1, len(log) // 500)], read_rows(trunk / WATCHED), None)
    typer.echo(output / "trunk.html")


if __name__ == "__main__":
    try:
        app()
    except FewstepError as error:
        sys.exit(f"error: {error}")
