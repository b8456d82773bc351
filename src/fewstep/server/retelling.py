"""How a picture is made again by other means: the command and the Python that do it, from what it carries."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from fewstep.models.latent_model import LatentModel
from fewstep.models.placement import choose_device, choose_dtype
from fewstep.models.precisions import FAST
from fewstep.pipelines.fields import settings_of
from fewstep.pipelines.prompts import written
from fewstep.pipelines.provenance import Record, UsedControl

PICTURE = "picture.png"
Value: TypeAlias = "str | float | bool | Sequence[Value] | Mapping[str, Value] | None"  # of an option
Options: TypeAlias = Mapping[str, Value]


@dataclass(frozen=True)
class Retelling:
    """A shell command and a Python program that make the very picture; `notes` say what they need, a sentence each.

    prompt, negative_prompt  as they are written there, and at every door that reads marks
    """

    command: str
    python: str
    notes: tuple[str, ...]
    prompt: str
    negative_prompt: str


@dataclass(frozen=True)
class _Loading:
    """What `fewstep.load` is given, and what of it the reader has to put in by hand."""

    model: str
    loras: list[tuple[str, float]]
    controlnets: list[str]
    options: Options
    notes: list[str]


def retell(
    model: LatentModel, record: Record, *, image: str = "input.png", mask: str = "mask.png", local: bool = False
) -> Retelling:
    """`record` of a picture by `model`, retold.

    image, mask  what the files of the picture it starts from, and of its mask, are called
    local        whether the reader is at this machine, and may see where its files lie
    """
    loading = _loading(model, record, local)
    record = dataclasses.replace(record, prompt=written(record.prompt), negative_prompt=written(record.negative_prompt))
    files = {"image": image if record.source else None, "mask": mask if record.mask else None}
    options = _options(record, model)
    notes = [*loading.notes, *(f"It starts from {name}: save that file beside it." for name in files.values() if name)]
    return Retelling(
        _command(record, loading, files, options),
        _python(record, loading, files, options),
        tuple(notes),
        record.prompt,
        record.negative_prompt,
    )


def _options(record: Record, model: LatentModel) -> Options:
    """What `text2image` is given beside the words and pictures, without what is as by default."""
    own: dict[str, Value] = {"seed": record.seed, "variation_seed": record.variation_seed}
    if record.timesteps is not None:  # they say all that these say
        own |= {"steps": None, "strength": None, "timesteps": list(record.timesteps)}
    if record.precision == model.precisions[0]:
        own["precision"] = None
    if record.decoder == model.decoders[0]:
        own["decoder"] = None
    options: dict[str, Value] = settings_of(record) | own
    return {name: value for name, value in options.items() if value not in (None, "") and value is not False}


def _loading(model: LatentModel, record: Record, local: bool) -> _Loading:
    notes: list[str] = []

    def found(reference: str | None, name: str, path: Path | None, what: str) -> str:
        """What finds a part: anywhere, at this machine, or only once the reader has put it in."""
        if reference is not None:
            return reference
        if local and path is not None:
            return str(path)
        notes.append(f"{what} {name} lies on the server's machine: put its path in the place of {name}.")
        return name

    files = () if model.loras is None else model.loras.files
    used = zip(record.loras, files, strict=True)
    loras = [(found(each.reference, each.name, file.path, "The adapter"), each.weight) for each, file in used]
    nets = [found(None, each.name, None, "The ControlNet") for each in record.controls]
    notes += [f"The picture that {each.name} reads is {_read_by(each)}." for each in record.controls]
    where = model.origin.folder or next(iter(model.origin.weight_files), None)
    name = found(model.origin.reference, model.name, where, "The model")
    overrides = model.origin.overrides
    vae = overrides.vae
    if vae is None and overrides.vae_at is not None:
        vae = found(None, overrides.vae_at.name, overrides.vae_at, "The autoencoder")
    unet = overrides.unet
    if unet is None and overrides.unet_at is not None:
        unet = found(None, overrides.unet_at.name, overrides.unet_at, "The U-Net")
    own = () if model.embeddings is None else model.embeddings.words
    words = [f"{found(each.reference, each.path.name, each.path, 'The embedding')}={each.word}" for each in own]
    device = choose_device()
    options = {
        "kind": overrides.kind,
        "prediction_type": overrides.prediction_type,
        "zero_snr": overrides.zero_snr,
        "unet": unet,
        "embeddings": words or None,
        "vae": vae,
        "device": None if model.device.type == device.type else model.device.type,
        "dtype": None if model.dtype == choose_dtype(None, model.device) else str(model.dtype).removeprefix("torch."),
    }
    return _Loading(name, loras, nets, {key: value for key, value in options.items() if value is not None}, notes)


def _read_by(control: UsedControl) -> str:
    return f"{control.name}.png"


def _command(record: Record, loading: _Loading, files: dict[str, str | None], options: Options) -> str:
    words: list[str] = []
    for name, value in {**options, **files, "model": loading.model, **loading.options}.items():
        if value is None:
            continue
        if (name, value) == ("vae", FAST):
            words.append("--fast-decode")
        elif name == "embeddings" and isinstance(value, list):
            words += [word for each in value for word in ("--embedding", str(each))]
        elif isinstance(value, bool):
            words.append(_option(name if value else f"no_{name}"))
        else:
            words += [_option(name), _plain(value)]
    for source, weight in loading.loras:
        words += ["--lora", f"{source}:{_plain(weight)}"]
    for net, used in zip(loading.controlnets, record.controls, strict=True):
        words += ["--control", f"{net}={_read_by(used)}:{_plain(used.scale)}"]
    hidden = record.prompt.startswith("-")  # it would be read as an option
    prompt = [] if hidden else [record.prompt]
    behind = ["--", record.prompt] if hidden else []
    return shlex.join(["fewstep", "generate", *prompt, *words, "-o", PICTURE, *behind])


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _plain(value: Value) -> str:
    """A value as the command line reads it: 4.5, 8 (not 8.0), 999,499."""
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _python(record: Record, loading: _Loading, files: dict[str, str | None], options: Options) -> str:
    load, options = dict(loading.options), dict(options)
    if loading.loras:
        load["loras"] = loading.loras
    if loading.controlnets:
        load["controlnets"] = loading.controlnets
        options["controls"] = {used.name: (_read_by(used), used.scale) for used in record.controls}
    if files["mask"]:
        options["mask"] = files["mask"]
    over = files["image"]
    words = [repr(record.prompt)] + ([repr(over)] if over else [])
    return "\n".join(
        [
            "import fewstep",
            "",
            f"model = fewstep.load({', '.join([repr(loading.model), *_keywords(load)])})",
            f"image = fewstep.{'image2image' if over else 'text2image'}(",
            *(f"    {argument}," for argument in ["model", *words, *_keywords(options)]),
            ")",
            f'image.save("{PICTURE}")',
        ]
    )


def _keywords(values: Options) -> Iterator[str]:
    return (f"{name}={value!r}" for name, value in values.items())
