"""`fewstep inspect`: what a model, an adapter, another part or a picture is, without running it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from fewstep.cli.progress import one_line_warnings

if TYPE_CHECKING:
    from fewstep.files import Json
    from fewstep.models.adapters.lora.file import LoraFile
    from fewstep.models.identify import Identity
    from fewstep.models.model import Model
    from fewstep.models.stated import Stated

WIDTH = 240  # columns, before a fact is broken into lines
NAMED = 20  # layers that do not fit
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")


def inspect(
    files: Annotated[list[Path], typer.Argument(help="Files, folders, built-in names.")],
    model: Annotated[
        str | None, typer.Option(help="Also say what of a LoRA does not fit this model.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For each file a line of JSON.")] = False,
) -> None:
    """Say what files and folders are: models, checkpoints, LoRAs, what steers, autoencoders; how a picture was made.

    **Examples**

    fewstep inspect style.safetensors

    fewstep inspect style.safetensors --model ./my-sd15

    fewstep inspect starter blue-ink dreamshaper.safetensors ./canny

    fewstep inspect fox.png
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from fewstep.models.loading import load

    base = None if model is None else load(model, device="cpu")
    for file in files:
        with one_line_warnings():
            facts = _facts(file, base)
        if as_json:
            typer.echo(json.dumps({"file": str(file), **facts}, ensure_ascii=False))
            continue
        table = Table(title=Text(str(file)), title_justify="left", show_header=False, box=None, padding=(0, 2))
        for name, value in facts.items():
            if name != "record":
                table.add_row(name, Text(str(value)))
        Console(soft_wrap=True, highlight=False, width=WIDTH).print(table)


def _facts(path: Path, base: Model | None) -> Mapping[str, Json]:
    from fewstep.models.identify import identify, refusal
    from fewstep.models.locating import ADAPTERS

    if path.suffix.lower() in PICTURES:
        return _picture_facts(path)
    if not path.exists() and str(path) in ADAPTERS:
        return _lora_facts(ADAPTERS[str(path)], base)
    if not path.exists() or (path / "model_index.json").is_file():
        return _model_facts(path)
    found = identify(path)
    if found.thing == "checkpoint":
        return _checkpoint_facts(path)
    if found.thing == "lora":
        return _lora_facts(path, base)
    if found.thing == "unknown":
        raise refusal(path, "model, adapter or part of one", found)
    return _part_facts(found)


def _picture_facts(path: Path) -> Mapping[str, Json]:
    """How it was made, by whatever program wrote that into it; `record` is all of it, for other programs."""
    from fewstep.imaging.reading import read_image
    from fewstep.pipelines.provenance import PARAMETERS, record_of

    image = read_image(path)
    record = record_of(image)
    facts: dict[str, Json] = {"kind": "a picture", "size": f"{image.width} x {image.height}"}
    if record is not None:
        again = f"fewstep {record.command} --from {quote(str(path))} -o again{path.suffix}"
        return facts | {"made from": record.to_parameters(), "again": again, "record": json.loads(record.to_json())}
    said = image.info.get(PARAMETERS)
    return facts | {"made from": said if isinstance(said, str) else "it does not say"}


def _part_facts(part: Identity) -> dict[str, str]:
    from fewstep.models.identify import THINGS
    from fewstep.models.origin import hash_of

    facts = {"kind": f"{THINGS[part.thing][0].removeprefix('a ').removeprefix('an ')}: {part.advice}"}
    if part.family is not None:
        facts["made for"] = part.family
    return facts | {"SHA-256": hash_of(part.weight_files)}


def _checkpoint_facts(path: Path) -> dict[str, str]:
    """From its names and shapes alone: nothing else is there to be read."""
    from fewstep.models.origin import hash_of
    from fewstep.models.single_file import read_checkpoint

    header = read_checkpoint(path)
    kind = _kind("lcm" if header.few_step.value else "diffusion")
    known = "" if header.family else ": give its configs with --config"
    return {
        "kind": f"a whole checkpoint in one file, of a {kind}{_said_by(header.few_step)}",
        "family": header.in_words + known,
        "predicts": header.prediction.value + _said_by(header.prediction),
        "ends in pure noise": ("yes" if header.zero_snr.value else "no") + _said_by(header.zero_snr),
        "guidance": _guidance(header.embeds_w),
        "autoencoder": "inside" if header.has_autoencoder else "missing: give one with --vae",
        "SHA-256": hash_of([path]),
    }


def _said_by(fact: Stated[bool] | Stated[str]) -> str:
    """What says so, where it is more than the shapes."""
    return "" if fact.by == "shapes" else f" (says {fact.because})"


def _kind(kind: str) -> str:
    return "latent consistency model" if kind == "lcm" else "latent diffusion model"


def _guidance(embedded: bool) -> str:
    return "inside the network (w embedded)" if embedded else "by a second call of the network"


def _lora_facts(path: Path, base: Model | None) -> dict[str, str]:
    from fewstep.models.adapters.lora.file import LoraFile
    from fewstep.models.adapters.lora.put_on import place

    file = LoraFile.read(path)
    few_step = f"LCM-LoRA (by {file.few_step.because}): its base becomes a few-step model"
    facts = {
        "kind": few_step if file.kind == "lcm" else file.algorithm,
        "made for": file.family,
        "names": f"as {file.spelling} writes them",
        "rank": _values(file.ranks),
        "alpha": _values(file.alphas) or "none",
        "changes": ", ".join(f"{len(layers)} layers of {part}" for part, layers in file.layers.items()),
        "parameters": f"{file.num_parameters / 1e6:.2f} million",
        "SHA-256": file.hash,
    }
    if file.left_out:
        facts["left out"] = f"{len(file.left_out)} tensors of no layer: {', '.join(file.left_out[:NAMED])}"
    if base is not None:
        missing = []
        for part, layers in file.for_family(base.family).items():
            network = base.networks.get(part)
            missing += list(layers) if network is None else place(layers, network, part, base.family)[1]
        facts[f"fits {base.name}"] = _fit(file, base, missing)
    return facts


def _values(rising: Sequence[float]) -> str:
    """All of a few, the ends of many."""
    if len(rising) > 6:
        return f"{rising[0]:g} to {rising[-1]:g}, by layer"
    return ", ".join(f"{value:g}" for value in rising)


def _fit(file: LoraFile, base: Model, missing: list[str]) -> str:
    if file.context_width not in (None, base.text_width):
        return f"no: it was made for {file.family}"
    if not missing:
        return "wholly"
    more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
    return f"but for {len(missing)} layers: {', '.join(missing[:NAMED])}{more}"


def _model_facts(folder: Path) -> dict[str, str]:
    from fewstep.core.samplers import SAMPLERS, samplers_of
    from fewstep.models.loading import load

    model = load(folder, device="cpu")
    profile = model.profile
    parameters = sum(x.numel() for x in model.network.module.parameters())
    return {
        "kind": _kind(profile.kind),
        "guidance": _guidance(profile.guidance.embedded),
        "family": model.base,
        "predicts": profile.prediction.name,
        "ends in pure noise": "yes" if profile.zero_snr or profile.is_flow else "no",
        "by default": f"{profile.steps} steps, guidance scale {profile.guidance.scale:g}",
        "samplers": "\n".join(f"{name}: {SAMPLERS[name].about}" for name in samplers_of(profile)),
        "size": " x ".join(map(str, reversed(model.traits.default_size))),
        model.family.networks[model.family.denoiser].what: f"{parameters / 1e6:.1f} million parameters",
        "SHA-256": model.origin.hash,
    }
