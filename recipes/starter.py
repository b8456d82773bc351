"""The starter, from open emoji art to a few-step model in the diffusers folder layout.

    python -m recipes.starter                     all stages, in order, each resumable
    python -m recipes.starter teacher --minutes 60    one stage, for at most an hour; the same again goes on
    python -m recipes.starter --size gpu          the larger lengths, for a GPU

Stages: art, drawings (what compositions are made of, with a sheet of each kind), autoencoder, decoder, words,
rare_words, latents, fast_decoder, teacher, student, export, judge (for the benchmark), eye and reference (for `fewstep
evaluate`). Checkpoints, logs and sheets of samples go to `build/starter/<stage>/`; `teacher` begins the model folder
`build/starter/export` and `export` completes it, and `eye` writes what evaluations look with to
`build/starter/evaluate`; with `--ship` both also go into the package.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import torch
import typer

from fewstep.core.objectives.base import Networks
from fewstep.core.objectives.diffusion import Diffusion
from fewstep.core.settings import Value
from fewstep.data.latents import LatentCache
from fewstep.train.config import FitConfig
from fewstep.train.defaults import changed, default_config
from fewstep.train.state import TrainState
from fewstep.train.task import OverCache, Undivided
from recipes.emoji import (
    art,
    autoencoder,
    cache,
    composition_sheets,
    drawings,
    eye,
    fast_decoder,
    judge,
    networks,
    packing,
    sheets,
    words,
)
from recipes.emoji.autoencoder import Pixels
from recipes.emoji.export import write_student, write_teacher
from recipes.emoji.run import run, run_as_command

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

PACKAGE = Path(__file__).parents[1] / "src" / "fewstep" / "models" / "starter"


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How large and for how long; everything else is the same in both sizes."""

    channels: tuple[int, int]
    autoencoder: FitConfig
    decoder: FitConfig
    words: FitConfig
    rare_words: FitConfig
    fast_decoder: FitConfig
    teacher: FitConfig
    student: FitConfig


def cpu() -> Size:
    """A few hours on two cores."""
    return Size(
        channels=(96, 224),
        autoencoder=FitConfig(pictures=54_000, batch_size=16, lr=0.012, cooldown=0.6, warmup=800, ema_halflife=600),
        decoder=FitConfig(pictures=56_000, batch_size=16, lr=0.004, cooldown=0.9, warmup=800, ema_halflife=600),
        words=FitConfig(
            pictures=220_000, batch_size=96, lr=0.004, adam_lr=2e-3, cooldown=0.7, warmup=4_000, ema_halflife=10_000
        ),
        rare_words=FitConfig(
            pictures=300_000, batch_size=512, lr=0.02, adam_lr=0.02, cooldown=0.7, warmup=2_000, ema_halflife=10_000
        ),
        fast_decoder=FitConfig(
            pictures=60_000, batch_size=32, optimizer="adamw", lr=1.5e-3, cooldown=0.8, warmup=1_000, ema_halflife=800
        ),
        teacher=FitConfig(pictures=430_000, batch_size=96, lr=0.004, cooldown=0.34, warmup=4_000, ema_halflife=3_000),
        student=FitConfig(
            pictures=56_000,
            batch_size=32,
            optimizer="adamw",
            lr=3e-4,
            cooldown=0.8,
            warmup=500,
            ema_halflife=2_000,
            precision="bfloat16",
        ),
    )


def gpu() -> Size:
    """Minutes on one large GPU: the same networks, more pictures."""
    small = cpu()
    return dataclasses.replace(
        small,
        autoencoder=dataclasses.replace(small.autoencoder, pictures=600_000, batch_size=32),
        decoder=dataclasses.replace(small.decoder, pictures=600_000, batch_size=32),
        words=dataclasses.replace(small.words, pictures=2_000_000),
        fast_decoder=dataclasses.replace(small.fast_decoder, pictures=600_000),
        teacher=dataclasses.replace(small.teacher, pictures=6_000_000, batch_size=256),
        student=dataclasses.replace(small.student, pictures=600_000, batch_size=128),
    )


SIZES: dict[str, Callable[[], Size]] = {"cpu": cpu, "gpu": gpu}


class Starter:
    """The stages, as methods, over one working folder."""

    def __init__(self, size: Size, folder: Path, device: str = "cpu", minutes: float | None = None) -> None:
        self.size, self.folder, self.device, self.minutes = size, folder, device, minutes

    def art(self) -> None:
        art.build(self.folder)

    def drawings(self) -> None:
        drawings.build(self.folder)
        composition_sheets.write(self.folder, self.folder / "compositions")

    def autoencoder(self) -> None:
        torch.manual_seed(0)
        vae = autoencoder.build().to(self.device)
        with self._drawn(vae, self.size.autoencoder, "autoencoder").averaged():
            autoencoder.standardize(vae, self._pixels(held_out=False))
            vae.save_pretrained(self.folder / "vae")

    def decoder(self) -> None:
        vae = autoencoder.load(self.folder).to(self.device)
        with self._drawn(vae, self.size.decoder, "decoder", freeze_encoder=True).averaged():
            vae.save_pretrained(self.folder / "vae")

    def _drawn(self, vae: AutoencoderKL, config: FitConfig, stage: str, *, freeze_encoder: bool = False) -> TrainState:
        """What learning to reconstruct ends in; the sheets are of pictures that it never saw."""
        seen, unseen = self._pixels(held_out=False), self._pixels(held_out=True)
        objective = autoencoder.Reconstruction(vae, seen, freeze_encoder=freeze_encoder)
        folder = self.folder / stage

        def sheet(state: TrainState) -> None:
            with state.averaged():
                sheets.reconstructions(vae, unseen[slice(0, 32)], folder / "sheet.png")

        return run(vae, Undivided(objective), len(seen), self._lasting(config), folder, sheet)

    def words(self) -> None:
        torch.manual_seed(0)
        texts = words.corpus(self.folder)
        tokenizer = words.train_tokenizer(texts, words.common_words(self.folder), self.folder / "tokenizer")
        teacher = words.MiniLM()
        targets = words.embed(texts, self.folder / "words", teacher)
        encoder = words.build(tokenizer)
        words.start_from(encoder, tokenizer, teacher)
        objective = words.SentenceSense(encoder, tokenizer, texts, targets)
        state = run(encoder, Undivided(objective), len(texts), self._lasting(self.size.words), self.folder / "words")
        with state.averaged():
            encoder.save_pretrained(self.folder / "text_encoder")

    def rare_words(self) -> None:
        encoder, tokenizer = words.load(self.folder)
        folder = self.folder / "rare_words"
        free = words.free_pieces(tokenizer, words.captions_and_phrases(self.folder))
        rare = words.rare_words(tokenizer, free, words.common_words(self.folder))
        objective = words.SentenceSense(encoder, tokenizer, rare, words.embed(rare, folder, words.MiniLM()))
        words.free_rows_alone(encoder, free)
        state = run(encoder, Undivided(objective), len(rare), self._lasting(self.size.rare_words), folder)
        with state.averaged():
            encoder.save_pretrained(self.folder / "text_encoder")

    def latents(self) -> None:
        target = self.folder / "latents.safetensors"
        if not target.is_file():
            cache.build(self.folder, self.device).save(target)

    def fast_decoder(self) -> None:
        torch.manual_seed(0)
        decoder = fast_decoder.build().to(self.device)
        pixels = self._pixels(held_out=False)
        objective = fast_decoder.Drawing(decoder, self._cache(), pixels)
        folder = self.folder / "fast_decoder"
        with run(decoder, Undivided(objective), len(pixels), self._lasting(self.size.fast_decoder), folder).averaged():
            decoder.save(folder)

    def teacher(self) -> None:
        torch.manual_seed(0)
        unet = networks.unet(self.size.channels).to(self.device)
        bundle, folder = sheets.teacher(self.folder, unet), self.folder / "teacher"
        asked = Networks(bundle.denoise, bundle.profile.schedule)
        task = OverCache(Diffusion(), asked, self._cache(), self.device)

        def sheet(state: TrainState) -> None:
            with state.averaged():
                sheets.samples(bundle, folder / f"sheet-{state.seen:08d}.png", steps=20, guidance_scale=3.0)

        state = run(unet, task, len(task.cache), self._lasting(self.size.teacher), folder, sheet)
        with state.averaged():
            write_teacher(self.folder, self._model, unet)

    def student(self) -> None:
        """What `fewstep distill` makes of the teacher."""
        teacher = self._model / "teacher"
        data = cache.as_training_cache(self.folder, self.folder / "latents.cache", str(teacher))
        settings: dict[str, Value] = {
            "name": "starter",
            "device": self.device,
            "watch.prompts": tuple(sheets.PROMPTS[:8]),
        }
        config = changed(default_config("distill", str(teacher), str(data), lora=False), settings)
        run_as_command(dataclasses.replace(config, fit=self._lasting(self.size.student)), self.folder / "student")

    def export(self) -> None:
        distilled = self.folder / "student" / "model"
        if not distilled.is_dir():
            raise typer.BadParameter("the student is not at its end yet: go on with the stage `student`")
        write_student(self.folder, self._model, distilled)

    def judge(self) -> None:
        judge.train(self.folder, self.minutes)

    def eye(self) -> None:
        eye.train(self.folder, self.minutes)

    def reference(self) -> None:
        eye.write_pictures(self.folder, self.folder / "reference")

    def _lasting(self, config: FitConfig) -> FitConfig:
        return dataclasses.replace(config, minutes=self.minutes)

    def _pixels(self, *, held_out: bool) -> Pixels:
        return Pixels(self.folder, held_out=held_out, device=self.device)

    def _cache(self) -> LatentCache:
        return LatentCache.load(self.folder / "latents.safetensors")

    @property
    def _model(self) -> Path:
        return self.folder / "export"


STAGES = (
    "art",
    "drawings",
    "autoencoder",
    "decoder",
    "words",
    "rare_words",
    "latents",
    "fast_decoder",
    "teacher",
    "student",
    "export",
    "judge",
    "eye",
    "reference",
)


def main(
    stages: Annotated[list[str] | None, typer.Argument(help=f"Any of {', '.join(STAGES)}; default: all.")] = None,
    size: Annotated[str, typer.Option(help="cpu (a few hours on two cores) or gpu (minutes).")] = "cpu",
    folder: Annotated[Path, typer.Option(help="Where checkpoints, logs and sheets go.")] = Path("build/starter"),
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
    minutes: Annotated[float | None, typer.Option(help="Stop each training stage after this long.")] = None,
    ship: Annotated[bool, typer.Option(help="Copy what `export` and `eye` made into the package.")] = False,
) -> None:
    """Make the starter: run the named stages, or all of them; each goes on where it stopped."""
    for name in stages or STAGES:
        if name not in STAGES:
            raise typer.BadParameter(f"unknown stage {name!r}; the stages are {', '.join(STAGES)}")
    if size not in SIZES:
        raise typer.BadParameter(f"unknown size {size!r}; the sizes are {', '.join(SIZES)}")
    starter = Starter(SIZES[size](), folder, device, minutes)
    for name in stages or STAGES:
        typer.secho(f"== {name}", bold=True, err=True)
        getattr(starter, name)()
    if ship:
        _ship(folder, stages or STAGES)


def _ship(folder: Path, stages: Sequence[str]) -> None:
    """Copy what these stages made into the package: the model folder, and what evaluations look with."""
    if "export" in stages:
        packing.pack_model(folder / "export", PACKAGE)
    if "eye" in stages:
        eye.ship(folder)


if __name__ == "__main__":
    typer.run(main)
