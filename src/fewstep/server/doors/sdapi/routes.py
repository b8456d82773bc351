"""AUTOMATIC1111's `/sdapi/v1`: txt2img, img2img, progress, interrupt and the lists that its clients ask for.

What this server cannot do (another sampler, a latent upscaler, other scripts than ControlNet's, …) is not dropped in
silence: it is named in `info`, under `warnings`, and in the header `X-Fewstep-Warnings`. Numbers outside the range of
the model are moved to its edge, and that is said too: clients send 50 steps and a CFG scale of 7 without anybody having
asked for them.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from typing import Annotated

from fastapi import APIRouter, Body, Response
from fastapi import Request as HttpRequest
from fastapi.responses import JSONResponse
from PIL import ImageChops
from pydantic import JsonValue

from fewstep.errors import InvalidRequest
from fewstep.models.latent_model import LatentModel
from fewstep.pipelines.provenance import PARAMETERS, record_of
from fewstep.pipelines.request import Request, Values
from fewstep.server.coding import Coding, decode_mask, encode
from fewstep.server.doors.base import Services
from fewstep.server.doors.sdapi import answers
from fewstep.server.doors.sdapi.control import SCRIPT, controls
from fewstep.server.doors.sdapi.fields import (
    DENOISING,
    ImageRequest,
    Img2Img,
    PngInfo,
    Txt2Img,
    describe,
    translate,
    upscaled,
)
from fewstep.server.doors.sdapi.lists import API, add_what_is_fixed, loras, samplers, schedulers, sd_models
from fewstep.server.doors.sdapi.options import MODEL, chosen, options
from fewstep.server.doors.sdapi.pictures import picture
from fewstep.server.engine import Engine, GenerationFailed, Order, Ticket
from fewstep.server.job import Failed, Generated, Pixels, Stepped
from fewstep.server.presence import while_present
from fewstep.server.scheduler import Lane


class Progress:
    """What the newest request from an address has come to: A1111's clients ask, they are not told."""

    def __init__(self, ticket: Ticket, pictures: int, steps: int) -> None:
        self.ticket, self.pictures, self.steps = ticket, pictures, steps
        self.done, self.step, self.started = 0, 0, time.time()
        self.preview: Pixels | None = None
        self.interrupted = False

    @property
    def fraction(self) -> float:
        return min(1.0, (self.done + self.step / max(1, self.steps)) / self.pictures)


def router(services: Services) -> APIRouter:
    calls, routes = Calls(services.engine), APIRouter()
    routes.add_api_route(f"{API}/txt2img", calls.txt2img, methods=["POST"])
    routes.add_api_route(f"{API}/img2img", calls.img2img, methods=["POST"])
    routes.add_api_route(f"{API}/progress", calls.progress)
    routes.add_api_route(f"{API}/interrupt", calls.interrupt, methods=["POST"])
    routes.add_api_route(f"{API}/skip", calls.interrupt, methods=["POST"])
    routes.add_api_route(f"{API}/options", calls.options)
    routes.add_api_route(f"{API}/options", calls.set_options, methods=["POST"])
    routes.add_api_route(f"{API}/png-info", calls.png_info, methods=["POST"])
    routes.add_api_route(f"{API}/sd-models", calls.sd_models)
    routes.add_api_route(f"{API}/loras", calls.loras)
    routes.add_api_route(f"{API}/samplers", calls.samplers)
    routes.add_api_route(f"{API}/schedulers", calls.schedulers)
    routes.add_api_route(f"{API}/scripts", calls.scripts)
    routes.add_api_route("/controlnet/model_list", calls.controlnets)
    add_what_is_fixed(routes)
    return routes


class Calls:
    """What answers at each path."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.model = engine.model  # the one that serves where a request does not say, as `options` sets it
        self._running: dict[str, Progress] = {}

    async def txt2img(self, body: Txt2Img, http: HttpRequest) -> Response:
        model, remarks = self._chosen(body)
        larger, more = upscaled(body, model)
        steered, kept = await controls(body, model)
        larger["controls"] = steered
        return await self._generate(body, model, larger, [*remarks, *more, *kept], http)

    async def img2img(self, body: Img2Img, http: HttpRequest) -> Response:
        strength = DENOISING if body.denoising_strength is None else body.denoising_strength
        image = await picture(body.init_images[0], "init_images[0]")
        over: Values = {"image": image, "strength": strength}
        if body.mask is not None:
            mask = await picture(body.mask, "mask", decode_mask)
            over["mask"] = ImageChops.invert(mask) if body.inpainting_mask_invert else mask
        model, remarks = self._chosen(body)
        over["controls"], kept = await controls(body, model, image)
        return await self._generate(body, model, over, [*remarks, *kept], http)

    async def _generate(
        self, body: ImageRequest, model: LatentModel, over: Values, remarks: list[str], http: HttpRequest
    ) -> Response:
        translated, warnings = translate(body, model)
        order = await self.engine.order(Request.of(**(translated | over)), model)
        client = http.client.host if http.client else "unknown"
        with self.engine.lane(client) as lane:
            generated = await while_present(http, self._watched(client, lane, order))
        coded = [
            await asyncio.to_thread(encode, pixels, Coding("png"), order.chunks[index])
            for index, pixels in generated.items()
        ]
        images = [base64.b64encode(file).decode() for file in coded] if body.send_images else []
        info = describe(order, body, model, [*warnings, *remarks, *order.advice])
        headers = {"x-fewstep-warnings": _header_safe("; ".join(info["warnings"]))} if info["warnings"] else {}
        echo = body.model_dump(exclude={"init_images", "mask", "alwayson_scripts"}) | {"init_images": None}
        return JSONResponse({"images": images, "parameters": echo, "info": json.dumps(info)}, headers=headers)

    async def _watched(self, client: str, lane: Lane, order: Order) -> dict[int, Pixels]:
        """The pictures of an order, while `progress` can see how far it is; those generated before an interruption."""
        generated: dict[int, Pixels] = {}
        with self.engine.submit(lane, order, previews=True) as ticket:
            progress = self._running[client] = Progress(ticket, len(order.plans), order.plans[0].num_steps)
            try:
                async for index, event in ticket:
                    match event:
                        case Stepped():
                            progress.step, progress.preview = event.index + 1, event.preview
                        case Generated():
                            generated[index] = event.pixels
                            progress.done, progress.step, progress.preview = len(generated), 0, event.pixels
                        case Failed() if not progress.interrupted:
                            raise GenerationFailed(event)
            finally:
                if self._running.get(client) is progress:
                    del self._running[client]
        return dict(sorted(generated.items()))

    async def progress(self, http: HttpRequest, skip_current_image: bool = False) -> answers.Progress:
        """How far the newest request from this address is."""
        progress = self._running.get(http.client.host if http.client else "unknown")
        fraction = progress.fraction if progress else 0.0
        elapsed = time.time() - progress.started if progress else 0.0
        preview = None
        if progress and progress.preview is not None and not skip_current_image:
            preview = base64.b64encode(await asyncio.to_thread(encode, progress.preview, Coding("png"))).decode()
        return {
            "progress": fraction,
            "eta_relative": elapsed / fraction - elapsed if fraction else 0.0,
            "state": {
                "skipped": False,
                "interrupted": bool(progress and progress.interrupted),
                "stopping_generation": False,
                "job": "txt2img" if progress else "",
                "job_count": progress.pictures if progress else 0,
                "job_timestamp": time.strftime("%Y%m%d%H%M%S"),
                "job_no": progress.done if progress else 0,
                "sampling_step": progress.step if progress else 0,
                "sampling_steps": progress.steps if progress else 0,
            },
            "current_image": preview,
            "textinfo": None,
        }

    async def interrupt(self, http: HttpRequest) -> answers.Nothing:
        """Stop the newest request that came to this door from the client's address; nothing else."""
        progress = self._running.get(http.client.host if http.client else "unknown")
        if progress is not None:
            progress.interrupted = True
            progress.ticket.cancel()
        return {}

    def _chosen(self, body: ImageRequest) -> tuple[LatentModel, list[str]]:
        """The model for a request, and what of its `override_settings` was not kept."""
        model, refused = chosen(body.override_settings, self.engine, self.model)
        return model, [f"override_settings.{name} is not supported and was ignored" for name in refused]

    async def options(self) -> answers.Options:
        return options(self.model)

    async def set_options(self, given: Annotated[dict[str, JsonValue], Body()]) -> None:
        """Chooses among the server's models, for all of this API's clients, as AUTOMATIC1111 does. The other options
        that GET tells are taken back as they are.
        """
        model, refused = chosen(given, self.engine, self.model)
        if refused:
            raise InvalidRequest(
                f"these options cannot be set on this server: {', '.join(refused[:10])}; only {MODEL} can be"
            )
        self.model = model

    async def png_info(self, body: PngInfo) -> answers.Inscription:
        """What a picture says about how it was made."""
        image = await picture(body.image, "image")
        text = image.info.get(PARAMETERS, "")
        record = record_of(image)
        items = {str(name): value for name, value in image.info.items() if isinstance(value, str)}
        return {"info": text, "items": items, "parameters": json.loads(record.to_json()) if record else {}}

    async def sd_models(self) -> list[answers.Checkpoint]:
        return sd_models(self.engine.models.values())

    async def loras(self) -> list[answers.Adapter]:
        """The adapters of the present model; `<lora:name:weight>` in a prompt weighs them."""
        return loras(self.model)

    async def controlnets(self) -> dict[str, list[str]]:
        """What pictures steer the present model through; see `alwayson_scripts`."""
        return {"model_list": list(self.model.steered_by)}

    async def scripts(self) -> dict[str, list[str]]:
        """What `alwayson_scripts` may hold for the present model."""
        names = [SCRIPT] if self.model.steered_by else []
        return {"txt2img": names, "img2img": names}

    async def samplers(self) -> list[answers.Sampler]:
        return samplers(self.model)

    async def schedulers(self) -> list[answers.Scheduler]:
        return schedulers()


def _header_safe(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode().replace("\n", " ").replace("\r", " ")[:1000]
