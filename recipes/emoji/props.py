"""Things that the art has no use for and compositions do, drawn here: hats, glasses, a skateboard, a bowl, a box.

Each is a flat drawing of 100 units' width in any colour word. A thing that holds another has a back and a front: the
other one goes between the two.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache

from PIL import Image

from recipes.emoji.paint import COLOURS

SCALE = 1.6  # pixels a unit


@dataclass(frozen=True, slots=True)
class Prop:
    """How it looks and how it goes with others.

    name     what it is called
    own      the colour word that goes without saying
    height   in units of a hundredth of its width
    front    SVG; {main}, {dark} and {light} are the colour in three shades
    back     what lies behind the thing that it holds
    seat     how far down, in units, the lowest point of what it holds or carries is
    article  whether "a" goes before its name
    """

    name: str
    own: str
    height: int
    front: str
    back: str = ""
    seat: float = 0.0
    article: bool = True


def picture(prop: Prop, colour: str = "") -> Image.Image:
    """Its front, RGBA, 160 pixels wide."""
    return _drawn(prop.front, prop.height, colour or prop.own)


def behind(prop: Prop, colour: str = "") -> Image.Image:
    """Its back, as large as the front."""
    return _drawn(prop.back, prop.height, colour or prop.own)


@cache
def _drawn(body: str, height: int, colour: str) -> Image.Image:
    import resvg_py

    shades = {"main": 1.0, "dark": 0.78, "light": 1.18}
    filled = body
    for name, factor in shades.items():
        red, green, blue = (min(255, round(level * factor)) for level in COLOURS[colour])
        filled = filled.replace("{" + name + "}", f"#{red:02x}{green:02x}{blue:02x}")
    size = f'width="{round(100 * SCALE)}" height="{round(height * SCALE)}"'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 {height}" {size}>{filled}</svg>'
    png = resvg_py.svg_to_bytes(svg_string=svg, skip_system_fonts=True)
    return Image.open(io.BytesIO(bytes(png))).convert("RGBA")


# Worn on top: the lower edge goes over the head.
PARTY_HAT = Prop(
    "party hat",
    "pink",
    120,
    '<path d="M50 12 L88 116 Q50 124 12 116 Z" fill="{main}"/><path d="M35 54 L68 62 L73 78 L28 70 Z" fill="{light}"/>'
    '<path d="M22 90 L80 98 L85 110 L17 104 Z" fill="{dark}"/><circle cx="50" cy="12" r="11" fill="#ffd23c"/>',
)
SANTA_HAT = Prop(
    "santa hat",
    "red",
    88,
    '<path d="M14 74 Q20 10 62 8 Q90 12 92 46 Q78 34 70 38 Q80 58 84 74 Z" fill="{main}"/>'
    '<path d="M70 38 Q80 58 84 74 L66 74 Q70 56 62 34 Z" fill="{dark}"/>'
    '<rect x="4" y="66" width="90" height="20" rx="10" fill="#f1f3f6"/><circle cx="90" cy="50" r="10" fill="#e4e8ee"/>',
)
WOOLLY_HAT = Prop(
    "woolly hat",
    "blue",
    86,
    '<circle cx="50" cy="13" r="12" fill="{light}"/><path d="M8 70 Q10 18 50 18 Q90 18 92 70 Z" fill="{main}"/>'
    '<path d="M30 22 L26 66 M50 20 L50 66 M70 22 L74 66" stroke="{dark}" stroke-width="4"/>'
    '<rect x="3" y="60" width="94" height="24" rx="10" fill="{dark}"/>',
)
WIZARD_HAT = Prop(
    "wizard hat",
    "purple",
    100,
    '<path d="M58 2 L80 84 L22 84 Z" fill="{main}"/><path d="M24 76 L78 76 L80 86 L21 86 Z" fill="{dark}"/>'
    '<ellipse cx="50" cy="90" rx="49" ry="9" fill="{main}"/><path d="M50 36 l4 9 10 1 -8 6 3 10 -9 -5 -9 5 3 -10 '
    '-8 -6 10 -1 Z" fill="#ffd23c"/>',
)
COWBOY_HAT = Prop(
    "cowboy hat",
    "brown",
    56,
    '<path d="M26 42 Q28 4 42 4 Q50 12 58 4 Q72 4 74 42 Z" fill="{main}"/>'
    '<path d="M26 34 L74 34 L75 44 L25 44 Z" fill="{dark}"/>'
    '<path d="M1 30 Q14 46 50 42 Q86 46 99 30 Q92 55 50 55 Q8 55 1 30 Z" fill="{main}"/>',
)
CHEF_HAT = Prop(
    "chef’s hat",
    "white",
    84,
    '<path d="M22 50 Q2 44 8 26 Q16 8 34 14 Q50 -4 66 14 Q84 8 92 26 Q98 44 78 50 Z" fill="{main}" stroke="#c3c8d0" '
    'stroke-width="2.5"/><rect x="22" y="46" width="56" height="36" rx="4" fill="{main}" stroke="#c3c8d0" '
    'stroke-width="2.5"/><path d="M36 52 V72 M50 52 V72 M64 52 V72" stroke="#c3c8d0" stroke-width="2.5"/>',
)
BOW = Prop(
    "bow",
    "pink",
    64,
    '<path d="M50 32 Q20 0 4 8 Q-2 32 4 56 Q20 64 50 32 Z M50 32 Q80 0 96 8 Q102 32 96 56 Q80 64 50 32 Z" '
    'fill="{main}"/><path d="M50 32 Q26 24 12 26 M50 32 Q74 24 88 26" stroke="{dark}" stroke-width="5" fill="none"/>'
    '<rect x="39" y="20" width="22" height="24" rx="8" fill="{dark}"/>',
)
FLOWER = Prop(
    "flower",
    "pink",
    100,
    '<g fill="{main}"><circle cx="50" cy="22" r="21"/><circle cx="77" cy="41" r="21"/><circle cx="67" cy="73" r="21"/>'
    '<circle cx="33" cy="73" r="21"/><circle cx="23" cy="41" r="21"/></g><circle cx="50" cy="50" r="17" '
    'fill="#ffd23c"/>',
)
# Worn over the eyes.
GLASSES = Prop(
    "glasses",
    "black",
    40,
    '<g fill="#dff1fb" fill-opacity="0.45" stroke="{main}" stroke-width="7"><circle cx="25" cy="20" r="16"/>'
    '<circle cx="75" cy="20" r="16"/></g><path d="M41 18 Q50 11 59 18 M9 16 L0 12 M91 16 L100 12" stroke="{main}" '
    'stroke-width="7" fill="none"/>',
    article=False,
)
SUNGLASSES = Prop(
    "sunglasses",
    "black",
    40,
    '<path d="M2 6 H98 V14 Q94 38 74 38 Q58 38 55 16 H45 Q42 38 26 38 Q6 38 2 14 Z" fill="{main}"/>'
    '<path d="M12 12 L24 12 L14 26 Z M64 12 L76 12 L66 26 Z" fill="#ffffff" fill-opacity="0.35"/>',
    article=False,
)
HEART_GLASSES = Prop(
    "heart-shaped glasses",
    "pink",
    44,
    '<path d="M25 42 Q0 22 4 10 Q14 -3 25 10 Q36 -3 46 10 Q48 22 25 42 Z M75 42 Q52 22 54 10 Q64 -3 75 10 Q86 -3 96 10 '
    'Q100 22 75 42 Z" fill="{main}"/><path d="M44 14 H56" stroke="{dark}" stroke-width="6"/>'
    '<path d="M12 12 l8 0 -6 9 Z M62 12 l8 0 -6 9 Z" fill="#ffffff" fill-opacity="0.5"/>',
    article=False,
)
# Worn under the chin, and over the ears.
BOW_TIE = Prop("bow tie", "red", 64, BOW.front)
SCARF = Prop(
    "scarf",
    "red",
    60,
    '<path d="M66 22 L86 56 L66 60 L52 26 Z" fill="{dark}"/><path d="M4 4 Q50 26 96 4 Q102 20 92 28 Q50 46 8 28 Q-2 '
    '20 4 4 Z" fill="{main}"/><path d="M24 12 L20 33 M40 16 L39 38 M76 12 L80 33" stroke="{light}" stroke-width="5"/>',
)
HEADPHONES = Prop(
    "headphones",
    "black",
    84,
    '<path d="M11 56 Q11 6 50 6 Q89 6 89 56" stroke="{main}" stroke-width="8" fill="none"/>'
    '<rect x="0" y="44" width="20" height="38" rx="9" fill="{dark}"/><rect x="80" y="44" width="20" height="38" rx="9" '
    'fill="{dark}"/>',
    article=False,
)
# What carries.
SKATEBOARD = Prop(
    "skateboard",
    "red",
    26,
    '<path d="M2 2 Q8 8 16 8 H84 Q92 8 98 2 L99 6 Q94 15 84 15 H16 Q6 15 1 6 Z" fill="{main}"/>'
    '<circle cx="25" cy="19" r="6.5" fill="#3a3d44"/><circle cx="75" cy="19" r="6.5" fill="#3a3d44"/>'
    '<circle cx="25" cy="19" r="2.4" fill="#cfd4da"/><circle cx="75" cy="19" r="2.4" fill="#cfd4da"/>',
    seat=9,
)
TABLE = Prop(
    "table",
    "brown",
    50,
    '<rect x="10" y="8" width="8" height="42" fill="{dark}"/><rect x="82" y="8" width="8" height="42" fill="{dark}"/>'
    '<rect x="0" y="2" width="100" height="11" rx="3" fill="{main}"/>',
    seat=4,
)
RUG = Prop(
    "rug",
    "red",
    22,
    '<ellipse cx="50" cy="11" rx="50" ry="11" fill="{main}"/><ellipse cx="50" cy="11" rx="38" ry="7" fill="{light}"/>'
    '<ellipse cx="50" cy="11" rx="30" ry="5" fill="{dark}"/>',
    seat=13,
)
CUSHION = Prop(
    "cushion",
    "purple",
    32,
    '<path d="M4 6 Q50 -4 96 6 Q102 16 96 28 Q50 36 4 28 Q-2 16 4 6 Z" fill="{main}"/>'
    '<path d="M4 28 Q50 36 96 28 Q98 24 98 18 Q50 28 2 18 Q2 24 4 28 Z" fill="{dark}"/>',
    seat=10,
)
# What holds.
BOWL = Prop(
    "bowl",
    "blue",
    54,
    '<path d="M0 8 Q50 22 100 8 Q98 40 68 50 H32 Q2 40 0 8 Z" fill="{main}"/><path d="M34 46 H66 L70 54 H30 Z" '
    'fill="{dark}"/><path d="M10 20 Q12 32 24 40" stroke="{light}" stroke-width="5" fill="none"/>',
    '<ellipse cx="50" cy="9" rx="50" ry="8" fill="{dark}"/>',
    seat=34,
)
BOX = Prop(
    "box",
    "brown",
    64,
    '<rect x="10" y="14" width="80" height="50" fill="{main}"/><path d="M10 14 L0 26 H22 L30 14 Z M90 14 L100 26 H78 '
    'L70 14 Z" fill="{light}"/><rect x="42" y="14" width="16" height="14" fill="{dark}"/>',
    '<path d="M10 14 L18 4 H82 L90 14 Z" fill="{dark}"/>',
    seat=40,
)
CUP = Prop(
    "cup",
    "white",
    76,
    '<path d="M80 26 Q100 24 98 42 Q94 58 74 56" stroke="{dark}" stroke-width="7" fill="none"/>'
    '<path d="M8 10 Q45 22 82 10 L76 66 Q74 74 62 75 H28 Q16 74 14 66 Z" fill="{main}"/>'
    '<path d="M18 26 L21 58" stroke="{dark}" stroke-width="4"/>',
    '<ellipse cx="45" cy="11" rx="37" ry="8" fill="{dark}"/>',
    seat=44,
)
BOAT = Prop(
    "boat",
    "red",
    40,
    '<path d="M0 6 H100 Q94 36 78 38 H22 Q6 36 0 6 Z" fill="{main}"/><path d="M0 6 H100 L98 14 H2 Z" fill="{light}"/>',
    '<path d="M8 6 H92 V2 H8 Z" fill="{dark}"/>',
    seat=22,
)
BASKET = Prop(
    "basket",
    "brown",
    60,
    '<path d="M4 14 H96 L84 56 Q50 62 16 56 Z" fill="{main}"/><path d="M10 26 H90 M14 38 H86 M17 49 H83" '
    'stroke="{dark}" stroke-width="4"/><path d="M28 14 L33 58 M50 14 V60 M72 14 L67 58" stroke="{light}" '
    'stroke-width="4"/><rect x="0" y="8" width="100" height="10" rx="5" fill="{dark}"/>',
    '<ellipse cx="50" cy="10" rx="48" ry="7" fill="{dark}"/>',
    seat=34,
)
BATHTUB = Prop(
    "bathtub",
    "white",
    56,
    '<path d="M18 46 L12 56 H22 L26 48 Z M82 46 L88 56 H78 L74 48 Z" fill="#aab2bd"/>'
    '<path d="M2 12 H98 Q98 50 76 50 H24 Q2 50 2 12 Z" fill="{main}" stroke="#aab2bd" stroke-width="2"/>'
    '<rect x="0" y="8" width="100" height="8" rx="4" fill="{dark}"/>',
    '<g fill="#bfe6fb"><circle cx="14" cy="8" r="7"/><circle cx="30" cy="6" r="6"/><circle cx="70" cy="6" r="6"/>'
    '<circle cx="86" cy="8" r="7"/></g>',
    seat=30,
)
HATS = (PARTY_HAT, SANTA_HAT, WOOLLY_HAT, WIZARD_HAT, COWBOY_HAT, CHEF_HAT)
SPECTACLES = (GLASSES, SUNGLASSES, HEART_GLASSES)
CARRIERS = (SKATEBOARD, TABLE, RUG, CUSHION)
HOLDERS = (BOWL, BOX, CUP, BOAT, BASKET, BATHTUB)
EVERY = (*HATS, BOW, FLOWER, *SPECTACLES, BOW_TIE, SCARF, HEADPHONES, *CARRIERS, *HOLDERS)
