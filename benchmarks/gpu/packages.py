"""What `make gpu` imports beside the standard library: there already, or brought as wheels. The one list of it."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]

# Import names of a CUDA image of PyTorch with the usual libraries of its users, and what those need themselves.
THERE = frozenset({
    "torch", "torchvision", "triton", "functorch", "torchgen", "cuda", "nvidia",
    "filelock", "fsspec", "jinja2", "markupsafe", "mpmath", "networkx", "setuptools", "sympy", "typing_extensions",
    "accelerate", "huggingface_hub", "peft", "safetensors", "tokenizers", "transformers",
    "certifi", "charset_normalizer", "hf_xet", "idna", "packaging", "regex", "requests", "tqdm", "urllib3", "yaml",
    "anyio", "click", "h11", "httpcore", "httpx", "httpcore2", "httpx2", "truststore",
    "PIL", "cv2", "msgpack", "numpy", "prometheus_client", "psutil", "scipy",
    "annotated_doc", "markdown_it", "mdurl", "pygments", "rich", "shellingham", "typer",
    "_hypothesis_ftz_detector", "_hypothesis_globals", "_hypothesis_pytestplugin", "attr", "attrs", "hypothesis",
    "sortedcontainers",
    "_pytest", "iniconfig", "pluggy", "py", "pytest",
})  # fmt: skip

# Import names by the package that brings them. Its version is the one in constraints.txt.
WHEELS = {
    "diffusers": ("diffusers",),
    "greenlet": ("greenlet",),
    "resvg_py": ("resvg_py",),
    "simplejpeg": ("simplejpeg",),
}

OWN = frozenset({"fewstep", "benchmarks", "recipes", "tests", "conftest"}) | {
    path.stem for path in (ROOT / "tests").glob("*.py")
}
ALLOWED = THERE | OWN | frozenset(sys.stdlib_module_names) | {name for names in WHEELS.values() for name in names}


class OnlyListed(PathFinder):
    """Finds what is listed here, as if nothing else were installed."""

    @classmethod
    def find_spec(
        cls, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        of_python = fullname.startswith("_sysconfigdata")  # a module of the standard library named by the platform
        if path is None and not of_python and fullname.partition(".")[0] not in ALLOWED:
            return None
        return super().find_spec(fullname, path, target)


def only_listed() -> None:
    """From now on this process imports nothing else, nor finds it when it looks whether it is there."""
    sys.meta_path[:] = [
        OnlyListed if finder is PathFinder else finder
        for finder in sys.meta_path
        if finder is PathFinder or finder.__module__ == "_frozen_importlib"  # drops those of editable installs
    ]


def unpack_missing(wheels: Path, into: Path) -> list[str]:
    """Unpack the wheels of what is not installed here; returns their names. Raises `SystemExit` for one that lacks."""
    missing = [package for package, names in WHEELS.items() if any(find_spec(name) is None for name in names)]
    for package in missing:
        found = sorted(wheels.glob(f"{package}-*.whl"))
        if len(found) != 1:
            raise SystemExit(
                f"{package} is not installed, and {wheels} holds {len(found)} wheels of it instead of one: run "
                "`make gpu-wheels` where there is a package index, and bring the folder"
            )
        with zipfile.ZipFile(found[0]) as wheel:
            wheel.extractall(into)
    return missing
