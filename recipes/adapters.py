"""The adapters of the starter, which come along: an LCM-LoRA of its teacher, blue ink, and OpenMoji's style.

    python -m recipes.starter                     (once: the art, the latents)
    python -m recipes.adapters                    (every stage, each resumable)
    python -m recipes.adapters style sheets --ship

Blue ink's pictures are the starter's Noto drawings in one colour; a tenth of the concepts is held out, and what is
drawn of those in the new style is what the sheets and `benchmarks/adapters.py` look at. No word calls the style: the
starter hears something in every word ("a bicycle, blue ink style" is a blue ball), and the adapter's weight is enough.
OpenMoji's drawings are CC BY-SA 4.0 (openmoji.org); a tenth of their concepts is held out, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image, ImageOps

import fewstep
from fewstep.core.settings import Value
from fewstep.imaging.contact_sheet import contact_sheet
from fewstep.models.adapters.lora.convert import write_lora
from fewstep.models.adapters.lora.file import LoraFile
from fewstep.models.adapters.lora.resize import MB, resized
from fewstep.models.locating import ADAPTERS
from fewstep.pipelines.text2image import text2image
from fewstep.train.config import LCM_TARGETS, RunConfig
from fewstep.train.defaults import changed, default_config
from recipes.emoji import art, packing
from recipes.emoji.cache import STARTER_TEACHER, as_training_cache
from recipes.emoji.packages import NpmPackage
from recipes.emoji.run import run_as_command

OPENMOJI = NpmPackage(
    "@iconify-json/openmoji",
    "1.2.29",
    "03181e2c156cab35cf4a62f1f7886bd971d59212e75ac3f189d5a4cae3930fc5",
    "CC BY-SA 4.0, OpenMoji",
)
HELD_OUT_PERCENT = 10  # of the concepts
INK, HALF_INK = "#0b2a6b", "#5b8ad6"
EACH = 6  # of a sheet's concepts that were seen, and that were not
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
OPENMOJI_ROWS: tuple[tuple[str, tuple[str, ...], int], ...] = (
    (STARTER_TEACHER, (), 25),
    (STARTER_TEACHER, ("openmoji",), 25),
    (STARTER_TEACHER, ("openmoji", "lcm-lora"), 4),
    ("starter", (), 4),
    ("starter", ("openmoji",), 4),
    ("starter", ("openmoji-lcf",), 4),
    ("starter", ("openmoji-lcf:1.4",), 4),
)


class Adapters:
    """The stages, as methods, over one working folder; `starter` is the folder of the starter's recipe."""

    def __init__(self, folder: Path, starter: Path) -> None:
        self.folder, self.starter = folder, starter

    def ink(self) -> None:
        """The style's pictures: `ink/seen` and `ink/held_out`, each named by what it shows."""
        drawings = zip(*art.load(self.starter), strict=True)
        inks = ((picture, np.asarray(inked(Image.fromarray(x)))) for picture, x in drawings if picture.style == "noto")
        self._divide("ink", "ink", inks)

    def lcm_lora(self) -> None:
        """The teacher in one to eight steps."""
        cache = as_training_cache(self.starter, self.folder / "starter.cache")
        base = default_config("distill", STARTER_TEACHER, str(cache), lora=True)
        self._train(base, "lcm-lora", FEW_STEPS)

    def style(self) -> None:
        """The teacher in another style."""
        self._train(default_config("style", STARTER_TEACHER, self._seen, lora=True), "blue-ink", STYLE)

    def lcf(self) -> None:
        """The distilled starter in another style, with no teacher."""
        self._train(default_config("finetune", "starter", self._seen, lora=True), "blue-ink-lcf", STYLE)

    def openmoji_art(self) -> None:
        """OpenMoji's drawings of what the starter knows, `seen` and `held_out`, each named by what it shows."""
        known = {picture.label for picture in art.load(self.starter)[0]}
        drawings = art.drawn("openmoji", OPENMOJI, self.starter / "packages")
        self._divide("openmoji.art", "openmoji", (each for each in drawings if each[0].label in known))

    def openmoji(self) -> None:
        """OpenMoji's style on the teacher. It is far from the starter's own three, and takes ten times as long."""
        source = str(self.folder / "openmoji.art" / "seen")
        self._train(default_config("style", STARTER_TEACHER, source, lora=True), "openmoji", OPENMOJI_STYLE)

    def openmoji_lcf(self) -> None:
        """The distilled starter in OpenMoji's style, with no teacher; not good enough to come along."""
        source = str(self.folder / "openmoji.art" / "seen")
        values = OPENMOJI_STYLE | {"fit.pictures": 24_000, "fit.lr": 6e-3, "objective.metric": "pseudo_huber"}
        self._train(default_config("finetune", "starter", source, lora=True), "openmoji-lcf", values)

    def sheets(self) -> None:
        """A row for each combination: on the left what was seen in the style, on the right as much that was not."""
        for style, rows in (("ink", ROWS), ("openmoji.art", OPENMOJI_ROWS)):
            labels = [*SHOWN[:EACH], *self.held_out(style)[:EACH]]
            images = [image for row in rows for image in self.paint(labels, *row, seed=0)]
            contact_sheet(images, columns=len(labels)).save(self.folder / f"{style}.webp", quality=70, method=6)

    def held_out(self, style: str) -> list[str]:
        """The concepts that were never shown in the style, shortest names first."""
        return sorted((path.stem for path in (self.folder / style / "held_out").glob("*.png")), key=len)

    def paint(
        self, labels: Sequence[str], model: str, adapters: Sequence[str], steps: int, seed: int
    ) -> list[Image.Image]:
        """What a row paints; with the adapters as they were trained here, or else as they come along.

        adapters  by name, with a weight after a colon where it is not 1
        """
        own = [self._spec(*each.partition(":")) for each in adapters]
        bundle = fewstep.load(model, device="cpu", loras=own)
        return text2image(bundle, list(labels), steps=steps, seed=seed, batch_size=16)

    def _divide(self, name: str, style: str, drawings: Iterable[tuple[art.Picture, np.ndarray]]) -> None:
        """Write drawings into `seen` and `held_out` of a folder, once."""
        home = self.folder / name
        if home.is_dir():
            return
        partial = home.with_suffix(".partial")
        for part in ("seen", "held_out"):
            (partial / part).mkdir(parents=True, exist_ok=True)
        for picture, pixels in drawings:
            part = "held_out" if art.held_out(picture.label, style, HELD_OUT_PERCENT) else "seen"
            Image.fromarray(pixels).save(partial / part / f"{picture.label.replace('/', '-')}.png")
        partial.rename(home)

    @property
    def _seen(self) -> str:
        return str(self.folder / "ink" / "seen")

    def _train(self, base: RunConfig, name: str, values: Mapping[str, Value]) -> None:
        run_as_command(changed(base, {"watch.prompts": SHOWN, **values}), self.folder / name)
        self.pack(name)

    def pack(self, name: str) -> None:
        """What was trained as it comes along: one file, of the size that there is room for."""
        lora, _ = resized(LoraFile.read(self.folder / name), LARGEST_MB.get(name, 8) * MB)
        write_lora(lora.layers, "diffusers", self._file(name), lora.record)

    def _spec(self, name: str, colon: str, weight: str) -> str:
        path = self._file(name)
        return f"{path if path.is_file() else name}{colon}{weight}"

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"


LARGEST_MB = {"lcm-lora": 2.4, "openmoji": 5.0}
FEW_STEPS: dict[str, Value] = {
    "fit.pictures": 48_000,
    "fit.lr": 5e-4,
    "fit.cooldown": 0.8,
    "fit.precision": "bfloat16",
    "lora.rank": 32,
}
STYLE: dict[str, Value] = {
    "fit.pictures": 6_000,
    "fit.optimizer": "muon",
    "fit.lr": 8e-3,
    "fit.cooldown": 0.6,
}
OPENMOJI_STYLE: dict[str, Value] = {
    "data.flip": True,
    "fit.pictures": 70_000,
    "fit.batch_size": 32,
    "fit.optimizer": "muon",
    "fit.lr": 3e-3,
    "fit.warmup": 1_000,
    "fit.cooldown": 0.9,
    "fit.precision": "bfloat16",
    "lora.rank": 48,
    "lora.targets": LCM_TARGETS,
}


def inked(picture: Image.Image) -> Image.Image:
    """A drawing in shades of one ink on white."""
    return ImageOps.colorize(ImageOps.grayscale(picture), black=INK, mid=HALF_INK, white="white")


STAGES = ("ink", "lcm_lora", "style", "lcf", "openmoji_art", "openmoji", "openmoji_lcf", "sheets")


def main(
    stages: Annotated[list[str] | None, typer.Argument(help=f"Any of {', '.join(STAGES)}; default: all.")] = None,
    folder: Annotated[Path, typer.Option(help="Where runs and sheets go.")] = Path("build/adapters"),
    starter: Annotated[Path, typer.Option(help="The folder of recipes.starter.")] = Path("build/starter"),
    ship: Annotated[bool, typer.Option(help="Copy the adapters that were trained here into the package.")] = False,
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
            if (trained := folder / f"{name}.safetensors").is_file():
                packing.pack_file(trained, path, packing.ADAPTER)


if __name__ == "__main__":
    typer.run(main)
