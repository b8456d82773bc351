"""The lists that A1111's clients ask for: models, adapters, samplers, and those that are the same on every server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from fastapi import APIRouter
from pydantic import JsonValue

from fewstep.core.samplers import samplers_of
from fewstep.models.latent_model import LatentModel
from fewstep.server.doors.sdapi import answers
from fewstep.server.doors.sdapi.fields import TITLES, aliases_of, title_of

FIXED: dict[str, JsonValue] = {
    "sd-vae": [],
    "upscalers": [
        {"name": name, "model_name": None, "model_path": None, "model_url": None, "scale": 4}
        for name in ("None", "Lanczos")
    ],
    "latent-upscale-modes": [],
    "prompt-styles": [],
    "hypernetworks": [],
    "face-restorers": [],
    "realesrgan-models": [],
    "extensions": [],
    "embeddings": {"loaded": {}, "skipped": {}},
    "script-info": [],
    "cmd-flags": {},
    "memory": {"ram": {}, "cuda": {}},
}
API = "/sdapi/v1"
CONTROLNET: dict[str, JsonValue] = {  # of A1111's extension
    "module_list": {"module_list": ["none"], "module_detail": {}},
    "version": {"version": 3},  # whose fields are understood
}
NOTHING_TO_DO = ("refresh-checkpoints", "refresh-loras", "refresh-vae", "reload-checkpoint", "unload-checkpoint")


def title(model: LatentModel) -> str:
    return f"{model.name} [{model.origin.hash[:10]}]"


def sd_models(models: Iterable[LatentModel]) -> list[answers.Checkpoint]:
    return [
        {
            "title": title(model),
            "model_name": model.name,
            "filename": model.name,
            "config": None,
            "hash": model.origin.hash[:10],
            "sha256": None,
        }
        for model in models
    ]


def loras(model: LatentModel) -> list[answers.Adapter]:
    """The adapters of a model; `<lora:name:weight>` in a prompt weighs them."""
    if model.loras is None:
        return []
    return [
        {"name": name, "alias": name, "path": name, "metadata": dict(file.metadata)}
        for name, file in zip(model.loras.names, model.loras.files, strict=True)
    ]


def samplers(model: LatentModel) -> list[answers.Sampler]:
    known = list(TITLES)
    usable = sorted(samplers_of(model.profile), key=lambda name: known.index(name) if name in known else len(known))
    return [{"name": title_of(name), "aliases": aliases_of(name), "options": {}} for name in usable]


def schedulers() -> list[answers.Scheduler]:
    return [
        {
            "name": "automatic",
            "label": "Automatic",
            "aliases": None,
            "default_rho": -1.0,
            "need_inner_model": False,
        }
    ]


def add_what_is_fixed(routes: APIRouter) -> None:
    for name, value in FIXED.items():
        routes.add_api_route(f"{API}/{name}", _constant(value), summary="The same for every model here")
    for name, value in CONTROLNET.items():
        routes.add_api_route(f"/controlnet/{name}", _constant(value), summary="The same for every model here")
    for name in NOTHING_TO_DO:
        summary = "Does nothing: all models stay loaded"
        routes.add_api_route(f"{API}/{name}", _constant(None), methods=["POST"], summary=summary)


def _constant(value: JsonValue) -> Callable[[], Awaitable[JsonValue]]:
    async def answer() -> JsonValue:
        return value

    return answer
