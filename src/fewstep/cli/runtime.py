"""The option `--runtime`: what runs the networks."""

from __future__ import annotations

from enum import StrEnum
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fewstep.models.model import Model


class Runtime(StrEnum):
    AUTO = "auto"
    PYTORCH = "pytorch"
    OPENVINO = "openvino"


def run_by(runtime: Runtime, model: Model) -> Model:
    """`model`, run as asked; "auto" takes OpenVINO where it is installed and can. Raises `CannotAccelerate`."""
    if runtime == Runtime.PYTORCH or (runtime == Runtime.AUTO and find_spec("openvino") is None):
        return model
    from fewstep.runtime.openvino import CannotAccelerate, accelerated

    try:
        return accelerated(model)
    except CannotAccelerate:
        if runtime == Runtime.OPENVINO:
            raise
        return model


def with_openvino(model: Model) -> str:
    """ " with OpenVINO", where that is so."""
    from fewstep.runtime.openvino import OpenVinoNetwork

    return " with OpenVINO" if isinstance(model.network, OpenVinoNetwork) else ""
