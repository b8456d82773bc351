"""`--from`: the parameters inside a picture, with the options of the command line laid over them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from fewstep.errors import FewstepWarning, InvalidRequest
from fewstep.imaging.masks import mask_of
from fewstep.pipelines.fields import FIELDS
from fewstep.pipelines.provenance import Record, image_hash, record_of

if TYPE_CHECKING:
    from PIL.Image import Image

    from fewstep.models.latent_model import LatentModel
    from fewstep.pipelines.request import Control, Values

# what a record says as a request does: of pictures it has hashes, and of adapters what finds them
RECORDED = [name for name, field in FIELDS.items() if field.type not in ("picture", "pictures", "weights")]


def recorded_options(record: Record, given: Values) -> Values:
    """What `Request.of` takes: from the record, except where something was given."""
    values = {name: getattr(record, name) for name in RECORDED}
    if values["timesteps"] or "timesteps" in given:  # they stand for all of these: whichever was given wins
        counted = ("steps", "strength", "refine_steps")
        values |= dict.fromkeys(counted if not set(counted) & set(given) else ("timesteps",))
    return cast("Values", values | given)


def recorded_model(record: Record, path: Path) -> str:
    """The name of the model that made it; raises `InvalidRequest` when only its maker can know where it lies."""
    if record.model is None and (own := os.environ.get("FEWSTEP_MODEL")):
        return own  # `check_weights` says where that is another one
    if record.model is None:
        raise InvalidRequest(
            f"{path} was made with {record.model_name} (weights {record.model_hash}), a model from a folder: "
            "give that folder with --model"
        )
    return record.model


def recorded_loras(record: Record, path: Path) -> list[str | tuple[str, float]]:
    """The adapters that it was made with; raises `InvalidRequest` when only its maker can know where one lies."""
    if lost := [lora for lora in record.loras if lora.reference is None]:
        raise InvalidRequest(
            f"{path} was made with the LoRA {lost[0].name} (weights {lost[0].hash}) from a file: "
            f"give it with --lora FILE:{lost[0].weight:g}"
        )
    return [(lora.reference, lora.weight) for lora in record.loras if lora.reference is not None]


def recorded_embeddings(record: Record, path: Path) -> list[str | tuple[str, str]]:
    """The words of its own that it was made with; raises like `recorded_loras`."""
    if lost := [each for each in record.embeddings if each.reference is None]:
        raise InvalidRequest(
            f"{path} was made with the embedding {lost[0].word} (SHA-256 {lost[0].hash}…) from a file: "
            f"give it with --embedding FILE={lost[0].word}"
        )
    return [(each.reference, each.word) for each in record.embeddings if each.reference is not None]


def check_sources(record: Record, path: Path, source: Image | None, mask: Image | None) -> None:
    """The picture that it was generated over, and the mask, must be given again; warns when others are."""
    _check_source(path, record.source, source, "was painted over another picture", "--image")
    meant = None if mask is None else mask_of(mask)
    _check_source(path, record.mask, meant, "was painted inside another mask", "--mask")


def check_controls(record: Record, path: Path, controls: Mapping[str, Control]) -> None:
    """The pictures that ControlNets read must be given again, too."""
    for used in record.controls:
        given = controls.get(used.name)
        what = f"was steered by another picture for the ControlNet {used.name}"
        _check_source(
            path,
            used.image,
            None if given is None else given.image,
            what,
            f"--control …/{used.name}=FILE:{used.scale:g}",
        )


def _check_source(path: Path, recorded: str | None, given: Image | None, what: str, option: str) -> None:
    if recorded is None:
        return
    if given is None:
        raise InvalidRequest(f"{path} {what} (SHA-256 {recorded[:12]}…): give that one with {option}")
    if image_hash(given) != recorded:
        _warn(f"{path} {what} than the one given; the result will differ")


def check_weights(record: Record, path: Path, model: LatentModel) -> None:
    """Warns when the model has other weights than the one that made the picture."""
    if record.model_hash != model.origin.hash:
        _warn(
            f"{path} was made with the weights {record.model_hash} and {model.name} has {model.origin.hash}; "
            "the result will differ"
        )
    used = () if model.loras is None else tuple(file.hash for file in model.loras.files)
    if (made_with := tuple(lora.hash for lora in record.loras)) != used:
        _warn(
            f"{path} was made with the LoRAs {', '.join(made_with) or '(none)'} and now there are "
            f"{', '.join(used) or '(none)'}; the result will differ"
        )
    words = () if model.embeddings is None else tuple(each.hash for each in model.embeddings.words)
    if (written := tuple(each.hash for each in record.embeddings)) != words:
        _warn(
            f"{path} was made with the embeddings {', '.join(written) or '(none)'} and now there are "
            f"{', '.join(words) or '(none)'}; the result will differ"
        )


def check_record(record: Record, path: Path, picture: Image) -> None:
    """The same of a picture that a server generated."""
    now = record_of(picture)
    if now is not None and (record.model_hash, _hashes(record)) != (now.model_hash, _hashes(now)):
        _warn(f"{path} was made with other weights than those of the server's {now.model_name}; the result will differ")


def _hashes(record: Record) -> tuple[str, ...]:
    return tuple(lora.hash for lora in record.loras)


def _warn(message: str) -> None:
    warnings.warn(message, FewstepWarning, stacklevel=3)
