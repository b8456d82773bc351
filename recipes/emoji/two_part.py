"""What `fewstep evaluate` asks to see whether words combine: a hundred prompts, real pictures of them, and a head.

    python -m recipes.emoji.two_part build/starter     writes all three into the package

The things are everyday ones that the shipped eye recognises in plain drawings of three styles, one of which it never
saw. In other colours it knows them less well, so a linear head over its embeddings learns them from real drawings that
are recoloured, moved, scaled and blurred; no generator is shown to it. No combination among the prompts is ever trained
on (`combinations.held_out`).
"""

from __future__ import annotations

import itertools
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from fewstep.evaluate import two_part
from fewstep.evaluate.features import Eye
from fewstep.evaluate.pieces import alone, ink_of
from fewstep.evaluate.two_part_prompts import COLOUR, COUNT, FILE, PAIR, TwoPart
from fewstep.imaging.contact_sheet import contact_sheet
from recipes.emoji import art
from recipes.emoji.figures import NUMBERS, Figure
from recipes.emoji.layouts import anywhere, coloured, pair, several, single
from recipes.emoji.nouns import plural, with_article
from recipes.emoji.synonyms import listed
from recipes.emoji.world import World

THINGS = listed(
    """
    airplane, ambulance, anchor, avocado, butterfly, cactus, camel, carrot, cat, church, cookie, crab, croissant,
    dolphin, elephant, helicopter, horse, key, koala, light bulb, lion, lobster, monkey, panda, peach, pencil,
    pig, pineapple, rose, snake, spider, star, sunflower, swan, taxi, tiger, trophy, tulip, wine glass, watch,
    feather, flute, maple leaf, toilet, balloon, mushroom
    """
)
COLOURED = listed(
    """
    cat, horse, elephant, pig, monkey, lion, snake, crab, lobster, dolphin, butterfly, star, key, carrot, peach, camel,
    croissant, cactus, rose, feather, cookie, trophy, tulip, airplane
    """
)
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "black")
SHARES = {COLOUR: 34, PAIR: 33, COUNT: 33}
VIEWS = 24  # of each drawing, for the head
RIDGE = 1e-4


def prompts(world: World) -> list[TwoPart]:
    """A hundred, drawn once and for all."""
    choose = random.Random("two parts")
    things = sorted(THINGS)
    found: dict[str, TwoPart] = {}
    for kind, share in SHARES.items():
        wanted = len(found) + share
        while len(found) < wanted:
            made = _prompt(world, kind, things, choose)
            if made is not None:
                found.setdefault(made.prompt, made)
    return list(found.values())


def _prompt(world: World, kind: str, things: list[str], choose: random.Random) -> TwoPart | None:
    first, second = choose.sample(things, 2)
    if kind == PAIR:
        return TwoPart(kind, f"{with_article(first)} and {with_article(second)}", first, second)
    if kind == COUNT:
        number = choose.choice(("two", "three"))
        return TwoPart(kind, f"{number} {plural(first)}", number, first)
    colour, thing = choose.choice(COLOURS), choose.choice(sorted(COLOURED))
    paints = [world.rows[row].paint for row in _rows(world, thing)]
    if any(paint is None or paint.word == colour for paint in paints):
        return None
    return TwoPart(kind, with_article(f"{colour} {thing}"), colour, thing)


def _rows(world: World, thing: str) -> list[int]:
    return [world.by_style[style, thing] for style in art.STYLES if (style, thing) in world.by_style]


def pictures(world: World, asked: list[TwoPart]) -> Iterator[Image.Image]:
    """A real composition of each, the three styles in turn."""
    for number, each in enumerate(asked):
        yield _picture(world, each, number, random.Random(f"real {each.prompt}"))


def _picture(world: World, asked: TwoPart, number: int, choose: random.Random) -> Image.Image:
    styles = list(art.STYLES)[number % 3 :] + list(art.STYLES)[: number % 3]
    words = [asked.second] if asked.kind != PAIR else [asked.first, asked.second]
    style = next(s for s in styles if all((s, word) in world.by_style for word in words))
    figures = [Figure(world, world.by_style[style, word]) for word in words]
    if asked.kind == COLOUR:
        return single(Figure(world, figures[0].row, asked.first), choose).picture()
    if asked.kind == PAIR:
        first, second = figures
        return pair(first, second, choose, stacked=False).picture()
    counts = {word: count for count, word in NUMBERS.items()}
    return several(figures[0], counts[asked.first], choose).picture()


def views(world: World, things: list[str]) -> Iterator[tuple[Tensor, int]]:
    """Every trained drawing of the things, also recoloured, at many sizes and of many sharpnesses; and which it is."""
    choose = random.Random("views")
    noise = torch.Generator().manual_seed(0)
    for row in world.named:
        if world.rows[row].label not in THINGS:
            continue
        for view in range(VIEWS):
            figure = (view % 2 and coloured(world, row, choose)) or Figure(world, row)
            size = choose.choice((128, 100, 64, 58))
            picture = torch.from_numpy(np.array(anywhere(figure.sprite(size, size, choose), choose)))
            pixels = picture.permute(2, 0, 1)[None].float() / 127.5 - 1
            if coarse := choose.choice((0, 0, 2, 4, 6)):
                pixels = functional.avg_pool2d(pixels, coarse)
                pixels = functional.interpolate(pixels, (two_part.TILE, two_part.TILE), mode="bilinear")
            pixels += 0.04 * choose.random() ** 2 * torch.randn(pixels.shape, generator=noise)
            pixels = pixels.clamp(-1, 1)
            yield alone(pixels[0], ink_of(pixels)[0]), things.index(world.rows[row].label)


def batched(every: Iterator[tuple[Tensor, int]], size: int) -> Iterator[list[tuple[Tensor, int]]]:
    """In lists of so many, the last one shorter."""
    while some := list(itertools.islice(every, size)):
        yield some


def head(eye: Eye, world: World, things: list[str]) -> dict[str, Tensor]:
    """Softmax regression over what the eye sees of the views: `weight` (things, 608) and `bias`."""
    seen, targets = [], []
    for some in batched(views(world, things), 64):
        seen.append(two_part.seen_of(eye, torch.stack([pixels for pixels, _ in some])))
        targets += [thing for _, thing in some]
    x, y = torch.cat(seen), torch.tensor(targets)
    weight = torch.zeros(len(things), x.shape[1], requires_grad=True)
    bias = torch.zeros(len(things), requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(x @ weight.T + bias, y) + RIDGE * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return {"weight": weight.detach().half(), "bias": bias.detach()}


def write(folder: Path) -> None:
    """All three files, where the package has them."""
    world, eye, things = World.open(folder), Eye.load(), sorted(THINGS)
    asked = prompts(world)
    lines = (f"{each.kind}\t{each.prompt}\t{each.first}\t{each.second}\n" for each in asked)
    FILE.write_text("".join(lines), encoding="utf-8")
    contact_sheet(list(pictures(world, asked)), columns=two_part.COLUMNS).save(two_part.REAL, quality=85, method=6)
    save_file(head(eye, world, things), two_part.HEAD, {"eye": eye.identity, "things": ",".join(things)})


if __name__ == "__main__":
    write(Path(sys.argv[1]))
