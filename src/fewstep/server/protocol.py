"""The live protocol, version 1: what travels over `/v1/live`, both ways. Its JSON schema is at `/v1/live/schema`.

A client chooses the form of the messages by subprotocol:

    fewstep.v1.json     control messages are JSON text; pictures are binary, a header (below) before the file's bytes
    fewstep.v1.msgpack  every message is a msgpack map; pictures and frames are maps too, the file's bytes in `data`

The header of a picture, 40 bytes, little-endian:

    0  4s  b"FSL1"          8  u32  id of the request          24  f32  ms that it waited
    4  u8  kind             12  u16  step, from 1              28  f32  ms that it was worked on
    5  u8  format           14  u16  of how many               32  f32  ms from its receipt to its sending
    6  u16 flags (0)        16  u64  seed                      36  u32  length of the file

kind: 0 the picture, 1 a preview on the way, 2 the picture again in more steps. format: 0 jpeg, 1 webp, 2 png.
The header of a frame from the client, 12 bytes: b"FSL1", u8 kind (0 a picture to start from, 1 a mask: white is
inpainted, black stays, 2 a picture for a ControlNet), u8 which ControlNet (its place in the hello's controls), u16
zero, u32 id.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Literal

from pydantic import Field, JsonValue, SkipValidation, TypeAdapter, model_validator

from fewstep.pipelines.fields import FIELDS
from fewstep.pipelines.provenance import Record
from fewstep.server.coding import FORMATS, QUALITY
from fewstep.server.controls import Control
from fewstep.server.fields import MAX_STEPS, Asked, Message, asking, served

VERSION = 1
JSON, MSGPACK = "fewstep.v1.json", "fewstep.v1.msgpack"
MAGIC = b"FSL1"


@asking
class Parameters(Asked):
    """What a live session generates: every option of `text2image` and `image2image`, by its name, and how it travels.

    None is what those functions take it for. A session keeps what it was sent, so what belongs to something that is
    off (strength without a picture, refine_strength and refine_steps without an upscale, variation_seed without a
    variation) waits until that is on; an upscale of 1 and a variation of 0 are off.

    control_scales  how far each ControlNet's picture is followed, by name; 1 where nothing is said
    previews        every step is shown
    rest_steps      once nothing has changed for a moment, the picture is generated again in so many steps
    budget_ms       takes steps away, then size, until a picture takes no longer
    skip_similar    frames that differ less than that from the last one, 0 to 1, are left out
    """

    prompt: Annotated[str, served("prompt")] = ""
    seed: Annotated[int, served("seed")] = 0
    model: str | None = Field(default=None, max_length=200)
    loras: Annotated[dict[str, float], served("loras")] = Field(default={})
    control_scales: dict[str, Annotated[float, Field(ge=0, le=FIELDS["controls"].high)]] = Field(
        default={}, max_length=64
    )
    variation: Annotated[float, served("variation")] = 0.0
    format: Literal["jpeg", "webp", "png"] = "jpeg"
    quality: int = Field(default=QUALITY, ge=1, le=100)
    previews: bool = False
    rest_steps: int | None = Field(default=None, ge=1, le=MAX_STEPS)
    budget_ms: float | None = Field(default=None, ge=1)
    skip_similar: float = Field(default=0, ge=0, le=1)

    @model_validator(mode="after")
    def _times_are_alone(self) -> Parameters:
        if self.timesteps is not None:
            others = ("steps", "refine_steps", "rest_steps", "budget_ms")
            if given := [name for name in others if getattr(self, name) is not None]:
                raise ValueError(f"timesteps say which steps there are: set {given[0]} to null, or the timesteps")
        return self


class Set(Message):
    """Change those parameters that are given, and generate. `image`, `mask` or `controls` null forgets them."""

    type: Literal["set"]
    id: int = Field(default=0, ge=0, lt=2**32)
    parameters: dict[str, SkipValidation[JsonValue]] = Field(default={})  # checked as `Parameters`
    image: None = Field(default=None, description="null forgets the picture to start from; leave it out to keep it")
    mask: None = Field(default=None, description="null forgets the mask; leave it out to keep it")
    controls: None = Field(default=None, description="null forgets what ControlNets read; leave it out to keep it")


class Frame(Message):
    """A picture to start from, a camera's frame for example, or a mask, or a picture for a ControlNet (by its name, or
    its place in the hello's controls); in JSON sessions a binary message instead.
    """

    type: Literal["frame"]
    id: int = Field(default=0, ge=0, lt=2**32)
    data: bytes
    mask: bool = False
    control: str | Annotated[int, Field(ge=0)] | None = Field(default=None, union_mode="left_to_right")


class Cancel(Message):
    """Generate nothing of what was asked for so far."""

    type: Literal["cancel"]


class Describe(Message):
    """How was the newest picture made? Answered by `description`. `image` and `mask`: what its files will be called."""

    type: Literal["describe"]
    id: int = Field(default=0, ge=0, lt=2**32)
    image: str = Field(default="input.png", pattern=r"^[\w.-]{1,60}$")
    mask: str = Field(default="mask.png", pattern=r"^[\w.-]{1,60}$")


class Ping(Message):
    """Answered by `pong` with the same id, at once."""

    type: Literal["ping"]
    id: int = Field(default=0, ge=0, lt=2**32)


FromClient = Set | Frame | Cancel | Describe | Ping
from_client: TypeAdapter[FromClient] = TypeAdapter(Annotated[FromClient, Field(discriminator="type")])


class Hello(Message):
    """The first message: which model samples, what may be set within which limits, and where a resumed session stands.

    `controls` are those of `model`, which samples where nobody asks for another; `models` has everybody's. `newest` is
    the id of the newest request that arrived, None where there was none yet: what a break has swallowed, a client that
    comes back sends again.
    """

    type: Literal["hello"] = "hello"
    version: int = VERSION
    session: str
    resumed: bool
    newest: int | None
    model: str
    parameters: Parameters
    controls: list[Control]
    models: dict[str, list[Control]]


class Queued(Message):
    """The request waits; about so many pictures go before it."""

    type: Literal["queued"] = "queued"
    id: int
    position: int


class Advice(Message):
    """The request is carried out, but something in it has no effect or was changed."""

    type: Literal["advice"] = "advice"
    id: int
    messages: list[str]


class Trouble(Message):
    """The request `id` gets no picture. `retry_after`: seconds, where trying again makes sense."""

    type: Literal["error"] = "error"
    id: int | None
    reason: str
    message: str
    retry_after: float | None = None


class Description(Message):
    """How the picture of the request `picture` was made, the newest that was shown: what a PNG of it carries, and the
    command and the Python that make it again. `notes` say what these need, a sentence each; `prompt` and
    `negative_prompt` are written as every door reads them that knows marks.
    """

    type: Literal["description"] = "description"
    id: int
    picture: int
    record: Record
    command: str
    python: str
    notes: list[str]
    prompt: str
    negative_prompt: str


class Stats(Message):
    """Once a second while there is something new: counts since the session began."""

    type: Literal["stats"] = "stats"
    painted: int
    superseded: int
    skipped: int
    dropped: int
    waiting: int
    sessions: int


class Pong(Message):
    type: Literal["pong"] = "pong"
    id: int


ToClient = Hello | Queued | Advice | Trouble | Description | Stats | Pong


class PictureKind(IntEnum):
    PICTURE = 0
    PREVIEW = 1
    REFINED = 2


_HEADER = struct.Struct("<4sBBHIHHQfffI")
_FRAME = struct.Struct("<4sBBHI")


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture on its way to the client: the header's fields, and the file."""

    id: int
    kind: PictureKind
    step: int
    num_steps: int
    seed: int
    waited_ms: float
    worked_ms: float
    total_ms: float
    format: str
    data: bytes

    def to_binary(self) -> bytes:
        return (
            _HEADER.pack(
                MAGIC,
                self.kind,
                FORMATS.index(self.format),
                0,
                self.id,
                self.step,
                self.num_steps,
                self.seed,
                self.waited_ms,
                self.worked_ms,
                self.total_ms,
                len(self.data),
            )
            + self.data
        )

    @classmethod
    def from_binary(cls, message: bytes) -> Picture:
        """For clients written in Python; raises ValueError for anything else."""
        if len(message) < _HEADER.size:
            raise ValueError(f"{len(message)} bytes are too few for a picture")
        magic, kind, form, _, id_, step, steps, seed, waited, worked, total, length = _HEADER.unpack_from(message)
        if magic != MAGIC or len(message) != _HEADER.size + length:
            raise ValueError("these bytes are no picture of the live protocol")
        data = message[_HEADER.size :]
        return cls(id_, PictureKind(kind), step, steps, seed, waited, worked, total, FORMATS[form], data)

    def to_map(self) -> dict[str, str | int | float | bytes]:
        return {"type": "picture", **{name: getattr(self, name) for name in self.__slots__}}


def read_frame(message: bytes) -> Frame:
    """A client's binary message; raises ValueError."""
    if len(message) <= _FRAME.size or message[:4] != MAGIC:
        raise ValueError("a binary message is a frame: 'FSL1', kind, padding, id (12 bytes), then a picture file")
    _, kind, which, _, id_ = _FRAME.unpack_from(message)
    if kind > 2:
        raise ValueError(f"unknown kind of frame {kind}; 0 is a picture to start from, 1 a mask, 2 for a ControlNet")
    return Frame(
        type="frame", id=id_, data=message[_FRAME.size :], mask=kind == 1, control=which if kind == 2 else None
    )
