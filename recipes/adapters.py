"""The adapters that come with the starter: an LCM-LoRA of its teacher, and a style, blue ink, for either.

    python -m recipes.starter                     (once: the art, the latents)
    python -m recipes.adapters                    (every stage, each resumable)
    python -m recipes.adapters style sheets --ship

The style's pictures are the starter's Noto drawings in one colour; a tenth of the concepts is held out, and what is
drawn of those in the new style is what the sheets and `benchmarks/adapters.py` look at. No word calls the style: the
starter hears something in every word ("a bicycle, blue ink style" is a blue ball), and the adapter's weight is enough.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image, ImageOps

import fewstep
from fewstep.models.bundle import ModelBundle
from fewstep.models.locating import ADAPTERS
from fewstep.pipelines.contact_sheet import contact_sheet
from fewstep.pipelines.text2image import text2image
from fewstep.train.config import RunConfig
from fewstep.train.defaults import changed, default_config
from fewstep.train.run import train
from recipes.emoji import art
from recipes.emoji.cache import STARTER_TEACHER, as_training_cache

HELD_OUT_PERCENT = 10  # of the concepts
INK, HALF_INK = "#0b2a6b", "#5b8ad6"
SHOWN = ("cat face", "rocket", "red apple", "house", "tulip", "owl", "bicycle", "frog")
# What is compared: the model, its adapters, the steps.
ROWS: tuple[tuple[str, tuple[str, ...], int], ...] = (
    (STARTER_TEACHER, (), 25),
    (STARTER_TEACHER, ("lcm-lora",), 4),
    (STARTER_TEACHER, ("blue-ink",), 25),
    (STARTER_TEACHER, ("blue-ink", "lcm-lora"), 4),
    ("starter", (), 4),
    ("starter", ("blue-ink",), 4),
    ("starter", ("blue-ink-lcf",), 4),
)


class Adapters:
    """The stages, as methods, over one working folder; `starter` is the folder of the starter's recipe."""

    def __init__(self, folder: Path, starter: Path) -> None:
        self.folder, self.starter = folder, starter

    def ink(self) -> None:
        """The style's pictures: `ink/seen` and `ink/held_out`, each named by what it shows."""
        home = self.folder / "ink"
        if home.is_dir():
            return
        partial = home.with_suffix(".partial")
        for part in ("seen", "held_out"):
            (partial / part).mkdir(parents=True, exist_ok=True)
        for picture, pixels in zip(*art.load(self.starter), strict=True):
            if picture.style == "noto":
                part = "held_out" if art.held_out(picture.label, "ink", HELD_OUT_PERCENT) else "seen"
                inked(Image.fromarray(pixels)).save(partial / part / f"{picture.label.replace('/', '-')}.png")
        partial.rename(home)

    def lcm_lora(self) -> None:
        """The teacher in four steps: by whole paths of its own."""
        cache = as_training_cache(self.starter, self.folder / "starter.cache")
        base = default_config("distill", STARTER_TEACHER, str(cache), lora=True, target="path")
        values = {"lora.rank": 32, "fit.pictures": 1_600, "fit.batch_size": 6, "fit.lr": 5e-4}
        self._train(base, "lcm-lora", values)

    def style(self) -> None:
        """The teacher in another style."""
        self._train(default_config("style", STARTER_TEACHER, self._seen, lora=True), "blue-ink", STYLE)

    def lcf(self) -> None:
        """The distilled starter in another style, with no teacher."""
        self._train(default_config("finetune", "starter", self._seen, lora=True), "blue-ink-lcf", STYLE)

    def sheets(self) -> None:
        """A row for each combination, of concepts that were seen in the style, and of concepts that were not."""
        for name, labels in (("seen", SHOWN), ("held-out", self.held_out()[: len(SHOWN)])):
            images = [image for row in ROWS for image in self.paint(labels, *row, seed=0)]
            contact_sheet(images, columns=len(labels)).save(self.folder / f"{name}.webp", quality=85)

    def held_out(self) -> list[str]:
        """The concepts that were never shown in the style, shortest names first."""
        return sorted((path.stem for path in (self.folder / "ink" / "held_out").glob("*.png")), key=len)

    def paint(
        self, labels: Sequence[str], model: str, adapters: Sequence[str], steps: int, seed: int
    ) -> list[Image.Image]:
        """The labels as one of `ROWS` paints them."""
        return text2image(self._load(model, adapters), list(labels), steps=steps, seed=seed, batch_size=16)

    def _load(self, model: str, adapters: Sequence[str]) -> ModelBundle:
        return fewstep.load(model, device="cpu", loras=[self.folder / name for name in adapters])

    @property
    def _seen(self) -> str:
        return str(self.folder / "ink" / "seen")

    def _train(self, base: RunConfig, name: str, values: Mapping[str, object]) -> None:
        train(changed(base, {**values, "watch.prompts": SHOWN}), self.folder / name)


STYLE = {
    "fit.pictures": 6_000,
    "fit.optimizer": "muon",
    "fit.lr": 8e-3,
    "fit.cooldown": 0.6,
}


def inked(picture: Image.Image) -> Image.Image:
    """A drawing in shades of one ink on white."""
    return ImageOps.colorize(ImageOps.grayscale(picture), black=INK, mid=HALF_INK, white="white")


STAGES = ("ink", "lcm_lora", "style", "lcf", "sheets")


def main(
    stages: Annotated[list[str] | None, typer.Argument(help=f"Any of {', '.join(STAGES)}; default: all.")] = None,
    folder: Annotated[Path, typer.Option(help="Where runs and sheets go.")] = Path("build/adapters"),
    starter: Annotated[Path, typer.Option(help="The folder of recipes.starter.")] = Path("build/starter"),
    ship: Annotated[bool, typer.Option(help="Copy the adapters into the package.")] = False,
) -> None:
    """Make the starter's adapters: run the named stages, or all of them; each goes on where it stopped."""
    for name in stages or STAGES:
        if name not in STAGES:
            raise typer.BadParameter(f"unknown stage {name!r}; the stages are {', '.join(STAGES)}")
    adapters = Adapters(folder, starter)
    for name in stages or STAGES:
        typer.secho(f"== {name}", bold=True, err=True)
        getattr(adapters, name)()
    if ship:
        for name, path in ADAPTERS.items():
            shutil.copyfile(folder / name / "pytorch_lora_weights.safetensors", path)


if __name__ == "__main__":
    typer.run(main)
