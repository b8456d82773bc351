"""The live protocol for programs: JSON schemas of everything that travels as a message."""

from __future__ import annotations

from pydantic import JsonValue, TypeAdapter
from typing_extensions import TypedDict

from fewstep.server import protocol
from fewstep.server.protocol import JSON, MSGPACK, VERSION, Parameters, ToClient, from_client


class Schemas(TypedDict):
    """`binary` describes the messages that are no JSON; the others are JSON schemas."""

    version: int
    subprotocols: list[str]
    binary: str
    from_client: dict[str, JsonValue]
    to_client: dict[str, JsonValue]
    parameters: dict[str, JsonValue]


def schema() -> Schemas:
    """JSON schemas of everything that travels as a message."""
    return {
        "version": VERSION,
        "subprotocols": [JSON, MSGPACK],
        "binary": protocol.__doc__ or "",
        "from_client": from_client.json_schema(),
        "to_client": TypeAdapter(ToClient).json_schema(),
        "parameters": Parameters.model_json_schema(),
    }
