"""Where pictures are written: checked before the work begins, and never half a file."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

import typer

from fewstep.errors import CannotWrite
from fewstep.files import replacing
from fewstep.imaging.inscription import PARAMETERS, RECORD, written_with

if TYPE_CHECKING:
    from PIL.Image import Image

STDOUT = Path("-")
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
ANIMATED = {".webp": "WEBP", ".gif": "GIF", ".png": "PNG"}
QUALITY: Mapping[str, Mapping[str, int]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"quality": 95, "method": 4},
}
ANIMATED_QUALITY: Mapping[str, Mapping[str, int]] = {
    "WEBP": {"quality": 90, "method": 4},
    "GIF": {"optimize": True, "disposal": 2},
}


def output_paths(output: Path, count: int) -> list[Path]:
    """The files of `count` pictures: `output` itself for one, else out-1.png, out-2.png, …; - is standard output.

    Raises `CannotWrite` when they cannot be written there.
    """
    paths = [output] if count == 1 else [output.with_stem(f"{output.stem}-{i}") for i in range(1, count + 1)]
    if output == STDOUT and count > 1:
        raise CannotWrite(
            f"cannot write {count} pictures to standard output: give -o NAME.png, or --grid for one sheet"
        )
    check_outputs(paths, FORMATS)
    return paths


def check_outputs(paths: list[Path], formats: Mapping[str, str] | None) -> None:
    """Raises `CannotWrite` where files of these names cannot be written: pictures of one of `formats` by their endings,
    or for None anything.
    """
    if formats is not None and paths == [STDOUT]:
        if sys.stdout.isatty():
            raise CannotWrite(
                "cannot write a picture to a terminal: send it on, as in fewstep generate … -o - > cat.png"
            )
        return
    for path in paths:
        if formats is not None and path.suffix.lower() not in formats:
            raise CannotWrite(f"cannot write {path}: the name must end in {', '.join(formats)}")
        if not path.parent.is_dir():
            raise CannotWrite(f"cannot write {path}: there is no folder {path.parent}; make it first")
        try:
            is_folder = path.is_dir()
        except OSError as error:  # a name that is too long
            raise CannotWrite(f"cannot write {path}: {error.strerror or error}") from error
        if is_folder and formats is not None:
            raise CannotWrite(f"cannot write {path}: it is a folder; give the name of a file")
    for folder in {path.parent for path in paths}:
        check_folder(folder, paths[0])


def check_folder(folder: Path, output: Path) -> None:
    """Raises `CannotWrite`, naming `output`, where no file can be made in an existing folder."""
    try:
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise CannotWrite(f"cannot write {output}: {error.strerror or error}") from error


def check_new_folder(output: Path) -> None:
    """Raises `CannotWrite` where no folder of that name, with files in it, can be made; makes none."""
    place = output
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise CannotWrite(f"cannot write {output}: {place} is no folder")
    check_folder(place, output)


def write_picture(image: Image, path: Path) -> None:
    """Write a picture with its parameters, under a temporary name that becomes `path` when it is whole."""
    form = FORMATS[path.suffix.lower() or ".png"]
    save(path, [image], form, **QUALITY.get(form, {}))


def write_animation(frames: list[Image], path: Path, fps: float) -> None:
    """Write frames as one animation, which carries the parameters of the first."""
    form = ANIMATED[path.suffix.lower() or ".webp"]
    save(path, frames, form, duration=round(1000 / fps), loop=0, **ANIMATED_QUALITY.get(form, {}))


def save(path: Path, images: list[Image], form: str, **settings: int) -> None:
    first, *rest = images
    said = written_with({name: first.info[name] for name in (RECORD, PARAMETERS) if name in first.info}, form)
    options = {**settings, **said, **({"save_all": True, "append_images": rest} if rest else {})}
    if path == STDOUT:
        file = io.BytesIO()
        first.save(file, format=form, **options)
        sys.stdout.buffer.write(file.getvalue())
        sys.stdout.buffer.flush()
        return
    with replacing(path) as temporary:
        first.save(temporary, format=form, **options)


def line_about(image: Image, path: Path, as_json: bool) -> str:
    """What standard output says of a picture that was written: its path, or an object with that and its parameters."""
    if not as_json:
        return str(path)
    return json.dumps({"path": str(path), **json.loads(image.info[RECORD])}, ensure_ascii=False)


def say(lines: list[str], output: Path) -> None:
    """On standard output, where that is not what the pictures went to."""
    for line in lines:
        typer.echo(line, err=output == STDOUT)
