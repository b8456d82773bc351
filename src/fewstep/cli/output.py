"""Where pictures are written: checked before the work begins, and never half a file."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from fewstep.errors import CannotWrite
from fewstep.files import replacing
from fewstep.pipelines.provenance import PARAMETERS, RECORD

if TYPE_CHECKING:
    from PIL.Image import Image


def output_paths(output: Path, count: int) -> list[Path]:
    """The files of `count` pictures: `output` itself for one, else out-1.png, out-2.png, …

    Raises `CannotWrite` when they cannot be written there.
    """
    if output.suffix.lower() != ".png":
        raise CannotWrite(f"cannot write {output}: pictures are written as PNG, so the name must end in .png")
    if not output.parent.is_dir():
        raise CannotWrite(f"cannot write {output}: there is no folder {output.parent}; make it first")
    paths = [output] if count == 1 else [output.with_stem(f"{output.stem}-{i}") for i in range(1, count + 1)]
    for path in paths:
        if path.is_dir():
            raise CannotWrite(f"cannot write {path}: it is a folder; give a file name that ends in .png")
    _check_writable(output)
    return paths


def write_png(image: Image, path: Path) -> None:
    """Write a picture with its parameters, under a temporary name that becomes `path` when it is whole."""
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    for chunk in (RECORD, PARAMETERS):
        if chunk in image.info:
            text.add_text(chunk, image.info[chunk])
    with replacing(path) as temporary:
        image.save(temporary, format="PNG", pnginfo=text)


def _check_writable(path: Path) -> None:
    """Raises `CannotWrite` where no file can be made beside `path`."""
    try:
        with TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise CannotWrite(f"cannot write {path}: {error.strerror or error}") from error
