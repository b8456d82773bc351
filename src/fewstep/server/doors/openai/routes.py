"""OpenAI's Images API: `/v1/images/generations`, `/edits`, `/variations` and `/v1/models`, also without `/v1`.

Beyond OpenAI's fields a request may carry `steps` (or `num_inference_steps`), `seed`, `guidance_scale`,
`negative_prompt`, `strength`, `loras` (a weight by name), all other options of `text2image`, and `prompt_marks`:
prompts are taken to the letter unless that is true, and then as on the command line. A field that is known but means
nothing here is named in the answer's `warnings`; an unknown one is an error.
https://platform.openai.com/docs/api-reference/images
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from fastapi.responses import JSONResponse, Response, StreamingResponse
from PIL.Image import Image
from pydantic import JsonValue
from starlette.datastructures import FormData, UploadFile

from fewstep.errors import FewstepError, InvalidRequest
from fewstep.imaging.masks import mask_of_transparency
from fewstep.models.latent_model import LatentModel
from fewstep.pipelines.request import Request
from fewstep.pipelines.text2image import both
from fewstep.server.coding import MEDIA_TYPES, decode, encode
from fewstep.server.doors.base import Services
from fewstep.server.doors.openai import answers
from fewstep.server.doors.openai.fields import IGNORED, Given, Images, validated
from fewstep.server.doors.openai.kept import KeptPictures
from fewstep.server.engine import Engine, GenerationFailed, Order
from fewstep.server.job import Failed, Generated, Pixels, Stepped
from fewstep.server.presence import while_present


def router(services: Services) -> APIRouter:
    calls, routes = Calls(services.engine), APIRouter()
    for prefix in ("/v1", ""):
        shown = prefix == "/v1"
        routes.add_api_route(
            f"{prefix}/images/generations",
            calls.generations,
            methods=["POST"],
            include_in_schema=shown,
            openapi_extra=_body("application/json"),
        )
        for name, call in (("edits", calls.edits), ("variations", calls.variations)):
            routes.add_api_route(
                f"{prefix}/images/{name}",
                call,
                methods=["POST"],
                include_in_schema=shown,
                openapi_extra=_body("multipart/form-data"),
            )
        routes.add_api_route(f"{prefix}/models", calls.models, include_in_schema=shown)
        routes.add_api_route(f"{prefix}/models/{{name:path}}", calls.one_model, include_in_schema=shown)
        routes.add_api_route(f"{prefix}/images/files/{{name}}", calls.file, include_in_schema=shown)
    return routes


def _body(media_type: str) -> dict[str, JsonValue]:
    schema = Images.model_json_schema()
    if media_type != "application/json":
        for name in ("image", "mask"):
            schema["properties"][name] = {"type": "string", "format": "binary"}
        schema["required"] = ["image"]
    return {"requestBody": {"required": True, "content": {media_type: {"schema": schema}}}}


class Calls:
    """What answers at each path."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._kept = KeptPictures()
        self._born = int(time.time())

    async def generations(self, http: HttpRequest) -> Response:
        """A picture for a prompt."""
        try:
            fields = await http.json()
        except (ValueError, RecursionError) as error:
            raise InvalidRequest(f"the body is not JSON: {error}") from error
        if not isinstance(fields, dict) or fields.get("prompt") is None:
            raise InvalidRequest("prompt is missing; the body must be a JSON object with a prompt")
        return await self._answer(http, fields, "image_generation")

    async def edits(self, http: HttpRequest) -> Response:
        """A picture for a prompt and a picture to start from."""
        fields, image, mask = await _form(http)
        return await self._answer(http, fields, "image_edit", image, mask)

    async def variations(self, http: HttpRequest) -> Response:
        """A picture like another."""
        fields, image, mask = await _form(http)
        return await self._answer(http, fields, "image_edit", image, mask)

    async def _answer(
        self,
        http: HttpRequest,
        fields: Given,
        event: str,
        image: bytes | None = None,
        mask: bytes | None = None,
    ) -> Response:
        body = validated(fields)
        model = self._named(body.model)
        order = await self.engine.order(await self._request(body, model, image, mask), model)
        warnings = [f"{name} has no meaning for this server" for name in IGNORED if getattr(body, name) is not None]
        warnings += order.advice
        client = http.client.host if http.client else "unknown"
        if body.stream:
            return StreamingResponse(self._stream(client, body, order, event, warnings), media_type="text/event-stream")
        with self.engine.lane(client) as lane:
            pictures = await while_present(http, self.engine.pictures(lane, order))
        coded = [await self._coded(pixels, body, order, index) for index, pixels in enumerate(pictures)]
        answer: answers.Images = {
            "created": int(time.time()),
            **self._common(body, order, warnings),
            "data": [self._datum(file, body, http) for file in coded],
        }
        return JSONResponse(answer)

    async def _request(self, body: Images, model: LatentModel, image: bytes | None, mask: bytes | None) -> Request:
        width, height = body.size_in_pixels(model)
        prompt, negative = body.prompts(model)
        return Request.of(
            prompt.text,
            body.seed,
            body.n,
            negative_prompt=negative.text,
            steps=body.steps or body.num_inference_steps,
            guidance_scale=body.guidance_scale,
            width=width,
            height=height,
            image=None if image is None else await asyncio.to_thread(decode, image, "image"),
            mask=None if mask is None else await asyncio.to_thread(_mask, mask),
            strength=body.strength,
            sampler=body.sampler,
            timesteps=None if body.timesteps is None else tuple(body.timesteps),
            variation=body.variation,
            variation_seed=body.variation_seed,
            upscale=body.upscale,
            refine_strength=body.refine_strength,
            refine_steps=body.refine_steps,
            tile=body.tile,
            precision=body.precision,
            decoder=body.decoder,
            loras=both(body.loras, prompt.loras),
        )

    def _named(self, name: str | None) -> LatentModel:
        """One of our models, or one of OpenAI's, which means whatever serves here first."""
        ours = name in self.engine.models
        theirs = not ours and name is not None and name.startswith(("dall-e", "gpt-image", "chatgpt-image"))
        return self.engine.named(None if theirs else name)

    async def _coded(self, pixels: Pixels, body: Images, order: Order, index: int) -> bytes:
        return await asyncio.to_thread(encode, pixels, body.coding, order.chunks[index])

    def _common(self, body: Images, order: Order, warnings: list[str]) -> answers.Common:
        plan = order.plans[0]
        common: answers.Common = {
            "output_format": body.output_format,
            "size": f"{plan.width}x{plan.height}",
            "seed": plan.seeds[0],
        }
        if warnings:
            common["warnings"] = warnings
        return common

    def _datum(self, file: bytes, body: Images, http: HttpRequest) -> answers.File | answers.Link:
        if body.response_format != "url":
            return {"b64_json": base64.b64encode(file).decode()}
        name = self._kept.keep(file, MEDIA_TYPES[body.output_format], body.output_format)
        return {"url": f"{http.base_url}v1/images/files/{name}"}

    async def _stream(
        self, client: str, body: Images, order: Order, event: str, warnings: list[str]
    ) -> AsyncIterator[str]:
        """Server-sent events: up to `partial_images` previews on the way, then each picture."""
        created, common, shown = int(time.time()), self._common(body, order, warnings), 0

        async def picture(type_: str, pixels: Pixels, index: int) -> answers.Picture:
            return {
                "type": f"{event}.{type_}",
                "b64_json": base64.b64encode(await self._coded(pixels, body, order, index)).decode(),
                "created_at": created,
                **common,
                "background": "opaque",
                "quality": "auto",
            }

        try:
            with (
                self.engine.lane(client) as lane,
                self.engine.submit(lane, order, previews=body.partial_images > 0) as ticket,
            ):
                async for index, happened in ticket:
                    match happened:
                        case Stepped(preview=pixels) if pixels is not None and shown < body.partial_images:
                            preview = await picture("partial_image", pixels, index)
                            yield _sse({**preview, "partial_image_index": shown})
                            shown += 1
                        case Generated(pixels=pixels):
                            yield _sse({**await picture("completed", pixels, index), "usage": _NO_USAGE})
                        case Failed():
                            raise GenerationFailed(happened)
        except FewstepError as error:
            yield _sse({"type": "error", "error": {"message": str(error), "type": "server_error", "code": None}})

    async def models(self) -> answers.Models:
        """The models that this server has, its default first."""
        return {"object": "list", "data": [self._model(name) for name in self.engine.models]}

    async def one_model(self, name: str) -> answers.Model:
        return self._model(self._named(name).name)

    def _model(self, name: str) -> answers.Model:
        return {"id": name, "object": "model", "created": self._born, "owned_by": "fewstep"}

    async def file(self, name: str) -> Response:
        """A picture that an answer gave the `url` of. It needs no token: whoever knows the name may see it, for an hour
        or until enough newer ones have come.
        """
        kept = self._kept.find(name)
        return Response(kept.data, media_type=kept.media_type)


_NO_USAGE: answers.Usage = {
    "input_tokens": 0,
    "input_tokens_details": {"text_tokens": 0, "image_tokens": 0},
    "output_tokens": 0,
    "total_tokens": 0,
}


def _sse(event: answers.Partial | answers.Completed | answers.Failure) -> str:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"


def _mask(data: bytes) -> Image:
    """Our mask from OpenAI's, where the transparent part is inpainted."""
    return mask_of_transparency(decode(data, "the mask"))


async def _form(http: HttpRequest) -> tuple[Given, bytes, bytes | None]:
    """The fields of a multipart body, its picture, and its mask if there is one."""
    try:
        form: FormData = await http.form(max_files=16, max_fields=64)
    except Exception as error:  # starlette raises its own 400, the parser under it whatever it likes
        raise InvalidRequest(f"the body is not a multipart form: {getattr(error, 'detail', error)}") from error
    try:
        images = [value for name, value in form.multi_items() if name in ("image", "image[]")]
        if len(images) != 1 or not isinstance(images[0], UploadFile):
            raise InvalidRequest(f"{len(images)} pictures were sent; one file named `image` is needed")
        mask = form.get("mask")
        fields = {name: value for name, value in form.items() if name not in ("image", "image[]", "mask")}
        return fields, await images[0].read(), await mask.read() if isinstance(mask, UploadFile) else None
    finally:
        await form.close()
