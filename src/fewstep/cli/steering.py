"""`--control NET=PICTURE:SCALE`, for every command that generates."""

from __future__ import annotations

from collections.abc import Sequence

from fewstep.errors import InvalidRequest
from fewstep.imaging.reading import read_image
from fewstep.models.locating import names_of
from fewstep.pipelines.request import Control


def read_controls(given: Sequence[str], *, need_pictures: bool = True) -> tuple[list[str], dict[str, Control]]:
    """The networks to load, and by their names the pictures that they read; raises `InvalidRequest`.

    need_pictures  False where NET alone will do, as for a server, whose clients bring pictures
    """
    nets, controls = [], []
    for text in given:
        net, equals, file = text.rpartition("=")
        if (need_pictures and not equals) or (equals and not (net and file)):
            raise InvalidRequest(f"--control {text[:60]!r}: give NET=PICTURE, with :SCALE behind it where it is not 1")
        nets.append(net or text)
        controls.append(_control(file) if equals else None)
    return nets, {name: control for name, control in zip(names_of(nets), controls, strict=True) if control is not None}


def _control(file: str) -> Control:
    path, _, scale = file.rpartition(":")
    try:
        number = float(scale) if path else None
    except ValueError:  # the colon is part of the path
        number = None
    return Control(read_image(file)) if number is None else Control(read_image(path), number)
