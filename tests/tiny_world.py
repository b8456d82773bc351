"""A dozen hand-written icons in two styles, in place of nine thousand drawings from the network."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from recipes.emoji import drawings
from recipes.emoji.world import World

FACE = '<circle cx="50" cy="55" r="40" fill="{}"/><circle cx="36" cy="50" r="6"/><circle cx="64" cy="50" r="6"/>'
EARS = '<path d="M14 40 L18 4 L46 22 Z M86 40 L82 4 L54 22 Z" fill="{}"/>'
ICONS: dict[str, tuple[int, int, str]] = {  # label -> group, subgroup, drawing
    "cat face": (3, 34, EARS.format("#e08a1e") + FACE.format("#e08a1e")),
    "dog face": (3, 34, FACE.format("#a5683a")),
    "frog": (3, 36, FACE.format("#4a9c3f")),
    "fish": (3, 38, '<path d="M6 50 Q40 10 74 50 Q40 90 6 50 Z M70 50 L96 24 L96 76 Z" fill="#3f7fd0"/>'),
    "grinning face": (0, 0, FACE.format("#ffcc33") + '<path d="M30 70 Q50 90 70 70 Z" fill="#7a4a12"/>'),
    "red apple": (4, 42, '<circle cx="50" cy="56" r="38" fill="#d93030"/><path d="M50 20 L58 4" stroke="#653" '
                         'stroke-width="8"/>'),
    "green apple": (4, 42, '<circle cx="50" cy="56" r="38" fill="#6dbb3a"/>'),
    "pear": (4, 42, '<path d="M50 8 Q70 40 82 66 Q80 96 50 96 Q20 96 18 66 Q30 40 50 8 Z" fill="#9cc23c"/>'),
    "grapes": (4, 42, '<circle cx="40" cy="40" r="26" fill="#8045b0"/><circle cx="62" cy="62" r="26" fill="#8045b0"/>'),
    "package": (7, 74, '<rect x="10" y="20" width="80" height="70" fill="#b98a50"/>'),
    "house": (5, 51, '<path d="M50 6 L96 46 H4 Z" fill="#c0392b"/><rect x="16" y="46" width="68" height="48" '
                     'fill="#efe2c4"/>'),
    "umbrella": (5, 59, '<path d="M4 54 Q50 -40 96 54 Z" fill="#7b52ab"/><rect x="47" y="50" width="6" height="46" '
                        'fill="#555"/>'),
    "top hat": (7, 65, '<rect x="24" y="20" width="52" height="52" fill="#333"/><rect x="4" y="68" width="92" '
                       'height="14" fill="#333"/><rect x="24" y="56" width="52" height="12" fill="#c33"/>'),
    "crown": (7, 65, '<path d="M10 80 L6 26 L32 52 L50 16 L68 52 L94 26 L90 80 Z" fill="#f2b01e"/>'),
    "ok button": (8, 95, '<rect width="100" height="100" fill="#3a88d8"/>'),
}  # fmt: skip


def write_world(folder: Path) -> None:
    """The same as files, for processes that open it by themselves."""
    world = tiny_world()
    save_file(
        {"pixels": np.stack([world.pixels(row) for row in range(len(world.rows))])}, folder / "drawings.safetensors"
    )
    (folder / "drawings.json").write_text(json.dumps([dataclasses.asdict(drawing) for drawing in world.rows]))


def tiny_world() -> World:
    """`ICONS` in the styles noto and fluent; the same pixels in both."""
    icons = {"icons": {label: {"body": body} for label, (_, _, body) in ICONS.items()}, "width": 100, "height": 100}
    rows, pixels = [], []
    for style in ("noto", "fluent"):
        for label, (group, subgroup, _) in ICONS.items():
            picture = drawings.render(icons, label)
            box = drawings.ink(picture)
            assert box is not None
            entry = {"label": label, "group": group, "subgroup": subgroup, "tags": ["thing", "small thing"]}
            rows.append(drawings.describe(entry, style, "1f000", picture, box))
            pixels.append(picture)
    return World(rows, pixels.__getitem__)
