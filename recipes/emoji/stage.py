"""A stage in the training of the starter's autoencoder, on compositions without end, and what it is measured by."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from torch import Tensor, nn

from fewstep.files import locked
from fewstep.train.config import FitConfig
from fewstep.train.state import CHECKPOINT, TrainState
from fewstep.train.task import Undivided
from recipes.emoji import sharpening
from recipes.emoji.compositions import Composition, evaluation_sets
from recipes.emoji.pool import SIZE, Pool
from recipes.emoji.run import run
from recipes.emoji.watch import WATCHED
from recipes.emoji.world import World

if TYPE_CHECKING:
    import torch
    from diffusers import AutoencoderKL

WIDTH = 4  # shards in the pool
Sets = Mapping[str, list[Composition]]
LossOf = Callable[[Tensor, "torch.Generator"], dict[str, Tensor]]


@dataclass(frozen=True, eq=False)
class Stage:
    """Of the autoencoder `vae`.

    home       where checkpoints and measures lie
    learners   the part of it that learns, and what learns beside it
    loss_of    the objective's loss, over a pool of compositions
    measure    what it is measured by, on what is kept apart
    """

    home: Path
    world: World
    vae: AutoencoderKL
    learners: nn.Module
    loss_of: Callable[[Pool], LossOf]
    measure: Callable[[AutoencoderKL, Sets], dict[str, float]]

    def go_on(self, config: FitConfig, before_step: Callable[[], bool], adopted: Path | None = None) -> None:
        """Train until `config` or `before_step` says that it is enough, and measure at every checkpoint; with `adopted`
        the averaged weights are written there in place of training."""
        sets = evaluation_sets(self.world)
        self.home.mkdir(parents=True, exist_ok=True)
        pool = Pool(lambda number: sharpening.pictures(self.world, 1, number, SIZE), self.home / "shards", WIDTH, SIZE)
        with locked(self.home, "the autoencoder"):
            if not (self.home / CHECKPOINT).is_file():
                self._say(sets, 0)

            def ready(state: TrainState) -> bool:
                pool.advance(state.seen)
                return before_step()

            def on_checkpoint(state: TrainState) -> None:
                with state.averaged():
                    self._say(sets, state.seen)

            config = dataclasses.replace(config, minutes=0.0) if adopted else config
            task = Undivided(self.loss_of(pool))
            state = run(self.learners, task, SIZE, config, self.home, on_checkpoint=on_checkpoint, before_step=ready)
            if adopted:
                with state.averaged():
                    self.vae.save_pretrained(adopted)

    def _say(self, sets: Sets, seen: int) -> None:
        row = {"seen": seen, **{name: round(value, 3) for name, value in self.measure(self.vae, sets).items()}}
        with (self.home / WATCHED).open("a") as log:
            log.write(json.dumps(row) + "\n")
        typer.echo("  ".join(f"{name} {value:,g}" for name, value in row.items()))
