"""The real pictures that generated ones are compared to: a folder, an array, or features of them that were kept."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL.Image import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from fewstep.data.walk import contents, shown
from fewstep.errors import FewstepWarning, InvalidRequest
from fewstep.evaluate.features import FeatureNetwork
from fewstep.files import write_tensors
from fewstep.imaging.pixels import to_images, to_pixels
from fewstep.imaging.reading import read_image
from fewstep.models import packed

BUILT_IN = "builtin"
FILE = Path(__file__).parent / "art.safetensors"  # the eye's features of the art that the starter learnt from
FEWEST = 16
BATCH = 16


@dataclass(frozen=True, eq=False)
class Reference:
    """`features` (M, D) of real pictures; `pictures` gives number i with its name, None where only features are
    left."""

    features: Tensor
    source: str
    identity: str
    pictures: Callable[[int], tuple[Image, str]] | None = None


def check_reference(source: str | Path | None) -> None:
    """Raises `InvalidRequest` for what cannot be a reference, before any network is loaded."""
    if source is None or str(source) == BUILT_IN:
        return
    path = Path(source)
    if path.is_dir():
        found = contents(path)
        if len(found.pictures) < FEWEST:
            raise InvalidRequest(
                f"the reference {path} holds {len(found.pictures)} pictures that can be used; it takes at least "
                f"{FEWEST}, and hundreds to say something" + "".join(f"; {note}" for note in found.notes())
            )
    elif path.suffix == ".safetensors" and path.is_file():
        _kind(path)
    elif path.exists():
        raise InvalidRequest(f"the reference {path} is neither a folder of pictures nor a .safetensors file")
    else:
        raise InvalidRequest(
            f"there is no reference {path}; give a folder of pictures, or kept features (.safetensors)"
        )


def read_reference(
    source: str | Path,
    network: FeatureNetwork,
    size: tuple[int, int],
    keep: Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Reference:
    """The features of a reference.

    source  a folder of pictures (searched through, with all folders in it); a .safetensors file with `pixels` uint8
            (M, H, W, 3); or one with `features` that was kept before; or "builtin", the art of the starter
    size    height and width in pixels to which pictures are cut: those of the generated ones
    keep    where to keep the features, so that the same pictures need not be looked at again; may be a source, too

    Raises `InvalidRequest`.
    """
    check_reference(source)
    if str(source) == BUILT_IN:
        return _kept(FILE, network)
    path = Path(source)
    if path.is_file() and _kind(path) == "features":
        return _kept(path, network)
    pictures, identity = _pictures(path)
    identity = hashlib.sha256(f"{identity} {size} {network.identity}".encode()).hexdigest()[:12]
    if keep is not None and keep.is_file():
        with safe_open(keep, "pt") as opened:
            if (opened.metadata() or {}).get("identity") == identity:
                return Reference(load_file(keep)["features"], str(source), identity, pictures)
    features = torch.cat(list(_looked(pictures, len(pictures), network, size, on_progress)))
    check_differ(features, f"the reference {path}")
    if keep is not None:
        write_tensors(keep, {"features": features}, {"identity": identity, "network": network.identity})
    return Reference(features, str(source), identity, pictures)


def check_differ(features: Tensor, what: str) -> None:
    """Raises `InvalidRequest` where all pictures look the same to the network (all black, say)."""
    if float(features.double().var(0, correction=0).sum()) < 1e-9:
        raise InvalidRequest(f"all {len(features)} pictures of {what} are the same (all of one colour?)")


class _Folder:
    def __init__(self, files: list[Path]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __call__(self, index: int) -> tuple[Image, str]:
        return read_image(self.files[index]), shown(Path(self.files[index].stem))


class _Array:
    def __init__(self, pixels: Tensor) -> None:
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def __call__(self, index: int) -> tuple[Image, str]:
        pixels = self.pixels[index].permute(2, 0, 1)[None].float() / 127.5 - 1.0
        return to_images(pixels)[0], f"number {index + 1}"


def _pictures(path: Path) -> tuple[_Folder | _Array, str]:
    """The pictures, and what changes when they do."""
    if path.is_dir():
        found = contents(path)
        for note in found.notes():
            warnings.warn(f"the reference {path}: {note}", FewstepWarning, stacklevel=3)
        files = found.pictures
        stats = (f"{file.relative_to(path)} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files)
        return _Folder(files), hashlib.sha256("\n".join(stats).encode()).hexdigest()
    return _Array(load_file(path)["pixels"]), f"{path.stat().st_size} {path.stat().st_mtime_ns}"


def _looked(
    pictures: _Folder | _Array,
    count: int,
    network: FeatureNetwork,
    size: tuple[int, int],
    on_progress: Callable[[int, int], None] | None,
) -> Iterator[Tensor]:
    for start in range(0, count, BATCH):
        batch = [to_pixels(pictures(index)[0], *size) for index in range(start, min(start + BATCH, count))]
        yield network.look(torch.cat(batch)).features
        if on_progress is not None:
            on_progress(min(start + BATCH, count), count)


def _kind(path: Path) -> str:
    """What a .safetensors file holds, "pixels" or "features"; raises `InvalidRequest` where it is neither."""
    try:
        with safe_open(path, "pt") as opened:
            kinds = {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise InvalidRequest(f"the reference {path} cannot be read as safetensors: {error}") from error
    for name, dimensions in (("pixels", 4), ("features", 2)):
        shape = kinds.get(name)
        if shape is not None and len(shape) == dimensions and (name == "features" or shape[-1] == 3):
            if shape[0] < FEWEST:
                raise InvalidRequest(f"the reference {path} holds {shape[0]} pictures; it takes at least {FEWEST}")
            return name
    raise InvalidRequest(f"the reference {path} holds neither `pixels` (M, H, W, 3) nor `features` (M, D)")


def _kept(path: Path, network: FeatureNetwork) -> Reference:
    stored, metadata = packed.read(path)
    if metadata.get("network") != network.identity:
        raise InvalidRequest(
            f"the features in {path.name} were made by another network ({metadata.get('network')}) than the one that "
            f"looks now ({network.identity}); give the pictures themselves as --reference"
        )
    features = stored["features"].float()
    check_differ(features, f"the reference {path.name}")
    source = "the art of the starter (built in)" if path == FILE else str(path)
    return Reference(features, source, metadata.get("identity", digest_of(features)))


def digest_of(features: Tensor) -> str:
    """The first 12 hex digits of a SHA-256 over the numbers."""
    return hashlib.sha256(features.contiguous().numpy().tobytes()).hexdigest()[:12]
