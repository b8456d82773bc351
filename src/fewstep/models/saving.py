"""`save` and `export`: a model as a folder that `load` and diffusers read."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from safetensors import safe_open

from fewstep.errors import InvalidModel
from fewstep.files import new_folder
from fewstep.models.bundle import ModelBundle
from fewstep.models.card import read_card, write_card
from fewstep.models.fast_decoder import FastDecoder
from fewstep.models.loading import load
from fewstep.models.locating import FAST_DECODER, NETWORKS, PACKED, locate_parts, read_json
from fewstep.models.parts import quiet
from fewstep.models.placement import choose_dtype
from fewstep.models.profile import scheduler_of

PARTS = {
    "unet": "unet",
    "vae": "autoencoder",
    "text_encoder": "text_encoder",
    "text_encoder_2": "text_encoder_2",
    "tokenizer": "tokenizer",
    "tokenizer_2": "tokenizer_2",
}


def export(name: str | Path, target: Path, dtype: str | None = None) -> None:
    """Write a model, wherever it is read from, as a whole folder that `load` and diffusers' pipelines open.

    name   what `load` takes: a built-in name, a folder, a file, a hub id
    dtype  the precision to save in; default: the one that its weights are stored in

    Raises `CannotWrite`, `InvalidRequest`, `InvalidModel`, `ModelNotFound`.
    """
    model = load(name, device="cpu", dtype="float32")
    homes = {} if model.folder is None else locate_parts(model.folder, model.card)
    stored = dtype or _stored_dtype(model.weight_files[0])
    save(model, target, base=model.folder, dtype=stored, fast_decoder=homes.get(FAST_DECODER))


def _stored_dtype(file: Path) -> str:
    """The precision of the first weight in a file; what is packed stands for float16."""
    if file.name == PACKED:
        return "float16"
    with safe_open(file, framework="pt") as opened:
        name = next(iter(opened.keys()))
        return str(opened.get_tensor(name).dtype).removeprefix("torch.")


def save(
    model: ModelBundle,
    target: Path,
    base: Path | None,
    dtype: str | None = None,
    fast_decoder: Path | None = None,
    *,
    replaces: bool = False,
) -> None:
    """Write all parts, the card and a README into the new folder `target`.

    base          the folder that the model began as: its scheduler's config is kept, as LCM's or TCD's for a
                  consistency model; None where it began as one file
    dtype         the precision to save in, which the networks are left in; default: the one that they have
    fast_decoder  the folder of one that goes with the autoencoder and comes along
    replaces      whether a folder that is there gives way to it, once it is whole

    Raises `CannotWrite`, `InvalidRequest` for an unknown dtype, and `InvalidModel` where adapters are not merged.
    """
    precision = None if dtype is None else choose_dtype(dtype, model.device)
    if model.loras is not None:
        raise InvalidModel(f"{model.name} has adapters on top; merge them first")
    if model.embeddings is not None:
        raise InvalidModel(f"{model.name} has embeddings, which no model folder holds: load it without them")
    parts = {name: part for name, field in PARTS.items() if (part := getattr(model, field)) is not None}
    scheduler = scheduler_of(model.profile, None if base is None else _scheduler_config(base))
    with new_folder(target, replaces=replaces) as folder, quiet():
        for name, part in parts.items():
            if precision is not None and name in NETWORKS:
                part.to(precision)
            part.save_pretrained(folder / name)
            _forget_origin(folder / name / "config.json")
        (folder / "scheduler").mkdir()
        _write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
        _write_json(folder / "model_index.json", _index(model, parts, scheduler["_class_name"]))
        if fast_decoder is not None:
            (folder / FAST_DECODER).mkdir()
            FastDecoder.load(fast_decoder).save(folder / FAST_DECODER)
        card = dataclasses.replace(model.card, shared=None)
        write_card(folder, card, model.profile)
        (folder / "README.md").write_text(card.to_markdown(model.profile), encoding="utf-8")


def _scheduler_config(base: Path) -> dict[str, Any]:
    card, _ = read_card(base)
    return dict(read_json(locate_parts(base, card)["scheduler"] / "scheduler_config.json"))


def _pipeline(model: ModelBundle, is_sdxl: bool) -> str:
    """diffusers' pipeline that walks as the profile says: LCM's own gives TCD's scheduler no eta, and breaks on it."""
    if is_sdxl:
        return "StableDiffusionXLPipeline"
    is_lcm = model.profile.guidance.embedded and model.profile.sampler == "lcm"
    return "LatentConsistencyModelPipeline" if is_lcm else "StableDiffusionPipeline"


def _forget_origin(config: Path) -> None:
    """diffusers writes down the folder that a part was loaded from, which nobody else has."""
    if config.is_file():
        _write_json(config, {key: value for key, value in read_json(config).items() if key != "_name_or_path"})


def _index(model: ModelBundle, parts: dict[str, Any], scheduler: str) -> dict[str, Any]:
    is_sdxl = model.text_encoder_2 is not None
    classes = {name: [type(part).__module__.split(".")[0], type(part).__name__] for name, part in parts.items()}
    nothing = dict.fromkeys(("feature_extractor", "image_encoder", *(() if is_sdxl else ("safety_checker",))))
    return {
        "_class_name": _pipeline(model, is_sdxl),
        **({"force_zeros_for_empty_prompt": model.drops_to_zeros} if is_sdxl else {"requires_safety_checker": False}),
        **classes,
        **{name: [None, None] for name in nothing},
        "scheduler": ["diffusers", scheduler],
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
