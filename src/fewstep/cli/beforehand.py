"""What can be refused before a model is loaded: sources that are not there, and requests that it cannot carry out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from fewstep.errors import InvalidRequest

if TYPE_CHECKING:
    from fewstep.pipelines.request import Request

# what an adapter on top may change the meaning of: an LCM-LoRA makes another kind of model
UNCERTAIN_WITH_ADAPTERS = (
    "loras",
    "steps",
    "guidance_scale",
    "sampler",
    "timesteps",
    "strength",
    "upscale",
    "refine_strength",
    "refine_steps",
)


def check_beforehand(model: str, loading: Mapping[str, Any], requests: Iterable[tuple[str, Request]] = ()) -> None:
    """Raise what loading `model` with the options `loading`, and planning the requests, would raise later, as far as
    small files say it.

    requests  each with what messages call it, or ""
    """
    from fewstep.models.adapters.lora.source import LoraSpec
    from fewstep.models.adapters.lora.source import check_there as check_lora_there
    from fewstep.models.locating import check_there
    from fewstep.models.memory import check_policy
    from fewstep.models.outline import Outline
    from fewstep.models.placement import choose_device, choose_dtype
    from fewstep.pipelines.plan import complete

    choose_dtype(loading.get("dtype"), choose_device(loading.get("device")))
    check_policy(loading.get("memory", "auto"))
    for lora in loading.get("loras") or ():
        check_lora_there(LoraSpec.of(lora).source)
    nets = tuple(loading.get("controlnets") or ())
    for what, sources in (("network for --control", nets), ("autoencoder", (loading.get("vae"),))):
        for source in sources:
            if source not in (None, "fast"):
                check_there(source, what)
    overruled = {name: loading.get(name) for name in ("kind", "prediction_type", "zero_snr")}
    outline = Outline.of(model, controlnets=nets, **overruled)
    if outline is None or loading.get("unet") is not None:
        return
    for name, request in requests:
        certain = dataclasses.replace(request, **_unsure(loading))
        try:
            complete(certain, outline)
        except InvalidRequest as error:
            raise InvalidRequest(f"{name}: {error}" if name else str(error)) from error


def _unsure(loading: Mapping[str, Any]) -> dict[str, Any]:
    return dict.fromkeys(UNCERTAIN_WITH_ADAPTERS) if loading.get("loras") else {}
