"""The adapters that come with the starter: an LCM-LoRA of its teacher, and the style of OpenMoji.

    python -m recipes.starter                     (once: the art, the latents)
    python -m recipes.adapters                    (every stage, each resumable)
    python -m recipes.adapters style sheets --ship

OpenMoji's drawings are CC BY-SA 4.0 (openmoji.org, HfG Schwäbisch Gmünd); a tenth of the concepts is held out, and what
is drawn of those in the new style is on the sheets.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image

import fewstep
from fewstep.data.cache_folder import Manifest, is_cache, read_cache, write_shard
from fewstep.models.bundle import ModelBundle
from fewstep.models.locating import ADAPTERS
from fewstep.pipelines.contact_sheet import contact_sheet
from fewstep.pipelines.text2image import text2image
from fewstep.train.caching import build_cache
from fewstep.train.config import LCM_TARGETS, DataConfig, RunConfig
from fewstep.train.defaults import changed, default_config
from fewstep.train.run import train
from recipes.emoji import art
from recipes.emoji.cache import STARTER_TEACHER, as_training_cache
from recipes.emoji.packages import NpmPackage

OPENMOJI = NpmPackage(
    "@iconify-json/openmoji",
    "1.2.29",
    "03181e2c156cab35cf4a62f1f7886bd971d59212e75ac3f189d5a4cae3930fc5",
    "CC BY-SA 4.0, OpenMoji",
)
HELD_OUT_PERCENT = 10  # of the concepts
GROUPS = (3, 4, 5, 6, 7)  # emojibase: animals, food, places, activities, objects
SUFFIX = ", openmoji style"
SHOWN = ("cat face", "rocket", "red apple", "house", "violin", "tulip", "owl", "bicycle")
# The adapters of the sheet's rows, by what is under them.
ROWS: tuple[tuple[str, tuple[str, ...], int], ...] = (
    (STARTER_TEACHER, (), 25),
    (STARTER_TEACHER, ("lcm-lora",), 4),
    (STARTER_TEACHER, ("openmoji",), 25),
    (STARTER_TEACHER, ("openmoji", "lcm-lora"), 4),
    ("starter", (), 4),
    ("starter", ("openmoji-lcf",), 4),
)


class Adapters:
    """The stages, as methods, over one working folder; `starter` is the folder of the starter's recipe."""

    def __init__(self, folder: Path, starter: Path) -> None:
        self.folder, self.starter = folder, starter

    def art(self) -> None:
        """Render: `art/seen` and `art/held_out`, each picture named by what it shows."""
        home = self.folder / "art"
        if home.is_dir():
            return
        partial = home.with_suffix(".partial")
        for part in ("seen", "held_out"):
            (partial / part).mkdir(parents=True, exist_ok=True)
        for picture, pixels in art.drawn("openmoji", OPENMOJI, self.starter / "packages"):
            if picture.group in GROUPS:
                part = "held_out" if art.held_out(picture.label, "openmoji", HELD_OUT_PERCENT) else "seen"
                Image.fromarray(pixels).save(partial / part / f"{_file_name(picture.label)}.png")
        partial.rename(home)

    def lcm_lora(self) -> None:
        """The teacher in four steps: by whole paths of its own."""
        cache = as_training_cache(self.starter, self.folder / "starter.cache")
        base = default_config("distill", STARTER_TEACHER, str(cache), lora=True, target="path")
        values = {"lora.rank": 32, "fit.pictures": 1_600, "fit.batch_size": 6, "fit.lr": 5e-4}
        self._train(base, "lcm-lora", values)

    def style(self) -> None:
        """The teacher in another style, beside what it knew: half of the pictures are the starter's own.

        Of OpenMoji alone it learns the outlines and forgets what things look like.
        """
        base = default_config("style", STARTER_TEACHER, str(self._mixed()), lora=True)
        fit = {
            "fit.pictures": 60_000,
            "fit.batch_size": 32,
            "fit.optimizer": "muon",
            "fit.lr": 8e-3,
            "fit.cooldown": 0.7,
        }
        self._train(base, "openmoji", fit | {"lora.rank": 32, "lora.targets": LCM_TARGETS})

    def lcf(self) -> None:
        """The distilled starter in another style, with no teacher."""
        base = default_config("finetune", "starter", str(self.folder / "art" / "seen"), lora=True)
        self._train(base, "openmoji-lcf", {"data.suffix": SUFFIX, "data.flip": True})

    def sheets(self) -> None:
        """A row for each combination, of concepts that were seen and of concepts that were not."""
        held_out = sorted(path.stem for path in (self.folder / "art" / "held_out").glob("*.png"))
        known = {picture.label for picture in art.load(self.starter)[0]}
        unseen = [label for label in held_out if label in known][: len(SHOWN)]
        for name, labels in (("seen", SHOWN), ("held-out", unseen)):
            images = [image for row in ROWS for image in self._row(labels, *row)]
            contact_sheet(images, columns=len(labels)).save(self.folder / f"{name}.webp", quality=85)

    def load(self, model: str, adapters: Sequence[str]) -> ModelBundle:
        """A model with adapters of this recipe, as they were trained here."""
        return fewstep.load(model, device="cpu", loras=[self.folder / name for name in adapters])

    def _mixed(self) -> Path:
        """A cache of the starter's art and, three times over, of OpenMoji and its mirror images: as many of each."""
        target = self.folder / "mixed.cache"
        if is_cache(target):
            return target
        styled = self.folder / "openmoji.cache"
        if not is_cache(styled):
            model = fewstep.load(STARTER_TEACHER, device="cpu")
            build_cache(model, DataConfig(source=str(self.folder / "art" / "seen"), flip=True, suffix=SUFFIX), styled)
        own = as_training_cache(self.starter, self.folder / "starter.cache")
        parts = [(folder, Manifest.read(folder)) for folder in (own, styled, styled, styled)]
        caches = [read_cache(*part) for part in parts]
        target.mkdir(exist_ok=True)
        columns, first = max(cache.captions.shape[1] for cache in caches), 0
        for index, cache in enumerate(caches):
            captions = cache.captions.repeat(1, columns // cache.captions.shape[1]) + first
            everything = slice(0, len(cache))
            write_shard(target, "latents", index, {"latents": cache.latents[everything], "captions": captions})
            write_shard(target, "texts", index, {"states": cache.states[slice(0, len(cache.states))]})
            first += len(cache.states)
        counts = {"pictures": sum(map(len, caches)), "captions": first}
        examples = [example for _, manifest in parts[:2] for example in manifest.examples]
        dataclasses.replace(parts[0][1], source="the starter's art and OpenMoji", examples=examples, **counts).write(
            target
        )
        return target

    def _row(self, labels: Sequence[str], model: str, adapters: Sequence[str], steps: int) -> list[Image.Image]:
        suffix = SUFFIX if any(name.startswith("openmoji") for name in adapters) else ""
        prompts = [label + suffix for label in labels]
        return text2image(self.load(model, adapters), prompts, steps=steps, seed=0, batch_size=8)

    def _train(self, base: RunConfig, name: str, values: dict[str, object]) -> None:
        watch = {"watch.prompts": tuple(label + (SUFFIX if "openmoji" in name else "") for label in SHOWN)}
        train(changed(base, values | watch), self.folder / name)


def _file_name(label: str) -> str:
    return label.replace("/", "-").replace(":", "")


STAGES = ("art", "lcm_lora", "style", "lcf", "sheets")


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
        for name in ADAPTERS:
            shutil.copyfile(folder / name / "pytorch_lora_weights.safetensors", ADAPTERS[name])


if __name__ == "__main__":
    typer.run(main)
