"""What can be refused before a model is loaded: sources that are not there, and requests that it cannot carry out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING

from fewstep.errors import InvalidRequest
from fewstep.lazily import uncollected

if TYPE_CHECKING:
    from fewstep.cli.options import LoadOptions
    from fewstep.pipelines.request import Common, Request

# what an adapter on top may change the meaning of: an LCM-LoRA makes another kind of model
UNCERTAIN_WITH_ADAPTERS: Common = {
    "loras": None,
    "steps": None,
    "guidance_scale": None,
    "sampler": None,
    "timesteps": None,
    "strength": None,
    "upscale": None,
    "refine_strength": None,
    "refine_steps": None,
}


def check_beforehand(model: str, loading: LoadOptions, requests: Iterable[tuple[str, Request]] = ()) -> None:
    """Raise what loading `model` with the options `loading`, and planning the requests, would raise later, as far as
    small files say it.

    requests  each with what messages call it, or ""
    """
    with uncollected():
        from fewstep.models.adapters.lora.source import LoraSpec
        from fewstep.models.adapters.lora.source import check_there as check_lora_there
        from fewstep.models.locating import check_there
        from fewstep.models.memory import check_policy
        from fewstep.models.outline import Outline
        from fewstep.models.placement import choose_device, choose_dtype
        from fewstep.pipelines.plan import complete

    dtype = choose_dtype(loading.get("dtype"), choose_device(loading.get("device")))
    check_policy(loading.get("memory", "auto"))
    for lora in loading.get("loras") or ():
        check_lora_there(LoraSpec.of(lora).source)
    nets = tuple(loading.get("controlnets") or ())
    for what, sources in (("network for --control", nets), ("autoencoder", (loading.get("vae"),))):
        for source in sources:
            if source not in (None, "fast"):
                check_there(source, what)
    outline = Outline.of(
        model,
        controlnets=nets,
        kind=loading.get("kind"),
        prediction_type=loading.get("prediction_type"),
        zero_snr=loading.get("zero_snr"),
        dtype=str(dtype).removeprefix("torch."),
        vae=loading.get("vae"),
    )
    if outline is None or loading.get("unet") is not None:
        return
    for name, request in requests:
        certain = dataclasses.replace(request, **UNCERTAIN_WITH_ADAPTERS) if loading.get("loras") else request
        try:
            complete(certain, outline)
        except InvalidRequest as error:
            raise InvalidRequest(f"{name}: {error}" if name else str(error)) from error
