"""Where files lie: names of models, networks and weights in folders, and what is fetched from the hub."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fewstep.errors import InvalidModel, ModelNotFound
from fewstep.files import Json
from fewstep.models.variants import FITTING, HUB_PATTERNS, chosen_variant, name_of_dtype, variants_in

if TYPE_CHECKING:
    import torch

STARTER = Path(__file__).parent / "starter"
BUILT_IN = {"starter": STARTER, "starter-teacher": STARTER / "teacher"}
ADAPTERS = {
    name: STARTER / "adapters" / f"{name}.safetensors" for name in ("lcm-lora", "blue-ink", "blue-ink-lcf", "openmoji")
}
FAST_DECODER = "fast_decoder"
PACKED = "weights.packed.safetensors"  # in a part of the starter, in the place of diffusers' file (`packed.py`)
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")

IS_A_PICKLE = (
    "is a pickle, which can run any code when it is read: fewstep reads safetensors only. Where you trust it: read it "
    "with torch.load(…, weights_only=True) and save it with safetensors.torch.save_file (docs/models.md shows how)"
)
IS_A_REFINER = "is an SDXL refiner, which only refines what the base has made: give the base"

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(?<!\.safetensors)")  # which is a file that is not there
_HUB_FILE = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*/.+\.safetensors")


def reference_of(name: str | Path) -> str | None:
    """The name itself where it means the same on another machine (built in, on the hub); None for files and folders."""
    return None if str(name) not in BUILT_IN and Path(name).expanduser().exists() else str(name)


def name_of(source: str | Path) -> str:
    """The last part of a path or hub id: what requests call a network by."""
    return str(source).rstrip("/").split("/")[-1].removesuffix(".safetensors")


def names_of(sources: Iterable[str | Path]) -> list[str]:
    """The same for several: one that comes again gets a number, as each reads a picture of its own."""
    names = [name_of(source) for source in sources]
    earlier = [names[:place].count(name) for place, name in enumerate(names)]
    return [f"{name}-{before + 1}" if before else name for name, before in zip(names, earlier, strict=True)]


def find_weights(part: Path, dtype: torch.dtype | None = None, variant: str | None = None) -> tuple[Path, ...]:
    """The safetensors files that a part is read from (`variants.chosen_variant`).

    Raises `InvalidModel` where there are only pickles, or none of them fits.
    """
    if (file := part / PACKED).is_file():
        from fewstep.models.packed import base_of

        base = base_of(file)
        return (file,) if base is None else (file, base)
    files = variants_in(part).get(chosen_variant(part, dtype, variant))
    if files:
        return files
    pickles = [path.name for path in part.iterdir() if path.suffix in PICKLES]
    if pickles:
        raise InvalidModel(f"{part} has its weights only as a pickle: {pickles[0]} {IS_A_PICKLE}")
    raise InvalidModel(f"{part} has no weights (a .safetensors file as diffusers and transformers name them)")


def read_json(path: Path) -> Mapping[str, Json]:
    """A JSON object from a file; raises `InvalidModel` when it is not one."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InvalidModel(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidModel(f"{path} must hold a JSON object")
    return value


def locate_network(
    name: str | Path, what: str, within: str, variant: str | None = None, dtype: torch.dtype | None = None
) -> Path:
    """The folder of one network: itself, the folder `within` a model, or a hub repository; raises like `locate`.

    what  the network is, in the messages: "autoencoder"
    """
    path = Path(name).expanduser()
    if path.is_dir():
        home = path if (path / "config.json").is_file() else path / within
        if not (home / "config.json").is_file():
            raise InvalidModel(f"{path} holds no {what}: it has neither config.json nor {within}/config.json")
        return home
    if path.is_file():
        raise InvalidModel(about_file(path) if path.suffix in PICKLES else f"{path}: give the folder of an {what}")
    if HUB_ID.fullmatch(str(name)):
        return download(str(name), ["config.json", "*.safetensors"], variant=variant, dtype=dtype, parts=("",))
    raise ModelNotFound(f"no {what} {str(name)!r}: give an existing folder, or a hub id (owner/name)")


def is_elsewhere(name: str | Path) -> bool:
    """Whether a model's name can only mean a repository on the hub."""
    here = str(name) in BUILT_IN or Path(name).expanduser().exists()
    return not here and HUB_ID.fullmatch(str(name)) is not None


def check_there(name: str | Path, what: str) -> None:
    """Raises `ModelNotFound` where a part beside the model is neither here nor can be on the hub; fetches nothing."""
    path = Path(name).expanduser()
    if not path.exists() and not (_HUB_FILE.fullmatch(str(name)) or HUB_ID.fullmatch(str(name))):
        raise ModelNotFound(f"no {what} {str(name)!r}: give an existing folder or .safetensors file, or a hub id")


def about_file(path: Path) -> str:
    if path.suffix in PICKLES:
        return f"{path} {IS_A_PICKLE}"
    return f"{path} is no model: give a folder as diffusers writes it, or one .safetensors file with a whole checkpoint"


def download(
    hub_id: str,
    files: Sequence[str],
    variant: str | None = None,
    dtype: torch.dtype | None = None,
    parts: Sequence[str] = (),
) -> Path:
    """Fetch the files of a hub repository that fewstep reads (or take them from the cache).

    Variants are left there, unless one is wanted, or some of the `parts` (folders with a config) have nothing else:
    then the one that fits `dtype`.
    """
    if variant is None:
        folder = _snapshot(hub_id, files, HUB_PATTERNS)
    else:
        others = [pattern for pattern in files if not pattern.endswith(".safetensors")]
        folder = _snapshot(hub_id, [*others, *_weights(parts, variant)], ())
    for each in FITTING[name_of_dtype(dtype)] if variant is None else ("",):
        if missing := _without_weights(folder, parts):
            folder = _snapshot(hub_id, _weights(missing, each), () if each else HUB_PATTERNS)
    if missing := _without_weights(folder, parts):
        folder = _snapshot(hub_id, _weights(missing, ""), ())
    return folder


def _without_weights(folder: Path, parts: Sequence[str]) -> list[str]:
    return [part for part in parts if (folder / part / "config.json").is_file() and not _has_weights(folder / part)]


def _has_weights(part: Path) -> bool:
    return (part / PACKED).is_file() or bool(variants_in(part))


def _weights(parts: Sequence[str], variant: str) -> list[str]:
    """The patterns of the parts' weights in a repository; of those of a variant also the lists of shards."""
    homes = [f"{part}/" if part else "" for part in parts]
    endings = (f"*.{variant}*.safetensors", f"*.{variant}.json") if variant else ("*.safetensors",)
    return [home + ending for home in homes for ending in endings]


def _snapshot(hub_id: str, files: Sequence[str], ignored: Sequence[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(hub_id, allow_patterns=list(files), ignore_patterns=list(ignored)))
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ModelNotFound(
            f"no model {hub_id!r}: there is no such folder here and no such model on the hub"
        ) from error
    except OSError as error:
        raise ModelNotFound(
            f"no model {hub_id!r}: there is no such folder here, it is not in the local cache, "
            f"and the hub cannot be reached ({type(error).__name__}); go online, or use --model starter"
        ) from error
