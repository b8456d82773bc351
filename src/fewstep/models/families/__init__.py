"""The families of models, one file or folder each: whatever lies here and has `FAMILIES` is known everywhere, as are
the formats of whole models in one file that are listed as `FORMATS`.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

from fewstep.models.config import Config
from fewstep.models.families.base import Family
from fewstep.models.families.checkpoint import FileFormat


@cache
def _modules() -> tuple[ModuleType, ...]:
    return tuple(import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__))


@cache
def families() -> tuple[Family, ...]:
    """All of them, in the order of their files."""
    return tuple(family for module in _modules() for family in getattr(module, "FAMILIES", ()))


@cache
def file_formats() -> tuple[FileFormat, ...]:
    """The formats of whole models in one file."""
    return tuple(form for module in _modules() for form in getattr(module, "FORMATS", ()))


def recognise(config: Config) -> Family | None:
    """The family of a network whose config lies on the disk; where its sizes are nobody's, one that is called alike."""
    found = [kin for family in families() if (kin := family.recognise(config)) is not None]
    return next((family for family in found if family in families()), found[0] if found else None)


def denoisers() -> tuple[str, ...]:
    """The folders that a denoising network may lie in."""
    return tuple(dict.fromkeys(family.denoiser for family in families()))


def text_encoders() -> tuple[str, ...]:
    """The folders that a text encoder may lie in."""
    return tuple(dict.fromkeys(part for family in families() for part in family.encoders))
