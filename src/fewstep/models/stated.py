"""What files say of themselves, and what wins where they say several things.

A fact is taken from the first of these that states it: fewstep's own record, the config that lies beside the weights,
the file's metadata, marker tensors, the names and shapes of its tensors, and last what it is called. What rests on a
name alone is announced (`Stated.announce`), for names are given by anybody.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from fewstep.errors import FewstepWarning

Source = Literal["record", "config", "metadata", "marker", "shapes", "name"]
ORDER: tuple[Source, ...] = ("record", "config", "metadata", "marker", "shapes", "name")
WORDS: Mapping[Source, str] = {
    "record": "fewstep's record in it",
    "config": "the config beside it",
    "metadata": "its metadata",
    "marker": "a marker tensor in it",
    "shapes": "the shapes of its tensors",
    "name": "its name alone",
}
RECORD = "fewstep"  # the metadata entry of files that fewstep wrote
GENERIC = re.compile(  # names that programs give to every file, so that the folder's name says what it is
    r"(pytorch_lora_weights|adapter_model|diffusion_pytorch_model|model|learned_embeds)(\.fp16|\.bf16|\.non_ema)?", re.I
)
_LCM = re.compile(r"(?:^|[^a-z])lcm(?:[^a-z]|lora|$)", re.I)
_HUB_CACHE = re.compile(r"models--(.+)--(.+)")

T = TypeVar("T")


@dataclass(frozen=True)
class Stated(Generic[T]):
    """A fact and what states it."""

    value: T
    by: Source

    @property
    def because(self) -> str:
        return WORDS[self.by]

    def announce(self, what: str, taken_for: str, otherwise: str) -> None:
        """Warn where the fact rests on a name alone: what it was taken for, and how to say otherwise."""
        if self.by == "name":
            warnings.warn(
                f"{what} is taken for {taken_for} by its name alone; {otherwise} says otherwise",
                FewstepWarning,
                stacklevel=3,
            )


def strongest(*found: Stated[T] | None) -> Stated[T] | None:
    """The one that wins; None where nothing states it."""
    return min((each for each in found if each is not None), key=lambda each: ORDER.index(each.by), default=None)


def names_of_file(path: Path, reference: str | None = None) -> tuple[str, ...]:
    """What a file or folder is called: its own name, its folder's where its own is one that programs give, and the
    hub's (`reference`, or from where the hub's cache keeps it).
    """
    names = [reference] if reference else []
    stem = path.name if path.is_dir() else path.stem
    names.append(stem)
    if GENERIC.fullmatch(stem) and not path.is_dir():
        names.append(path.resolve().parent.name or stem)
    cached = [found for parent in path.absolute().parents if (found := _HUB_CACHE.fullmatch(parent.name))]
    names += [f"{found[1]}/{found[2]}" for found in cached]
    return tuple(names)


def named_lcm(names: tuple[str, ...]) -> bool:
    """Whether one of the names has the letters LCM as a word of their own."""
    return any(_LCM.search(name) for name in names)


def json_in(metadata: Mapping[str, str], key: str) -> tuple[Mapping[str, Any], bool]:
    """(the JSON object under a key of a file's metadata, whether it can be read); empty where there is none."""
    if key not in metadata:
        return {}, True
    try:
        value = json.loads(metadata[key])
    except (json.JSONDecodeError, RecursionError):
        return {}, False
    return (value, True) if isinstance(value, dict) else ({}, False)


def few_step_adapter(record: Mapping[str, Any], metadata: Mapping[str, str], names: tuple[str, ...]) -> Stated[bool]:
    """Whether an adapter makes its base a few-step model: an LCM-LoRA, and no style.

    Metadata: the title or the name that its trainer gave it says LCM, or does not; a style's trainer (kohya's) is known
    by what it writes down of the pictures.
    """
    found: list[Stated[bool] | None] = []
    if record.get("kind") in ("lcm", "diffusion"):
        found.append(Stated(record["kind"] == "lcm", "record"))
    titles = [value for key in ("modelspec.title", "ss_output_name") if (value := metadata.get(key))]
    trained = any(key in metadata for key in ("ss_dataset_dirs", "ss_tag_frequency", "ss_num_train_images"))
    if titles or trained:
        found.append(Stated(named_lcm(tuple(titles)), "metadata"))
    if named_lcm(names):
        found.append(Stated(True, "name"))
    return strongest(*found) or Stated(False, "shapes")
