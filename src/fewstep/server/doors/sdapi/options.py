"""A1111's options. One can be set: the model that serves. The others say what is so, and are taken back as they were
given: clients read all of them, change one, and send all of them.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue

from fewstep.models.latent_model import LatentModel
from fewstep.server.doors.sdapi import answers
from fewstep.server.doors.sdapi.lists import title
from fewstep.server.engine import Engine
from fewstep.server.nulls import without_nulls

MODEL, HASH = "sd_model_checkpoint", "sd_checkpoint_hash"


def options(model: LatentModel) -> answers.Options:
    """All options, where `model` serves."""
    return {"sd_model_checkpoint": title(model), "sd_checkpoint_hash": model.origin.hash, "samples_format": "png"}


def chosen(given: Mapping[str, JsonValue], engine: Engine, present: LatentModel) -> tuple[LatentModel, list[str]]:
    """The model that options choose, `present` where they choose none, and the names of those that cannot be set.

    The hash comes with the name of its model: next to another name it is what was true before. Raises `UnknownModel`.
    """
    given = without_nulls(given)
    model = _named(str(given[MODEL]), engine) if MODEL in given else present
    now = dict(options(present))
    hashes = [each.origin.hash for each in engine.models.values()] if MODEL in given else [present.origin.hash]
    refused = [
        str(name)[:40]
        for name, value in given.items()
        if name != MODEL and not (value in hashes if name == HASH else name in now and value == now[name])
    ]
    return model, refused


def _named(name: str, engine: Engine) -> LatentModel:
    """The model of that name, title or hash, long or short, as `sd-models` tells them."""
    for model in engine.models.values():
        if name in (title(model), model.origin.hash, model.origin.hash[:10]):
            return model
    return engine.named(name)
