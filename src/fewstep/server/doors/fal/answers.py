"""What fal's clients are answered: pictures, and how it goes with what they handed in."""

from __future__ import annotations

import base64
from typing import Literal, NotRequired

from typing_extensions import TypedDict


class Picture(TypedDict):
    """As realtime connections carry it."""

    content: bytes
    content_type: str
    width: int
    height: int


class LinkedPicture(TypedDict):
    """As JSON carries it: `url` is a data URL."""

    url: str
    content_type: str
    width: int
    height: int


class Timings(TypedDict):
    inference: float  # seconds


class Repeated(TypedDict):
    """What an answer repeats of its request; `ignored` are the names of its fields that mean nothing here."""

    prompt: str
    request_id: str
    ignored: NotRequired[list[str]]


class _Common(Repeated):
    seed: int
    timings: Timings
    has_nsfw_concepts: list[bool]
    advice: NotRequired[list[str]]


class Answer(_Common):
    images: list[Picture]


class LinkedAnswer(_Common):
    images: list[LinkedPicture]


class Preview(TypedDict):
    """An event of a stream: picture number `picture` after a step, of `num_steps`."""

    images: list[LinkedPicture]
    step: int
    num_steps: int
    picture: int


class Failure(TypedDict):
    """The last event of a stream that breaks off."""

    error: str
    detail: str


class Metrics(TypedDict):
    inference_time: float  # seconds


class Status(TypedDict):
    """How it goes with a request; what failed is completed, with an error."""

    status: Literal["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]
    queue_position: NotRequired[int]
    logs: list[str]
    error: NotRequired[str]
    error_type: NotRequired[str]
    metrics: NotRequired[Metrics]


class Addresses(TypedDict):
    """Where to ask for a request."""

    request_id: str
    response_url: str
    status_url: str
    cancel_url: str


class Submitted(Addresses):
    status: Literal["IN_QUEUE"]
    queue_position: int


class AddressedStatus(Addresses, Status):
    pass


def linked(picture: Picture) -> LinkedPicture:
    return {
        "url": f"data:{picture['content_type']};base64,{base64.b64encode(picture['content']).decode()}",
        "content_type": picture["content_type"],
        "width": picture["width"],
        "height": picture["height"],
    }


def for_json(answer: Answer) -> LinkedAnswer:
    """The same with data URLs in the place of the bytes."""
    return {**answer, "images": [linked(image) for image in answer["images"]]}
