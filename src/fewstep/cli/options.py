"""The options of `fewstep generate`, which other commands share: what they are called, and what --help says of them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from fewstep.cli.spread import Table
from fewstep.errors import InvalidRequest
from fewstep.pipelines.field import Field
from fewstep.pipelines.fields import FIELDS, WHAT

if TYPE_CHECKING:
    from fewstep.pipelines.provenance import Record

WHERE = "Where"
FAST_PRECISION = "bfloat16"
OVERRIDES = ("kind", "prediction_type", "zero_snr", "unet")  # of what a model's files say

_TYPES = {"whole": int, "number": float, "switch": bool, "picture": Path}  # all else is text


def _option(field: Field) -> tuple[str, object, object]:
    """A field of the table as an option; the prompt is the argument."""
    text, panel = field.description, field.panel or None
    if field.name == "prompt":
        about = typer.Argument(help=text, rich_help_panel=panel, show_default=False)
        return field.name, Annotated[str | None, about], None
    flags = (f"--{field.name.replace('_', '-')}",) if field.type == "switch" else field.flags
    option = typer.Option(*flags, help=text, rich_help_panel=panel, show_default=False)
    if field.type == "switch":
        return field.name, Annotated[bool, option], False
    return field.name, Annotated[_TYPES.get(field.type, str) | None, option], None


# what is asked of a picture, but for what names networks to load: --control, --lora
Value = str | int | float | bool | Path | None
ASKED = Table(tuple(_option(field) for field in FIELDS.values() if field.type not in ("pictures", "weights")))

Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="A .png, .jpg or .webp file, or - for standard output; several are numbered. Default: fewstep-SEED.png",
        show_default=False,
    ),
]

Grid = Annotated[bool, typer.Option("--grid", help="All pictures on one sheet, in one file.")]

Again = Annotated[
    Path | None,
    typer.Option(
        "--from",
        help="Make this picture again, from the parameters inside it; other options override them.",
        rich_help_panel=WHAT,
    ),
]

Model = Annotated[
    str | None,
    typer.Option(
        help="starter, starter-teacher, a folder as diffusers writes it, a .safetensors checkpoint, or a hub id. "
        "[default: $FEWSTEP_MODEL, or starter]",
        rich_help_panel=WHERE,
    ),
]

Lora = Annotated[
    list[str] | None,
    typer.Option(
        help="An adapter on top, and how much of it: style.safetensors:0.8, a hub id, or lcm-lora; repeat for several.",
        rich_help_panel=WHERE,
        show_default=False,
    ),
]

Config = Annotated[
    Path | None,
    typer.Option(
        help="For a single-file model of unusual shape: a model folder with its configs and tokenizers.",
        rich_help_panel=WHERE,
        show_default=False,
    ),
]

Control = Annotated[
    list[str] | None,
    typer.Option(
        help="What a picture steers through, and the picture: a ControlNet or T2I-Adapter (folder, file or hub id) or "
        "an IP-Adapter (file): NET=edges.png, or NET=edges.png:0.8; repeat for several.",
        rich_help_panel=WHAT,
        show_default=False,
    ),
]

Vae = Annotated[
    str | None,
    typer.Option(
        help="Another autoencoder: a folder, a hub id, a .safetensors file, or fast (as --fast-decode). "
        "[default: the model's]",
        rich_help_panel=WHERE,
        show_default=False,
    ),
]

FastDecode = Annotated[
    bool | None,
    typer.Option(
        "--fast-decode/--full-decode",
        help="Decode much faster and a little rougher: by the model's own fast decoder, or TAESD. [default: full]",
        rich_help_panel=WHERE,
    ),
]

KindOption = Annotated[
    str | None,
    typer.Option(
        help="lcm or diffusion, where the model's files say it wrongly. [default: detected]", rich_help_panel=WHERE
    ),
]

PredictionType = Annotated[
    str | None,
    typer.Option(help="epsilon, v_prediction or sample, likewise. [default: detected]", rich_help_panel=WHERE),
]

ZeroSnr = Annotated[
    bool | None,
    typer.Option(
        "--zero-snr/--no-zero-snr",
        help="Betas that end in pure noise (zero terminal SNR), likewise. [default: detected]",
        rich_help_panel=WHERE,
        show_default=False,
    ),
]

Unet = Annotated[
    str | None,
    typer.Option(
        help="Another U-Net over the model's other parts: a folder, a hub id (latent-consistency/lcm-sdxl), a "
        ".safetensors file.",
        rich_help_panel=WHERE,
        show_default=False,
    ),
]

Embedding = Annotated[
    list[str] | None,
    typer.Option(
        help="A word of one's own (textual inversion): cat.safetensors, a hub id, or cat.safetensors=WORD for another "
        "word; repeat for several.",
        rich_help_panel=WHERE,
        show_default=False,
    ),
]

Variant = Annotated[
    str | None,
    typer.Option(
        help="Which weights of a model's folder: fp16, … [default: the plain ones, else what fits --dtype]",
        rich_help_panel=WHERE,
        show_default=False,
    ),
]

Memory = Annotated[
    str,
    typer.Option(
        help="Where the device's memory is short: full (all on it), parts (in turns), layers (slow), or auto.",
        rich_help_panel=WHERE,
    ),
]

Server = Annotated[
    str | None,
    typer.Option(
        help="A server that fewstep serve runs paints, at once, as nothing is loaded here: http://127.0.0.1:7860. "
        "--model, --lora and --control then name its own.",
        rich_help_panel=WHERE,
        show_default=False,
    ),
]

Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet", "-q", help="No advice and no bar; as FEWSTEP_QUIET=1. A random seed is told.", rich_help_panel=WHERE
    ),
]

Json = Annotated[
    bool,
    typer.Option("--json", help="For each picture a line of JSON: its path and all parameters.", rich_help_panel=WHERE),
]

Fast = Annotated[
    bool,
    typer.Option(
        "--fast", help="Quicker and a little rougher: --precision bfloat16 and --fast-decode.", rich_help_panel=WHERE
    ),
]

Device = Annotated[str | None, typer.Option(help="cpu, cuda, mps. [default: the best one here]", rich_help_panel=WHERE)]

Dtype = Annotated[
    str | None,
    typer.Option(help="float32, float16, bfloat16. [default: float16 on CUDA, else float32]", rich_help_panel=WHERE),
]


LoraSource = str | tuple[str, float]
EmbeddingSource = str | tuple[str, str]


class LoadOptions(TypedDict, total=False):
    """What `load` takes beside the model's name."""

    device: str | None
    dtype: str | None
    config: Path | None
    variant: str | None
    memory: str
    kind: str | None
    prediction_type: str | None
    zero_snr: bool | None
    unet: str | None
    loras: Sequence[LoraSource]
    embeddings: Sequence[EmbeddingSource]
    vae: str | None
    controlnets: Sequence[str]


@dataclass(frozen=True)
class Loading:
    """Which model is loaded, with what on top and in place of its parts, and where it runs."""

    model: Model = None
    lora: Lora = None
    config: Config = None
    control: Control = None
    vae: Vae = None
    fast_decode: FastDecode = None
    kind: KindOption = None
    prediction_type: PredictionType = None
    zero_snr: ZeroSnr = None
    unet: Unet = None
    embedding: Embedding = None
    variant: Variant = None
    device: Device = None
    dtype: Dtype = None
    memory: Memory = "auto"
    fast: Fast = False

    def quick(self, decoder: object = None) -> Loading:
        """With what --fast means for loading, where no other `decoder` is asked for."""
        named = (self.vae, self.fast_decode, decoder) != (None, None, None)
        return dataclasses.replace(self, fast_decode=True) if self.fast and not named else self

    def precision(self, asked: object = None) -> dict[str, str]:
        """What --fast means for a request, where no other precision is `asked` for."""
        return {"precision": FAST_PRECISION} if self.fast and asked is None else {}

    def options(
        self,
        controlnets: Sequence[str],
        record: Record | None = None,
        loras: Sequence[LoraSource] | None = None,
        embeddings: Sequence[EmbeddingSource] | None = None,
        precision: str | None = None,
    ) -> LoadOptions:
        """What `load` takes beside the model's name: these, and `record`'s where nothing was given.

        loras, embeddings  in place of those that were given
        precision          that is asked for
        """
        recorded = {name: getattr(record, name) for name in OVERRIDES if record and getattr(self, name) is None}
        wanted = dataclasses.replace(self, **recorded)
        return {
            "device": wanted.device,
            "dtype": wanted.dtype or _loaded_for(precision),
            "config": wanted.config,
            "variant": wanted.variant,
            "memory": wanted.memory,
            "kind": wanted.kind,
            "prediction_type": wanted.prediction_type,
            "zero_snr": wanted.zero_snr,
            "unet": wanted.unet,
            "loras": list(wanted.lora or ()) if loras is None else loras,
            "embeddings": list(wanted.embedding or ()) if embeddings is None else embeddings,
            "vae": decoder(wanted.vae, wanted.fast_decode, None if record is None else record.vae),
            "controlnets": controlnets,
        }


def _loaded_for(precision: str | None) -> str | None:
    """In which precision a model lies that is to be sampled in another."""
    if precision is None:
        return None
    return precision if precision == "float16" else "float32"


def default_model() -> str:
    """The model where no --model and no picture says: $FEWSTEP_MODEL, or the starter."""
    return os.environ.get("FEWSTEP_MODEL") or "starter"


def decoder(vae: str | None, fast_decode: bool | None, recorded: str | None = None) -> str | None:
    """What `load` takes as `vae`: `recorded` where neither option says otherwise; --full-decode undoes "fast" alone.

    Raises `InvalidRequest` where both options were given and differ.
    """
    if fast_decode and vae not in (None, "fast"):
        raise InvalidRequest(f"--fast-decode means --vae fast, and --vae {vae} was given; choose one of them")
    if fast_decode is False and vae == "fast":
        raise InvalidRequest("--full-decode means no fast decoder, and --vae fast was given; choose one of them")
    if fast_decode:
        return "fast"
    chosen = recorded if vae is None else vae
    return None if fast_decode is False and chosen == "fast" else chosen
