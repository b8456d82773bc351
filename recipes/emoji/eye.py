"""The eye that `fewstep evaluate` looks with where there is no network: a tiny CLIP, trained on real drawings only.

The starter's text encoder is frozen and says where the words of every concept lie; the image tower learns to lay the
drawings there, under changes of place, size, tint and sharpness. One whole style and the held-out pairs are left out,
so that what the eye says of them is evidence. No generator sees it in training, and it sees no generator.
"""

from __future__ import annotations

import dataclasses
import random
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

import fewstep
from fewstep.evaluate.eye import SIDE, EyeNetwork
from fewstep.evaluate.features import Eye, text_encoder_digest
from fewstep.imaging.pixels import to_images
from fewstep.models.model import Model
from fewstep.train.config import FitConfig
from fewstep.train.task import Undivided
from recipes.emoji import art, packing
from recipes.emoji.art import Picture
from recipes.emoji.autoencoder import Pixels
from recipes.emoji.run import run

LEFT_OUT = "twemoji"
WAYS = 6  # in which every concept is called
CONFIG = FitConfig(pictures=110_000, batch_size=64, lr=0.012, cooldown=0.7, warmup=3_000, ema_halflife=3_000)
STORED = torch.float16
PROMPTS = 500
PUNCTUATION = set(",()[]")  # which prompts read as weights, and the built-in ones as the end of a label
STYLES = tuple(art.STYLES)
FIRST = (
    "cat face, noto style",
    "red apple, twemoji style",
    "rocket, fluent style",
    "frog, noto style",
    "pizza, twemoji style",
    "owl, fluent style",
    "grinning face, noto style",
    "guitar, twemoji style",
)
PACKAGE = Path(__file__).parents[2] / "src" / "fewstep" / "evaluate"


class Meeting:
    """The objective: among all concepts' words, find those of a picture that was moved, scaled, tinted and blurred."""

    def __init__(self, eye: EyeNetwork, pixels: Pixels, model: Model) -> None:
        self.eye, self.pixels = eye, pixels
        self.rows = torch.tensor([i for i, picture in enumerate(pixels.pictures) if picture.style != LEFT_OUT])
        seen = [pixels.pictures[row] for row in self.rows]
        concepts = {label: i for i, label in enumerate(dict.fromkeys(picture.label for picture in seen))}
        self.targets = torch.tensor([concepts[picture.label] for picture in seen])
        self.words = torch.stack([_pooled(model, texts) for texts in zip(*_names(seen), strict=True)])

    def __len__(self) -> int:
        return len(self.rows)

    def __call__(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        pictures = self.eye(disturbed(self.pixels[self.rows[rows]], generator))
        way = torch.randint(len(self.words), (self.words.shape[1],), generator=generator)
        words = self.eye.embed_text(self.words[way, torch.arange(len(way))])
        logits = self.eye.log_scale.exp().clamp(max=60) * pictures @ words.T
        targets = self.targets[rows]
        right = (logits.argmax(-1) == targets).float().mean()
        return {"loss": functional.cross_entropy(logits, targets, label_smoothing=0.05), "accuracy": right}


def _names(pictures: list[Picture]) -> list[list[str]]:
    """For every concept its label, and `WAYS` - 1 other captions of it in any of the styles that are seen."""
    captions: dict[str, list[str]] = {}
    for picture in pictures:
        captions.setdefault(picture.label, []).extend(picture.captions())
    choose = random.Random(0)
    return [[label, *choose.choices(others, k=WAYS - 1)] for label, others in captions.items()]


@torch.no_grad()
def _pooled(model: Model, texts: tuple[str, ...]) -> Tensor:
    chunks = (list(texts[start : start + 256]) for start in range(0, len(texts), 256))
    states = [model.encode_text(chunk).pooled for chunk in chunks]
    return torch.cat([state for state in states if state is not None]).float()


def disturbed(x: Tensor, generator: torch.Generator) -> Tensor:
    """Another place and size, another tint, sometimes less sharp or noisy; white around, as in the art."""

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=generator)

    count = len(x)
    scale, shift, angle = draw(0.85, 1.25, count), draw(-0.15, 0.15, count, 2), draw(-0.25, 0.25, count)
    matrix = torch.stack([angle.cos() * scale, -angle.sin() * scale, angle.sin() * scale, angle.cos() * scale], 1)
    theta = torch.cat([matrix.view(count, 2, 2), shift.unsqueeze(2)], 2)
    grid = functional.affine_grid(theta, [count, 3, SIDE, SIDE], align_corners=False)
    moved = 1 - functional.grid_sample(1 - x, grid, align_corners=False)
    grey = moved.mean(1, keepdim=True)
    tinted = (moved.lerp(grey, draw(-0.3, 0.7, count, 1, 1, 1)) - 1) * draw(0.7, 1.2, count, 3, 1, 1) + 1
    coarse = functional.interpolate(functional.avg_pool2d(tinted, 4), size=(SIDE, SIDE), mode="bilinear")
    soft = tinted.lerp(coarse, draw(0, 1, count, 1, 1, 1) ** 3)
    noise = torch.randn(soft.shape, generator=generator)
    return soft + 0.1 * noise * draw(0, 1, count, 1, 1, 1) ** 3


def train(folder: Path, minutes: float | None = None) -> None:
    """Train on the art in `folder`, and write there what the package ships of it: `folder / "evaluate"`."""
    torch.manual_seed(2)
    network = EyeNetwork()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pixels = Pixels(folder, held_out=False)
    objective = Meeting(network, pixels, fewstep.load("starter", device="cpu"))
    config = dataclasses.replace(CONFIG, minutes=minutes)
    target = folder / "evaluate"
    target.mkdir(exist_ok=True)
    with run(network, Undivided(objective), len(objective), config, folder / "eye").averaged():
        write_eye(network.eval(), pixels, objective.rows, target / "eye.safetensors")
    (target / "prompts.txt").write_text("\n".join(prompts(pixels.pictures)) + "\n", encoding="utf-8")


@torch.no_grad()
def write_eye(network: EyeNetwork, pixels: Pixels, rows: Tensor, target: Path) -> None:
    """The weights in fp16, with the mean and deviation of the features over the drawings that were learnt from."""
    weights = {name: weight.detach().to(STORED).contiguous() for name, weight in network.state_dict().items()}
    pooled = torch.cat([network.see(pixels[chunk]).pooled for chunk in rows.split(64)])
    weights |= {"mean": pooled.mean(0), "deviation": pooled.std(0)}
    save_file(weights, target, metadata={"left_out_style": LEFT_OUT, "text_encoder": text_encoder_digest()})


def write_features(pixels: Pixels, eye: Eye, target: Path) -> None:
    """What painted pictures are compared to: the eye's features of all the art that the starter learnt from."""
    features = torch.cat([eye.look(pixels[slice(i, i + 64)]).features for i in range(0, len(pixels), 64)])
    metadata = {"network": eye.identity}
    save_file({"features": features.to(STORED)}, target / "art.safetensors", metadata=metadata)


def write_pictures(source: Path, folder: Path) -> None:
    """The same art as PNG files, so that a report can show which drawing a painted one is nearest to."""
    pixels = Pixels(source, held_out=False)
    folder.mkdir(exist_ok=True)
    for number, picture in enumerate(pixels.pictures):
        name = "".join(letter if letter.isalnum() or letter in " -" else "_" for letter in picture.label)
        path = folder / f"{name}, {picture.style} ({picture.hexcode}).png"
        if not path.exists():
            to_images(pixels[slice(number, number + 1)])[0].save(path)


def prompts(pictures: list[Picture]) -> list[str]:
    """The drawings that a stranger would ask for first, then others; every concept once, the styles in turn."""
    chosen = list(FIRST)
    named = {text.rpartition(",")[0] for text in chosen}
    rest = [picture for picture in pictures if picture.label not in named and not PUNCTUATION & set(picture.label)]
    random.Random(0).shuffle(rest)
    for picture in rest:
        if picture.label not in named and picture.style == STYLES[len(chosen) % len(STYLES)]:
            named.add(picture.label)
            chosen.append(f"{picture.label}, {picture.style} style")
    return chosen[:PROMPTS]


def ship(folder: Path) -> None:
    """Copy what evaluations need into the package."""
    PACKAGE.mkdir(exist_ok=True)
    source = folder / "evaluate"
    facts = {"text_encoder": text_encoder_digest()}  # of the packed one, which is the same within rounding
    packing.pack_file(source / "eye.safetensors", PACKAGE / "eye.safetensors", packing.EYE, facts)
    # The packed eye sees a little otherwise, and what it is compared with must be seen by the same eye.
    write_features(Pixels(folder, held_out=False), Eye.load(file=PACKAGE / "eye.safetensors"), source)
    packing.pack_file(source / "art.safetensors", PACKAGE / "art.safetensors", packing.ART)
    shutil.copyfile(source / "prompts.txt", PACKAGE / "prompts.txt")
