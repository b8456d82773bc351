"""Which colour word people would use: of a colour, and of what dominates a picture. numpy alone."""

from __future__ import annotations

import numpy as np

WORDS = ("red", "orange", "yellow", "green", "teal", "blue", "purple", "pink", "brown", "black", "grey", "white")
HUES = ((14, "red"), (41, "orange"), (66, "yellow"), (160, "green"), (192, "teal"), (252, "blue"), (300, "purple"))
VIVID = 0.3  # saturation from which a pixel has a hue
DOMINATES = 0.25  # of the ink that must have a hue, for a picture to have a colour that is no grey


def hsv(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hue in degrees, saturation and value in [0, 1], of (..., 3) in [0, 1]."""
    r, g, b = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    value, low = rgb.max(-1), rgb.min(-1)
    span = value - low
    safe = np.where(span > 0, span, 1)
    hue = np.where(value == r, (g - b) / safe % 6, np.where(value == g, (b - r) / safe + 2, (r - g) / safe + 4))
    return hue * 60, span / np.maximum(value, 1e-6), value


def words_of(rgb: np.ndarray) -> np.ndarray:
    """Of colours (..., 3) in [0, 1]: the places of their words in `WORDS`."""
    hue, saturation, value = hsv(rgb)
    found = np.select([hue < edge for edge, _ in HUES], [WORDS.index(word) for _, word in HUES], WORDS.index("pink"))
    found = np.where(hue >= 340, WORDS.index("red"), found)
    warm = (hue < 42) | (hue > 345)
    found = np.where((saturation < 0.55) & (value > 0.75) & ((hue > 290) | (hue < 20)), WORDS.index("pink"), found)
    found = np.where((value < 0.72) & warm & (saturation < 0.85), WORDS.index("brown"), found)
    pale = np.where(value > 0.88, WORDS.index("white"), WORDS.index("grey"))
    found = np.where(saturation < 0.16, pale, found)
    return np.where(value < 0.28, WORDS.index("black"), found)


def word_of(colour: np.ndarray) -> str:
    """Of one colour (3,) in [0, 1]."""
    return WORDS[int(words_of(colour[None].astype(np.float32))[0])]


def dominating(rgb: np.ndarray) -> str:
    """Of pixels (N, 3) in [0, 1]: the word that most of those say that have a hue, else that of most of the others.

    "" where there are no pixels.
    """
    if len(rgb) == 0:
        return ""
    _, saturation, value = hsv(rgb)
    vivid = (saturation > VIVID) & (value > 0.25)
    counted = words_of(rgb[vivid] if vivid.mean() > DOMINATES else rgb)
    return WORDS[int(np.bincount(counted, minlength=len(WORDS)).argmax())]
