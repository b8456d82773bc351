"""The options that the training commands have in common, and how what people write in them is read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fewstep.errors import InvalidRequest

DATA, HOW, WATCHED, WHERE = "Data", "How", "What is watched", "Where"


def option(*names: str, help: str, panel: str, **more: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel, show_default=False, **more)


Data = Annotated[
    str | None,
    option(
        "--data",
        help="A folder of pictures (captions: metadata.jsonl, a .txt beside each, or the file names), WebDataset tars, "
        "a Hugging Face dataset's folder or id, or a cache.",
        panel=DATA,
    ),
]
Output = Annotated[
    Path, typer.Option("--output", "-o", help="The run's folder; the same command again goes on.", show_default=False)
]
Recipe = Annotated[
    str | None,
    typer.Option(
        help="A Python file with a function that returns a RunConfig: my.py or my.py:function.", metavar="FILE"
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, print what would run, and stop.")]
Size = Annotated[str | None, option("--size", help="Pixels: 512, or HEIGHTxWIDTH. [default: the model's]", panel=DATA)]
Buckets = Annotated[
    bool | None,
    option(
        "--buckets/--no-buckets",
        help="Several sizes of about the same area, for each picture the nearest to its shape; else all are cropped.",
        panel=DATA,
    ),
]
Flip = Annotated[bool | None, option("--flip/--no-flip", help="Also every picture's mirror image.", panel=DATA)]
Suffix = Annotated[
    str | None, option("--suffix", help='Added to every caption, to call a style: ", ink style".', panel=DATA)
]
ImageColumn = Annotated[str | None, option("--image-column", help="Of a Hugging Face dataset.", panel=DATA)]
CaptionColumn = Annotated[str | None, option("--caption-column", help="Of a dataset, or in a tar's .json.", panel=DATA)]
Pictures = Annotated[
    int | None, option("--pictures", help="Pictures to see in all; a larger number goes on.", panel=HOW)
]
BatchSize = Annotated[
    int | None, option("--batch-size", help="Pictures a step, over all processes. [default: 16]", panel=HOW)
]
Accumulate = Annotated[
    int | None, option("--accumulate", help="Parts of a batch, for less memory. [default: 1]", panel=HOW)
]
Lr = Annotated[float | None, option("--lr", help="The learning rate.", panel=HOW)]
OptimizerName = Annotated[str | None, option("--optimizer", help="adamw, muon, adamw8bit. [default: adamw]", panel=HOW)]
Precision = Annotated[
    str | None, option("--precision", help="float32, bfloat16, float16. [default: float32]", panel=HOW)
]
Checkpointing = Annotated[
    bool | None, option("--checkpointing/--no-checkpointing", help="Less memory, a third more time.", panel=HOW)
]
Seed = Annotated[int | None, option("--seed", help="Of everything that is drawn. [default: 0]", panel=HOW)]
Rank = Annotated[
    int | None, option("--rank", help="The LoRA's rank: larger learns more, and is a larger file.", panel=HOW)
]
Alpha = Annotated[float | None, option("--alpha", help="The LoRA's alpha. [default: the rank]", panel=HOW)]
Metric = Annotated[
    str | None,
    option("--metric", help="l2, huber, pseudo_huber, cauchy. [default: huber; distill: pseudo_huber]", panel=HOW),
]
K = Annotated[
    int | None,
    option("--k", help="The skipping interval, of 1000 times. [default: the grid's, 20; distill: 100]", panel=HOW),
]
Grid = Annotated[int | None, option("--grid", help="Times that are trained on. [default: 50]", panel=HOW)]
Empty = Annotated[float | None, option("--empty", help="Share of empty captions.", panel=HOW)]
Target = Annotated[str | None, option("--target", help="student (no gradient) or ema. [default: student]", panel=HOW)]
Prompts = Annotated[
    list[str] | None, option("--prompt", help="Of the sheets; repeat for several. [default: captions]", panel=WATCHED)
]
Steps = Annotated[str | None, option("--steps", help="Of the sheets. [default: 1,2,4,8]", panel=WATCHED)]
Every = Annotated[
    int | None, option("--every", help="Pictures between sheets. [default: a tenth of all]", panel=WATCHED)
]
Measures = Annotated[
    list[str] | None,
    option("--measure", help="my.py:function, called with the model; returns numbers by name.", panel=WATCHED),
]
Best = Annotated[
    str | None,
    option("--best", help="The measure to keep the best by (the least; with a minus, the most).", panel=WATCHED),
]
Patience = Annotated[
    int | None, option("--patience", help="Sheets without a better measure before it stops.", panel=WATCHED)
]
TensorBoard = Annotated[
    bool | None, option("--tensorboard/--no-tensorboard", help="Also log for TensorBoard.", panel=WATCHED)
]
Device = Annotated[str | None, option("--device", help="cpu, cuda, mps. [default: the best one here]", panel=WHERE)]
Minutes = Annotated[float | None, option("--minutes", help="Stop after so long, with a checkpoint.", panel=WHERE)]
CheckpointMinutes = Annotated[
    float | None, option("--checkpoint-minutes", help="Between checkpoints. [default: 5]", panel=WHERE)
]


def size_of(text: str | None) -> tuple[int, int] | None:
    """ "512" or "HEIGHTxWIDTH"; raises `InvalidRequest`."""
    if text is None:
        return None
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.strip().isdigit() for side in sides):
        raise InvalidRequest(f"the size is {text!r}; give pixels as 512 or HEIGHTxWIDTH")
    return int(sides[0]), int(sides[-1])


def numbers_of(text: str | None) -> tuple[int, ...] | None:
    """ "1,2,4"; raises `InvalidRequest`."""
    if text is None:
        return None
    if not all(part.strip().isdigit() for part in text.split(",")):
        raise InvalidRequest(f"the steps are {text!r}; give numbers as 1,2,4,8")
    return tuple(int(part) for part in text.split(","))


def w_range_of(text: str | None) -> tuple[float, float] | None:
    """ "none", "7.5" or "4:14", in the guidance scale that people know, as LCM's w; raises `InvalidRequest`."""
    from fewstep.core.guidance import w_from_guidance_scale

    if text is None:
        return None
    if text == "none":
        return 0.0, 0.0
    try:
        low, high = (w_from_guidance_scale(float(part)) for part in (text.split(":") * 2)[:2])
    except ValueError as error:
        raise InvalidRequest(f"the guidance is {text!r}; give a scale (7.5), a range (1:9), or none") from error
    return low, high
