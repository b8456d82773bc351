"""Which settings of the distillation are worth having, on the starter's teacher, at equal numbers of pictures seen.

    python -m recipes.starter art judge              (once, with the latents of the recipe: builds what is measured by)
    python -m benchmarks.ablations                   (every setting, three seeds; resumable: run it again to go on)
    python -m benchmarks.ablations --only lcm --only substeps --seeds 1 --pictures 3200

Every run distils the same LCM-LoRA (or, with --full, the whole network) from the same latents. Measured are the gap to
the ends of the teacher's own paths (`teacher_gap`, less is better) and the share of pictures at 1, 2, 4 and 8 steps
whose nearest real drawing shows the prompt's concept (`top 1`, under recipes/emoji/judge.py). Writes
benchmarks/results/ablations.json and the table in docs/distillation.md, each value with its spread over the seeds.
"""

from __future__ import annotations

import json
import random
import re
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from fewstep.models.bundle import ModelBundle
from fewstep.pipelines.pixels import to_pixels
from fewstep.pipelines.text2image import text2image
from fewstep.train.config import WatchConfig
from fewstep.train.defaults import changed, default_config
from fewstep.train.run import Hooks, train
from recipes.emoji import art
from recipes.emoji.cache import STARTER_TEACHER, as_training_cache
from recipes.emoji.judge import Judge

RESULT = Path(__file__).parent / "results" / "ablations.json"
PAGE = Path(__file__).parents[1] / "docs" / "distillation.md"
STEPS = (1, 2, 4, 8)

# The first is what diffusers' LoRA script does: w drawn and not told, no empty captions, DDIM over one grid step.
SETTINGS: dict[str, dict[str, Any]] = {
    "script": {"consistency.w_range": (0.0, 6.0), "consistency.embed_w": False, "consistency.empty": 0.0},
    "lcm": {},
    "no guidance": {"consistency.w_range": (0.0, 0.0)},
    "l2": {"consistency.metric": "l2"},
    "pseudo_huber": {"consistency.metric": "pseudo_huber"},
    "cauchy": {"consistency.metric": "cauchy"},
    "ema target": {"consistency.target": "ema"},
    "k 100": {"consistency.k": 100},
    "substeps": {"consistency.k": 100, "consistency.substeps": 4},
    "dpm++": {"consistency.k": 100, "consistency.solver": "dpm++", "consistency.substeps": 4},
    "far": {"consistency.k": 300, "consistency.solver": "dpm++", "consistency.substeps": 8},
    "trajectory": {"consistency.trajectory": True},
    "phases 2": {"consistency.phases": 2},
    "phases 4": {"consistency.phases": 4},
    "path": {
        "consistency.target": "path",
        "consistency.phases": 4,
        "consistency.solver": "dpm++",
        "consistency.substeps": 3,
    },
}


def main(
    folder: Annotated[Path, typer.Option(help="Where the recipe built art, latents and judge.")] = Path(
        "build/starter"
    ),
    work: Annotated[Path, typer.Option(help="For the runs; kept.")] = Path("build/ablations"),
    only: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(SETTINGS)}; repeat. [default: all]")] = None,
    seeds: Annotated[int, typer.Option(help="How many, from 0.")] = 3,
    pictures: Annotated[int, typer.Option(help="Seen by every run.")] = 6_400,
    batch_size: Annotated[int, typer.Option(help="Pictures a step.")] = 32,
    lr: Annotated[float, typer.Option(help="AdamW's.")] = 3e-4,
    full: Annotated[bool, typer.Option("--full", help="The whole network in place of a LoRA.")] = False,
    prompts: Annotated[int, typer.Option(help="That are painted for the judge.")] = 64,
) -> None:
    """Train, measure, and write the table."""
    cache = as_training_cache(folder, work / "starter.cache")
    judged = Judged(folder, prompts)
    rows: dict[str, list[dict[str, float]]] = {}
    for name in only or SETTINGS:
        if name not in SETTINGS:
            raise typer.BadParameter(f"unknown setting {name!r}; known are {', '.join(SETTINGS)}")
        for seed in range(seeds):
            base = default_config("distill", STARTER_TEACHER, str(cache), lora=not full)
            fit = {"pictures": pictures, "batch_size": batch_size, "lr": lr, "seed": seed}
            values = {f"fit.{key}": value for key, value in fit.items()} | SETTINGS[name]
            watch = WatchConfig(every=pictures, prompts=("cat face, noto style", "red apple, twemoji style"))
            config = changed(base, values | {"watch": watch})
            run = work / f"{name.replace(' ', '-')}-{'full' if full else 'lora'}-{pictures}-{lr:g}-{seed}"
            train(config, run, measures=[judged], hooks=Hooks())
            measured = [json.loads(line) for line in (run / "measures.jsonl").read_text().splitlines()]
            rows.setdefault(name, []).append(measured[-1])
            typer.echo(f"{name}, seed {seed}: {measured[-1]}")
    settings = {
        "pictures": pictures,
        "batch_size": batch_size,
        "lr": lr,
        "full": full,
        "prompts": prompts,
        "seeds": seeds,
    }
    RESULT.write_text(
        json.dumps({"command": "python -m benchmarks.ablations", **settings, "rows": rows}, indent=2) + "\n"
    )
    write_table(rows, settings)


class Judged:
    """`top1@N`: the share of the prompts' pictures in N steps that the judge names rightly."""

    def __init__(self, folder: Path, count: int) -> None:
        self.judge = Judge(folder)
        seen = [picture for picture in art.load(folder)[0] if not picture.held_out]
        self.chosen = random.Random(0).sample(seen, count)

    @torch.no_grad()
    def __call__(self, model: ModelBundle) -> Mapping[str, float]:
        prompts = [f"{picture.label}, {picture.style} style" for picture in self.chosen]
        shares = {}
        for steps in STEPS:
            images = text2image(model, prompts, steps=steps, seed=0, batch_size=32)
            pixels = torch.cat([to_pixels(image, art.SIZE, art.SIZE) for image in images])
            ranks = self.judge.ranks(pixels, [picture.label for picture in self.chosen])
            shares[f"top1@{steps}"] = sum(rank == 0 for rank in ranks) / len(ranks)
        return shares


def write_table(rows: Mapping[str, list[dict[str, float]]], settings: Mapping[str, Any]) -> None:
    """Put the table between the marks of the page."""
    names = ["teacher_gap", *(f"top1@{steps}" for steps in STEPS)]
    lines = [f"| setting | {' | '.join(names)} |", f"| --- |{' --: |' * len(names)}"]
    for name, measured in rows.items():
        cells = [_cell([row[each] for row in measured]) for each in names]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    about = ", ".join(f"{name} {value}" for name, value in settings.items())
    text = f"`python -m benchmarks.ablations` ({about}); mean ± standard deviation over the seeds.\n\n" + "\n".join(
        lines
    )
    page = PAGE.read_text(encoding="utf-8")
    marked = re.sub(
        r"(<!-- ablations: begin -->\n).*?(\n<!-- ablations: end -->)",
        lambda found: found[1] + text + found[2],
        page,
        flags=re.DOTALL,
    )
    PAGE.write_text(marked, encoding="utf-8")


def _cell(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


if __name__ == "__main__":
    typer.run(main)
