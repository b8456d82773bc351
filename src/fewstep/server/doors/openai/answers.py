"""What OpenAI's clients are answered, and ours beside it: `seed`, `warnings`."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict


class Model(TypedDict):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class Models(TypedDict):
    object: Literal["list"]
    data: list[Model]


class Link(TypedDict):
    """A picture of `Images`, where the address was asked for."""

    url: str


class File(TypedDict):
    """A picture of `Images`."""

    b64_json: str


class Common(TypedDict):
    """What all pictures of a call have in common."""

    output_format: str
    size: str
    seed: int
    warnings: NotRequired[list[str]]


class Images(Common):
    created: int
    data: list[File | Link]


class Picture(Common):
    """An event of a stream: a preview, or a picture that is done."""

    type: str
    b64_json: str
    created_at: int
    background: Literal["opaque"]
    quality: Literal["auto"]


class Partial(Picture):
    partial_image_index: int


class TextAndImage(TypedDict):
    text_tokens: int
    image_tokens: int


class Usage(TypedDict):
    input_tokens: int
    input_tokens_details: TextAndImage
    output_tokens: int
    total_tokens: int


class Completed(Picture):
    usage: Usage


class Error(TypedDict):
    message: str
    type: str
    code: str | None


class Failure(TypedDict):
    """The last event of a stream that breaks off."""

    type: Literal["error"]
    error: Error
