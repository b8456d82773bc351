"""What files say of themselves, and what wins where they say several things.

A fact is taken from the first of these that states it: fewstep's own record, the config that lies beside the weights,
the file's metadata, marker tensors, the names and shapes of its tensors, and last what it is called. What rests on a
name alone is announced (`Stated.announce`), for names are given by anybody.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeVar

from fewstep.errors import FewstepWarning, InvalidModel
from fewstep.files import Json
from fewstep.models.locating import read_json

Evidence = Literal["record", "config", "metadata", "marker", "shapes", "name"]
ORDER: tuple[Evidence, ...] = ("record", "config", "metadata", "marker", "shapes", "name")
WORDS: Mapping[Evidence, str] = {
    "record": "fewstep's record in it",
    "config": "the config beside it",
    "metadata": "its metadata",
    "marker": "a marker tensor in it",
    "shapes": "the shapes of its tensors",
    "name": "its name alone",
}
MAX_YAML = 1_000_000  # bytes
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
    by: Evidence

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
        names.append(path.absolute().parent.name or stem)
    cached = [found for parent in path.absolute().parents if (found := _HUB_CACHE.fullmatch(parent.name))]
    names += [f"{found[1]}/{found[2]}" for found in cached]
    return tuple(names)


def named_lcm(names: tuple[str, ...]) -> bool:
    """Whether one of the names has the letters LCM as a word of their own."""
    return any(_LCM.search(name) for name in names)


def json_in(metadata: Mapping[str, str], key: str) -> tuple[Mapping[str, Json], bool]:
    """(the JSON object under a key of a file's metadata, whether it can be read); empty where there is none."""
    if key not in metadata:
        return {}, True
    try:
        value = json.loads(metadata[key])
    except (json.JSONDecodeError, RecursionError):
        return {}, False
    return (value, True) if isinstance(value, dict) else ({}, False)


def few_step_adapter(record: Mapping[str, Json], metadata: Mapping[str, str], names: tuple[str, ...]) -> Stated[bool]:
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


_V = re.compile(r"(?:^|[^a-z])v[-_ ]?pred(?:iction)?(?:[^a-z]|$)", re.I)
_EPSILON = re.compile(r"(?:^|[^a-z])eps(?:ilon)?(?:[-_ ]?pred(?:iction)?)?(?:[^a-z]|$)", re.I)
_OF_512 = re.compile(r"(?:^|[^0-9])512(?:[^0-9]|$)")
_ZERO_SNR = re.compile(r"z(?:t|ero[-_ ]?)?(?:terminal[-_ ]?)?snr", re.I)
_PREDICTIONS = {
    "v": "v_prediction",
    "v_prediction": "v_prediction",
    "v-prediction": "v_prediction",
    "v_pred": "v_prediction",
    "eps": "epsilon",
    "epsilon": "epsilon",
    "sample": "sample",
}
_ARCHITECTURES = {"stable-diffusion-v2-768-v": "v_prediction", "stable-diffusion-v2-512": "epsilon"}
_TRUE = {"true": True, "1": True, "false": False, "0": False}


def prediction(
    record: Mapping[str, Json],
    beside: Mapping[str, Json],
    metadata: Mapping[str, str],
    tensors: Collection[str],
    names: tuple[str, ...],
    default: str,
) -> Stated[str]:
    """What a checkpoint's network predicts, in diffusers' words; `default` where nothing states it."""
    said = metadata.get("modelspec.prediction_type", "").lower()
    architecture = metadata.get("modelspec.architecture", "").lower()
    small = [_OF_512] if default == "v_prediction" else []  # of SD 2.x, the models of 512 pixels predict epsilon
    is_epsilon = any(each.search(name) for each in (_EPSILON, *small) for name in names)
    by_name = "v_prediction" if any(map(_V.search, names)) else "epsilon" if is_epsilon else None
    return strongest(
        _stated(_PREDICTIONS.get(str(record.get("prediction_type"))), "record"),
        _stated(_PREDICTIONS.get(str(beside.get("prediction_type"))), "config"),
        _stated(_PREDICTIONS.get(said) or _ARCHITECTURES.get(architecture), "metadata"),
        _stated("v_prediction" if "v_pred" in tensors else None, "marker"),
        _stated(by_name if by_name != default else None, "name"),
    ) or Stated(default, "shapes")


def zero_snr(
    record: Mapping[str, Json],
    beside: Mapping[str, Json],
    metadata: Mapping[str, str],
    tensors: Collection[str],
    names: tuple[str, ...],
) -> Stated[bool]:
    """Whether a checkpoint's schedule ends in pure noise: zero terminal SNR (2305.08891)."""
    keys = ("zero_snr", "rescale_betas_zero_snr")
    said = [_TRUE.get(metadata.get(key, "").lower()) for key in ("modelspec.zero_terminal_snr", "ss_zero_terminal_snr")]
    return strongest(
        _stated(next((bool(record[key]) for key in keys if key in record), None), "record"),
        _stated(next((bool(beside[key]) for key in keys if key in beside), None), "config"),
        _stated(next((value for value in said if value is not None), None), "metadata"),
        _stated(True if "ztsnr" in tensors else None, "marker"),
        _stated(True if any(map(_ZERO_SNR.search, names)) else None, "name"),
    ) or Stated(False, "shapes")


def _stated(value: T | None, by: Evidence) -> Stated[T] | None:
    return None if value is None else Stated(value, by)


def config_beside(path: Path) -> Mapping[str, Json]:
    """What lies beside a checkpoint in one file and says how it is sampled, in the words of diffusers' schedulers: the
    scheduler of the diffusers folder that it lies in, or the `.yaml` of its own name that AUTOMATIC1111's web UI reads.

    Raises `InvalidModel` for one that cannot be read.
    """
    found = _from_yaml(path.with_suffix(".yaml")) if path.with_suffix(".yaml").is_file() else {}
    scheduler = path.parent / "scheduler" / "scheduler_config.json"
    if scheduler.is_file() and (path.parent / "model_index.json").is_file():
        config = read_json(scheduler)
        wanted = ("prediction_type", "rescale_betas_zero_snr")
        found = {name: config[name] for name in wanted if name in config} | found
    return found


def _from_yaml(path: Path) -> dict[str, Json]:
    import yaml

    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8")) if path.stat().st_size <= MAX_YAML else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise InvalidModel(f"{path} cannot be read as YAML: {error}") from error
    model = value.get("model") if isinstance(value, dict) else None
    params = model.get("params") if isinstance(model, dict) else None
    if not isinstance(params, dict):
        return {}
    scaling = str(params.get("denoiser_config"))  # of Stability's code for SDXL
    by_scaling = "v" if "VScaling" in scaling else "eps" if "EpsScaling" in scaling else None
    said = params.get("parameterization") or by_scaling
    found: dict[str, Json] = {} if said is None else {"prediction_type": _PREDICTIONS.get(str(said), str(said))}
    keys = [key for key in ("zero_terminal_snr", "rescale_betas_zero_snr", "ztsnr") if key in params]
    return found | ({"zero_snr": bool(params[keys[0]])} if keys else {})
