"""Which colour dominates a drawing, and the same drawing in another colour."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fewstep.evaluate.colours import hsv, word_of

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (221, 46, 56),
    "orange": (245, 140, 20),
    "yellow": (254, 206, 50),
    "green": (70, 168, 70),
    "blue": (50, 118, 216),
    "purple": (142, 76, 186),
    "pink": (246, 128, 182),
    "brown": (138, 88, 58),
    "black": (52, 52, 58),
    "white": (243, 243, 245),
    "grey": (150, 155, 162),
    "teal": (24, 162, 158),
}
OTHER_COLOURS = ("golden", "gold", "silver", "violet", "gray", "turquoise", "colourful")
WINDOW = 40.0  # degrees of hue on either side that count as the same paint
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True, slots=True)
class Paint:
    """What a drawing is mostly painted with.

    hue    degrees; None: it is grey or white
    level  luminance of the flat colour, 0 to 1
    word   which of `COLOURS` that is
    plain  the part of the drawing that is another paint or a dark line, so that white and black things keep a shape
    """

    hue: float | None
    level: float
    word: str
    plain: float


def dominant_paint(rgba: np.ndarray) -> Paint | None:
    """Of a picture uint8 (H, W, 4); None where no hue dominates and it is not grey either."""
    seen = rgba[rgba[..., 3] > 200][:, :3].astype(np.float32) / 255
    if len(seen) < 300:
        return None
    hue, saturation, value = hsv(seen)
    level = seen @ LUMINANCE
    vivid = (saturation > 0.3) & (value > 0.25)
    if vivid.mean() > 0.4:
        bins = np.bincount((hue[vivid] / 10).astype(int) % 36, minlength=36)
        around = sum(np.roll(bins, step) for step in range(-4, 5))
        centre = 10 * int(np.argmax(around)) + 5
        same = vivid & (_apart(hue, centre) < WINDOW + 5)
        if same.mean() < 0.42 or same.sum() < 0.84 * vivid.sum():
            return None
        radians = np.deg2rad(hue[same])
        mean = float(np.rad2deg(np.arctan2(np.sin(radians).mean(), np.cos(radians).mean())) % 360)
        base = np.median(seen[same], axis=0)
        return Paint(round(mean, 1), round(float(np.median(level[same])), 3), word_of(base), _rest(same))
    grey = (saturation < 0.22) & (level > 0.3)
    if vivid.mean() > 0.12 or grey.mean() < 0.5:
        return None
    base = np.median(seen[grey], axis=0)
    return Paint(None, round(float(np.median(level[grey])), 3), word_of(base), _rest(grey))


def _rest(same: np.ndarray) -> float:
    return round(1 - float(same.mean()), 3)


def recoloured(rgba: np.ndarray, paint: Paint, colour: tuple[float, float, float]) -> np.ndarray:
    """What has the drawing's paint, in another colour (RGB, 0 to 255), its light and shade kept; uint8 (H, W, 4)."""
    rgb = rgba[..., :3].astype(np.float32) / 255
    hue, saturation, value = hsv(rgb)
    level = rgb @ LUMINANCE
    if paint.hue is None:
        weight = _ramp(0.32, 0.2, saturation) * _ramp(0.12, 0.3, level)
    else:
        weight = _ramp(WINDOW + 18, WINDOW, _apart(hue, paint.hue)) * _ramp(0.1, 0.25, saturation * (value > 0.04))
    shade = np.minimum(level / paint.level, 1.0)
    light = np.clip((level - paint.level) / (1.0 - paint.level + 1e-3), 0, 1) * 0.85
    target = np.asarray(colour, np.float32) / 255
    if target.min() > 0.85:
        shade = shade**0.6  # white has little shade
    painted = target * shade[..., None]
    painted += (1 - painted) * light[..., None]
    mixed = rgb + (painted - rgb) * weight[..., None]
    return np.dstack([(mixed * 255 + 0.5).astype(np.uint8), rgba[..., 3:]])


def _ramp(zero: float, one: float, x: np.ndarray) -> np.ndarray:
    return np.clip((x - zero) / (one - zero), 0, 1)


def _apart(hue: np.ndarray, centre: float) -> np.ndarray:
    return np.abs((hue - centre + 180) % 360 - 180)
