"""Adapters that a prompt names: found among those of the starter, or as files where such things are kept."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from fewstep.errors import InvalidRequest
from fewstep.models.locating import ADAPTERS, BUILT_IN, name_of

FOLDERS = "FEWSTEP_LORAS"  # the environment variable with folders to look in, separated as in PATH


def found_by_name(
    names: Iterable[str], given: Sequence[str | tuple[str, float]], model: str
) -> list[tuple[str, float]]:
    """The adapters of those names that are not among the `given` ones, to be loaded beside them; by default none of
    them is taken, so that only what names one has it.

    Looked for are, with one of the built-in models, the adapters that come with it, and NAME.safetensors in the working
    folder, in `loras/` there, and in the folders that FEWSTEP_LORAS lists. Nothing is fetched. Raises `InvalidRequest`
    for one that is not found, where none are given; else it may be one of those, and `complete` refuses it.
    """
    wanted = list(dict.fromkeys(names))
    if not wanted:
        return []
    from fewstep.models.adapters.lora.source import LoraSpec

    here = {name_of(LoraSpec.of(each).source) for each in given}
    sources = {name: _source(name, model) for name in wanted if name not in here}
    if lost := [name for name, source in sources.items() if source is None and not given]:
        raise InvalidRequest(
            f"the prompt names the LoRA {lost[0]!r}, which is not here: give it with --lora, or put "
            f"{lost[0]}.safetensors into loras/ or a folder that {FOLDERS} lists"
        )
    return [(source, 0.0) for source in sources.values() if source is not None]


def _source(name: str, model: str) -> str | None:
    if name in ADAPTERS and model in BUILT_IN:
        return name
    if name != Path(name).name or "\\" in name:  # a name, and no way to elsewhere
        return None
    return next(
        (str(file) for file in (folder / f"{name}.safetensors" for folder in _folders()) if file.is_file()), None
    )


def _folders() -> Iterator[Path]:
    yield from (Path(), Path("loras"))
    yield from (Path(folder).expanduser() for folder in os.environ.get(FOLDERS, "").split(os.pathsep) if folder)
