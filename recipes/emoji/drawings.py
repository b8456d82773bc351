"""The art that compositions are made of: seven styles of open emoji at 192x192 with transparency.

Built once into `<folder>/drawings.safetensors` (`pixels` uint8 (N, 192, 192, 4), not premultiplied) and
`<folder>/drawings.json` (a row for each drawing). Nothing here is committed.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.progress import track
from safetensors.numpy import save_file

from recipes.emoji import art
from recipes.emoji.packages import NpmPackage, unpacked
from recipes.emoji.paint import Paint, dominant_paint

SIDE = 192
MORE_STYLES: dict[str, NpmPackage] = {
    "fluent-emoji": NpmPackage(
        "@iconify-json/fluent-emoji",
        "1.2.7",
        "8044210dbf11e016d4de85f15d01a243423bd832457e7e2491df1b751c0e272b",
        "MIT, Microsoft Fluent Emoji",
    ),
    "emojione": NpmPackage(
        "@iconify-json/emojione",
        "1.2.3",
        "26a14f44284407e8bcde91799388dca2bfd91dbcd55a97f425524a1c5b73610e",
        "CC BY 4.0, Emoji One (EmojiTwo)",
    ),
    "noto-v1": NpmPackage(
        "@iconify-json/noto-v1",
        "1.2.5",
        "2bf62c26c2c2884aa99e90aec942cdaee17a5921f05690694f4978ad4b017c37",
        "Apache-2.0, Google Noto Emoji (the first version)",
    ),
    "fxemoji": NpmPackage(
        "@iconify-json/fxemoji",
        "1.2.2",
        "f3e72b3c59d05e1db03b7e308d55c0d05bd7ba3f625a90da1b79313c12858eef",
        "Apache-2.0, Mozilla FxEmojis",
    ),
}
STYLES = {**art.STYLES, **MORE_STYLES}
SISTERS = {"fluent-emoji": "fluent", "noto-v1": "noto", "emojione": "twemoji"}  # drawn alike: held out together
ANOTHER_THING = {  # the icon's name means one thing here and another there: these show what their label does not say
    "fxemoji": (
        *("waving hand", "enraged face", "person pouting", "downwards button", "upwards button", "umbrella"),
        *("tram car", "kissing face", "woman and man holding hands", "water pistol", "light rail"),
    ),
    "emojione": ("water pistol",),
    "noto-v1": ("water pistol",),
}
SHORTCODES = ("emojibase", "cldr", "github")  # emojibase's lists of names, the surest first


@dataclass(frozen=True, slots=True)
class Drawing:
    """One drawing: what it shows, in which style, where its ink lies, and whether training may see it.

    box    left, top, right, bottom of what is not transparent, in pixels of 192
    paint  the colour that dominates it, None where none does
    """

    label: str
    tags: tuple[str, ...]
    style: str
    hexcode: str
    group: int
    subgroup: int
    held_out: bool
    box: tuple[int, int, int, int]
    paint: Paint | None


def held_out(label: str, style: str) -> bool:
    """A concept that is held out in a style is held out in the style that is drawn like it, too."""
    return art.held_out(label, SISTERS.get(style, style))


def build(folder: Path, *, processes: int = 1, without: Sequence[str] = ()) -> None:
    """Fetch, match, render and save; does nothing where it was done before.

    without  styles to leave out, whose packages are not fetched
    """
    if (folder / "drawings.json").is_file():
        return
    packages = folder / "packages"
    styles = [style for style in STYLES if style not in without]
    if processes == 1:
        every = [each for style in styles for each in drawn(style, packages)]
    else:
        with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
            parts = [(style, packages, part, processes) for style in styles for part in range(processes)]
            every = [each for some in pool.map(_listed, *zip(*parts, strict=True)) for each in some]
    pixels, rows = folder / "drawings.safetensors.partial", folder / "drawings.json.partial"
    save_file({"pixels": np.stack([drawn for _, drawn in every])}, pixels)
    rows.write_text(json.dumps([asdict(drawing) for drawing, _ in every], indent=0))
    for partial in (pixels, rows):  # whoever reads the old ones goes on with them
        partial.replace(partial.with_suffix(""))


def read_rows(folder: Path) -> list[Drawing]:
    """The rows of `drawings.json`."""
    return [_drawing(row) for row in json.loads((folder / "drawings.json").read_text())]


def _drawing(row: dict[str, Any]) -> Drawing:
    paint = row["paint"]
    changed = {"tags": tuple(row["tags"]), "box": tuple(row["box"]), "paint": paint and Paint(**paint)}
    return Drawing(**{**row, **changed})


def _listed(style: str, packages: Path, part: int, parts: int) -> list[tuple[Drawing, np.ndarray]]:
    return list(drawn(style, packages, part, parts))


def drawn(style: str, packages: Path, part: int = 0, parts: int = 1) -> Iterator[tuple[Drawing, np.ndarray]]:
    """Every drawing of a style that has a name, rendered: uint8 (192, 192, 4); or one of so many parts, in order."""
    source = unpacked(STYLES[style], packages)
    icons = json.loads((source / "icons.json").read_text())
    entries = art.entries(packages)
    found = names_of(style, source, icons, packages)
    start, end = (len(found) * each // parts for each in (part, part + 1))
    for code, name in track(list(found.items())[start:end], description=f"rendering {style}"):
        pixels = render(icons, name)
        if (box := ink(pixels)) is not None:
            yield describe(entries[code], style, code, pixels, box), pixels


def describe(
    entry: dict[str, Any], style: str, code: str, pixels: np.ndarray, box: tuple[int, int, int, int]
) -> Drawing:
    """The row of a rendered drawing, from emojibase's entry for it."""
    label = entry["label"].lower()
    tags = tuple(tag.lower() for tag in entry.get("tags", ()))
    paint = dominant_paint(pixels)
    return Drawing(label, tags, style, code, entry["group"], entry["subgroup"], held_out(label, style), box, paint)


def names_of(style: str, source: Path, icons: dict[str, Any], packages: Path) -> dict[str, str]:
    """Which of a package's icons shows an emoji, by its hexcode: as the package says, or by the icon's name."""
    entries, said = art.entries(packages), art.codes(source)
    if said:
        return {code: name for code, name in said.items() if code in entries and name in icons["icons"]}
    by_name = _codes_by_name(packages)
    found: dict[str, str] = {}
    for name in icons["icons"]:
        letters = _letters(name)
        code = by_name.get(letters) or by_name.get(letters.replace("face", ""))
        if code in entries and entries[code]["label"] not in ANOTHER_THING.get(style, ()):
            found.setdefault(code, name)
    return found


def _codes_by_name(packages: Path) -> dict[str, str]:
    """Every name of an emoji, by its letters alone: labels, names of the packages that tell, well-known short names."""
    by_name: dict[str, str] = {}
    for code, entry in art.entries(packages).items():
        by_name.setdefault(_letters(entry["label"]), code)
    for package in art.STYLES.values():
        for code, name in art.codes(unpacked(package, packages)).items():
            by_name.setdefault(_letters(name), code)
    for source in SHORTCODES:
        file = unpacked(art.LABELS, packages) / "en" / "shortcodes" / f"{source}.json"
        for code, names in json.loads(file.read_text()).items():
            for name in [names] if isinstance(names, str) else names:
                by_name.setdefault(_letters(name), art.plain(code))
    return by_name


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def ink(pixels: np.ndarray) -> tuple[int, int, int, int] | None:
    """Left, top, right, bottom of what is not transparent; None where everything is."""
    box = Image.fromarray(pixels[..., 3]).getbbox()
    return None if box is None else (box[0], box[1], box[2], box[3])


def render(icons: dict[str, Any], name: str) -> np.ndarray:
    """An icon in the middle of a square: uint8 (192, 192, 4)."""
    import resvg_py

    png = resvg_py.svg_to_bytes(svg_string=art.svg(icons, name, SIDE), skip_system_fonts=True)
    return np.asarray(Image.open(io.BytesIO(bytes(png))).convert("RGBA"))
