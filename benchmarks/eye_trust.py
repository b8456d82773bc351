"""May the eye be trusted? Real drawings of a style it never saw, and distances under damage that grows step by step.

    python -m recipes.starter art eye      (once: builds the art, trains the eye)
    python -m benchmarks.eye_trust         (writes benchmarks/results/eye_trust.json and .md)

Accuracy: the share of drawings whose own concept's words are nearer than those of all other concepts. Distances: some
drawings are damaged and compared with themselves undamaged, as in the paper of the FID; they must rise with the damage.
Beside them stands the floor: the distance of these drawings, undamaged, from all others.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from PIL import Image
from torch import Tensor
from torch.nn import functional

from benchmarks import report
from fewstep.evaluate.features import Eye
from fewstep.evaluate.metrics.kernel import KernelSums
from fewstep.evaluate.metrics.neighbourhoods import Neighbourhoods
from fewstep.evaluate.metrics.variety import vendi_score
from fewstep.evaluate.metrics.words import retrieved
from fewstep.evaluate.moments import Moments, frechet_distance
from fewstep.imaging.pixels import to_images
from recipes.emoji.autoencoder import Pixels
from recipes.emoji.eye import LEFT_OUT

Damage = Callable[[Tensor, float], Tensor]


def blur(x: Tensor, sigma: float) -> Tensor:
    """Gaussian, `sigma` in pixels."""
    reach = max(1, round(3 * sigma))
    line = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    kernel = (line / line.sum()).expand(3, 1, -1)
    rows = functional.conv2d(functional.pad(x, (reach, reach, 0, 0), "replicate"), kernel[:, :, None, :], groups=3)
    return functional.conv2d(functional.pad(rows, (0, 0, reach, reach), "replicate"), kernel[:, :, :, None], groups=3)


def noise(x: Tensor, deviation: float) -> Tensor:
    """Gaussian, in units of the whole range."""
    return (x + 2 * deviation * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))).clamp(-1, 1)


def jpeg(x: Tensor, loss: float) -> Tensor:
    """Quality 100 - `loss`."""
    return torch.cat([_through_jpeg(image, round(100 - loss)) for image in to_images(x)])


def _through_jpeg(image: Image.Image, quality: int) -> Tensor:
    data = io.BytesIO()
    image.save(data, format="JPEG", quality=quality)
    array = np.asarray(Image.open(data).convert("RGB"), dtype=np.float32)
    return torch.from_numpy(array).permute(2, 0, 1)[None] / 127.5 - 1


def colour(x: Tensor, turn: float) -> Tensor:
    """All hues turned by `turn` degrees (a rotation around grey)."""
    a = torch.tensor(turn).deg2rad()
    third, root = (1 - a.cos()) / 3, a.sin() / 3**0.5
    rows = [[a.cos() + third, third - root, third + root], [third + root, a.cos() + third, third - root]]
    matrix = torch.tensor([*map(list, rows), [third - root, third + root, a.cos() + third]])
    return torch.einsum("ij,bjhw->bihw", matrix, x).clamp(-1, 1)


def fade(x: Tensor, share: float) -> Tensor:
    """Towards grey."""
    return x.lerp(x.mean(1, keepdim=True), share)


DAMAGES: dict[str, tuple[Damage, tuple[float, ...], str]] = {
    "blur": (blur, (0.5, 1, 2, 4), "pixels"),
    "noise": (noise, (0.02, 0.05, 0.1, 0.2), "of the range"),
    "JPEG": (jpeg, (20, 60, 80, 90, 95), "below quality 100"),
    "hue": (colour, (15, 30, 60, 120), "degrees"),
    "fading": (fade, (0.2, 0.4, 0.7, 1.0), "of the colour"),
}


def main(
    folder: Annotated[Path, typer.Option(help="Where the recipe built the art.")] = Path("build/starter"),
    sample: Annotated[int, typer.Option(help="Drawings that are damaged.")] = 500,
) -> None:
    """Measure, check and write."""
    eye = Eye.load()
    seen, unseen = Pixels(folder, held_out=False), Pixels(folder, held_out=True)
    features = {"seen": _features(eye, seen), "held out": _features(eye, unseen)}
    result: dict[str, Any] = {
        "eye": eye.identity,
        "left_out_style": LEFT_OUT,
        "accuracy": dict(_accuracy(eye, seen, unseen, features)),
        "damage": list(_damages(eye, seen, features["seen"].features, sample)),
    }
    result["all_rise"] = all(rise(series["distances"]) for series in result["damage"] if series["expected"] == "rise")
    table = _markdown(result)
    line = report.command("eye_trust", sample=sample)
    report.write(
        "eye_trust",
        line,
        values=result,
        title="May the eye be trusted?",
        text=table,
    )
    typer.echo(table)


class Sights:
    def __init__(self, features: Tensor, embeddings: Tensor) -> None:
        self.features, self.embeddings = features, embeddings


def _features(eye: Eye, pixels: Pixels) -> Sights:
    parts = [eye.look(pixels[slice(i, i + 64)]) for i in range(0, len(pixels), 64)]
    return Sights(torch.cat([p.features for p in parts]), torch.cat([p.embeddings for p in parts]))


def _accuracy(
    eye: Eye, seen: Pixels, unseen: Pixels, features: dict[str, Sights]
) -> Iterator[tuple[str, dict[str, float]]]:
    """By style, over the words of all concepts; top 5 beside top 1."""
    labels = list(dict.fromkeys(picture.label for picture in seen.pictures))
    place = {label: i for i, label in enumerate(labels)}
    words = eye.read(labels)
    groups = {
        "styles learnt from, drawings learnt": ("seen", lambda p: p.style != LEFT_OUT),
        "styles learnt from, held-out drawings": ("held out", lambda p: p.style != LEFT_OUT),
        f"style left out ({LEFT_OUT})": ("seen", lambda p: p.style == LEFT_OUT),
        f"style left out ({LEFT_OUT}), held-out drawings": ("held out", lambda p: p.style == LEFT_OUT),
    }
    for name, (source, wanted) in groups.items():
        pictures = (seen if source == "seen" else unseen).pictures
        rows = [i for i, picture in enumerate(pictures) if wanted(picture) and picture.label in place]
        targets = torch.tensor([place[pictures[i].label] for i in rows])
        embeddings = features[source].embeddings[rows]
        near = (embeddings @ words.T).topk(5, dim=1).indices
        yield (
            name,
            {
                "pictures": len(rows),
                "concepts": len(words),
                "top 1": float(retrieved(embeddings, words, targets).mean()),
                "top 5": float((near == targets[:, None]).any(1).double().mean()),
            },
        )


def _damages(eye: Eye, seen: Pixels, features: Tensor, sample: int) -> Iterator[dict[str, object]]:
    """Some drawings against themselves, damaged; then sets that lack concepts or repeat drawings."""
    order = torch.randperm(len(seen), generator=torch.Generator().manual_seed(0))
    chosen, others = order[:sample], order[sample:]
    real = features[chosen]

    def distances(x: Tensor) -> tuple[float, float]:
        kid = KernelSums.of(x, real, 1, paired=True).distance()
        return frechet_distance(Moments.of(real), Moments.of(x)), kid

    floor = frechet_distance(Moments.of(features[others]), Moments.of(real))
    yield {"name": "floor", "unit": "other drawings", "levels": [0], "expected": "", "distances": [floor], "kid": None}
    clean = distances(real)
    for name, (damage, levels, unit) in DAMAGES.items():
        rows = [clean]
        for level in levels:
            parts = [eye.look(damage(seen[rows_], level)).features for rows_ in chosen.split(50)]
            rows.append(distances(torch.cat(parts)))
        yield _series(name, unit, (0, *levels), rows, "rise")
    concepts = list(dict.fromkeys(picture.label for picture in seen.pictures))
    rows, shares = [], (0.0, 0.25, 0.5, 0.75)
    by_group = sorted(concepts, key=lambda label: next(p.group or 0 for p in seen.pictures if p.label == label))
    for share in shares:  # whole kinds of things are missing: the last groups of the emoji's order
        kept = set(by_group[: round(len(concepts) * (1 - share))])
        pool = [i for i in range(len(seen)) if seen.pictures[i].label in kept]
        some = torch.tensor(pool)[torch.randperm(len(pool), generator=torch.Generator().manual_seed(3))[:sample]]
        rest = torch.ones(len(seen), dtype=torch.bool)
        rest[some] = False
        target = features[rest]
        x = features[some]
        rows.append((frechet_distance(Moments.of(target), Moments.of(x)), KernelSums.of(x, target, 1).distance()))
    yield _series("mode dropping", "of the concepts missing", shares, rows, "rise")
    yield _repeats(features, chosen, others)
    yield _memorised(eye, features, chosen, others)


def _repeats(features: Tensor, chosen: Tensor, others: Tensor) -> dict[str, object]:
    """A model that paints few pictures again and again: variety must fall, the distance must rise."""
    count = len(chosen)
    rows, kinds, vendi = [], tuple(max(1, count // each) for each in (1, 2, 5, 10, 50)), []
    for kind in kinds:
        x = features[chosen[:kind]].repeat(count // kind, 1)
        rows.append((frechet_distance(Moments.of(features[others]), Moments.of(x)), 0.0))
        vendi.append(float(vendi_score(x)))
    series = _series("collapse", f"different pictures among {count}", kinds, rows, "rise")
    return series | {"kid": None, "vendi": vendi}


def _memorised(eye: Eye, features: Tensor, chosen: Tensor, others: Tensor) -> dict[str, object]:
    """Ever more noise-free copies of the reference among the pictures: the nearest distances must fall."""
    shares, nearest, close = (0.0, 0.25, 0.5, 0.75, 1.0), [], []
    real = features[others].double()
    usual = torch.cdist(real[:1000], real).kthvalue(2, dim=1).values.quantile(0.1)
    for share in shares:
        copies = round(share * len(chosen))
        x = torch.cat([features[others[:copies]], features[chosen[copies:]]])
        near = Neighbourhoods.of(x, features[others], 1).nearest_distance
        nearest.append(float(near.mean()))
        close.append(float((near < usual).double().mean()))
    series = {"name": "memorisation", "unit": "of the pictures are copies", "levels": list(shares), "expected": "fall"}
    return series | {"distances": nearest, "kid": None, "found_as_copies": close}


def _series(
    name: str, unit: str, levels: tuple[float, ...], rows: list[tuple[float, float]], expected: str
) -> dict[str, object]:
    fd, kid = zip(*rows, strict=True)
    both = {"distances": [round(v, 4) for v in fd], "kid": [round(v, 6) for v in kid]}
    return {"name": name, "unit": unit, "levels": list(levels), "expected": expected, **both}


def rise(values: object) -> bool:
    """Whether every value is above the one before."""
    assert isinstance(values, list)
    return all(a < b for a, b in itertools.pairwise(values))


def _markdown(result: dict[str, Any]) -> str:
    accuracy, damage = result["accuracy"], result["damage"]
    lines = ["| drawings | pictures | concepts | top 1 | top 5 |", "| --- | --: | --: | --: | --: |"]
    for name, row in accuracy.items():
        lines.append(f"| {name} | {row['pictures']} | {row['concepts']} | {row['top 1']:.1%} | {row['top 5']:.1%} |")
    lines += ["", "| damage | Fréchet distance at each level | KID | |", "| --- | --- | --- | --- |"]
    for series in damage:
        pairs = zip(series["levels"], series["distances"], strict=True)
        fd = ", ".join(f"{level:g}: {value:.2f}" for level, value in pairs)
        kid = "–" if series["kid"] is None else ", ".join(f"{value:.4f}" for value in series["kid"])
        values = series["distances"]
        right = rise(values) if series["expected"] == "rise" else rise(values[::-1])
        verdict = (
            ""
            if not series["expected"]
            else ("rises" if series["expected"] == "rise" else "falls")
            if right
            else "NOT MONOTONIC"
        )
        lines.append(f"| {series['name']} ({series['unit']}) | {fd} | {kid} | {verdict} |")
    for series in damage:
        for extra in ("vendi", "found_as_copies"):
            if extra in series:
                values = ", ".join(f"{value:.3g}" for value in series[extra])
                lines += ["", f"{series['name']}, {extra.replace('_', ' ')}: {values}"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    typer.run(main)
