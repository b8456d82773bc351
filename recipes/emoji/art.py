"""The starter's pictures: open emoji art of three styles at 128x128 on white, with captions and a held-out set.

Nothing here is committed: the art is built from pinned packages in under a minute into `<folder>/art.safetensors`
(`pixels` uint8 (N, 128, 128, 3)) and `<folder>/art.json` (a row for each picture).
"""

from __future__ import annotations

import hashlib
import io
import json
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.progress import track
from safetensors.numpy import load_file, save_file

from recipes.emoji.packages import NpmPackage, unpacked

SIZE = 128
STYLES: dict[str, NpmPackage] = {
    "noto": NpmPackage(
        "@iconify-json/noto",
        "1.2.9",
        "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad",
        "Apache-2.0, Google Noto Emoji",
    ),
    "twemoji": NpmPackage(
        "@iconify-json/twemoji",
        "1.2.5",
        "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7",
        "CC BY 4.0, Twitter Emoji (Twemoji)",
    ),
    "fluent": NpmPackage(
        "@iconify-json/fluent-emoji-flat",
        "1.2.6",
        "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
        "MIT, Microsoft Fluent Emoji Flat",
    ),
}
LABELS = NpmPackage(
    "emojibase-data",
    "17.0.0",
    "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a",
    "MIT, emojibase",
)
HELD_OUT_PERCENT = 5
COUNTRY_FLAGS = 9  # emojibase group: one style only, and the words say nothing about the picture


@dataclass(frozen=True, slots=True)
class Picture:
    """One drawing: what it shows (`label`, `tags`), in which `style`, and whether training may see it."""

    label: str
    tags: tuple[str, ...]
    style: str
    hexcode: str
    group: int | None
    held_out: bool

    def captions(self) -> Iterator[str]:
        """Every way in which this picture is called: label and tags in varied order, with and without the style."""
        style = f"{self.style} style"
        extra = [tag for tag in self.tags if tag not in self.label]
        yield f"{self.label}, {style}"
        yield self.label
        order = random.Random(f"{self.hexcode} {self.style}")
        for length in (1, 2, 3):
            some = order.sample(extra, min(length, len(extra)))
            yield ", ".join([self.label, *some, style])
            yield ", ".join([*some, style] if some else [style, self.label])
            yield ", ".join([*some, self.label])


def held_out(label: str, style: str, percent: int = HELD_OUT_PERCENT) -> bool:
    """A stable draw of so many of a hundred (concept, style) pairs."""
    return int.from_bytes(hashlib.sha256(f"{label}|{style}".encode()).digest()[:4], "big") % 100 < percent


def build(folder: Path) -> None:
    """Fetch, match, render and save; does nothing where it was done before."""
    if (folder / "art.json").is_file():
        return
    drawings = [each for style in STYLES for each in drawn(style, STYLES[style], folder / "packages")]
    pictures, pixels = [picture for picture, _ in drawings], [values for _, values in drawings]
    save_file({"pixels": np.stack(pixels)}, folder / "art.safetensors")
    partial = folder / "art.json.partial"
    partial.write_text(json.dumps([asdict(picture) for picture in pictures], indent=0))
    partial.replace(folder / "art.json")


def drawn(style: str, package: NpmPackage, packages: Path) -> Iterator[tuple[Picture, np.ndarray]]:
    """Every drawing of a package that has a name, rendered: uint8 (128, 128, 3)."""
    known, source = entries(packages), unpacked(package, packages)
    icons = json.loads((source / "icons.json").read_text())
    for code, name in track(codes(source).items(), description=f"rendering {style}"):
        entry = known.get(code)
        if entry is None or name not in icons["icons"]:
            continue
        label = entry["label"].lower()
        tags = tuple(tag.lower() for tag in entry.get("tags", ()))
        yield Picture(label, tags, style, code, entry.get("group"), held_out(label, style)), _render(icons, name)


def load(folder: Path) -> tuple[list[Picture], np.ndarray]:
    """The rows and the pixels, uint8 (N, 128, 128, 3)."""
    rows: list[dict[str, Any]] = json.loads((folder / "art.json").read_text())
    pictures = [Picture(**{**row, "tags": tuple(row["tags"])}) for row in rows]
    return pictures, load_file(folder / "art.safetensors")["pixels"]


@cache
def entries(packages: Path) -> dict[str, dict[str, Any]]:
    """emojibase's entries by hexcode, flags of countries left out."""
    data = json.loads((unpacked(LABELS, packages) / "en" / "data.json").read_text())
    kept = (entry for entry in data if "group" in entry and entry["group"] != COUNTRY_FLAGS)
    return {plain(entry["hexcode"]): entry for entry in kept}


def codes(source: Path) -> dict[str, str]:
    """The icons' names by hexcode, as far as an iconify package tells them."""
    said: dict[str, str] = json.loads((source / "chars.json").read_text())
    return {plain(code): name for code, name in said.items()}


def plain(hexcode: str) -> str:
    """Without the selector that asks for a coloured picture."""
    return hexcode.lower().replace("-fe0f", "")


def _render(icons: dict[str, Any], name: str) -> np.ndarray:
    import resvg_py

    png = resvg_py.svg_to_bytes(svg_string=svg(icons, name, SIZE), background="#ffffff", skip_system_fonts=True)
    return np.asarray(Image.open(io.BytesIO(bytes(png))).convert("RGB"))


def svg(icons: dict[str, Any], name: str, size: int) -> str:
    """An icon of an iconify package as an SVG file of `size` x `size`, the icon in its middle."""
    icon = icons["icons"][name]
    width, height = icon.get("width", icons.get("width")), icon.get("height", icons.get("height"))
    side = max(width, height)
    box = f"{(width - side) / 2} {(height - side) / 2} {side} {side}"
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'<svg {spaces} viewBox="{box}" width="{size}" height="{size}">{icon["body"]}</svg>'
