"""Which settings of the distillation are worth having, on the starter's teacher, at equal numbers of pictures seen.

    python -m recipes.starter art judge              (once, with the latents of the recipe: builds what is measured by)
    python -m benchmarks.ablations                   (every setting, two seeds: those that the results lack; resumable)
    python -m benchmarks.ablations --only lcm --only substeps --seeds 1

Every run distils the same LCM-LoRA (or, with --full, the whole network) from the same latents; a path of the teacher
counts as ten pictures, for that is what it costs. Measured are what comes out, as it ships, at 1, 2, 4 and 8 steps:
`KID`, the kernel distance of the pictures to the real drawings under the shipped eye, times 1,000 (less is better), and
`top 1`, the share of pictures whose nearest real drawing shows the prompt's concept under recipes/emoji/judge.py.
`calls` is what a picture costs in training, in calls of the network (backwards counts twice). Beside them stand the
teacher in 25 steps, and in as few steps without any training, at two calls a step. Writes
benchmarks/results/ablations.json and the table in docs/distillation.md, of all runs that were measured so far, each
value with its spread over the seeds where there are several. What the results hold, of runs of the same length, is not
trained again: remove the file to begin anew.
"""

from __future__ import annotations

import json
import random
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

import fewstep
from benchmarks import report
from fewstep.core.objectives.consistency import Consistency
from fewstep.core.objectives.guided import Distillation
from fewstep.core.objectives.path import Path as PathDistillation
from fewstep.core.objectives.trajectory import Trajectory
from fewstep.evaluate.features import Eye
from fewstep.evaluate.metrics.kernel import KernelSums
from fewstep.imaging.pixels import to_pixels
from fewstep.models.adapters.lora.put_on import merged
from fewstep.models.model import Model
from fewstep.pipelines.text2image import text2image
from fewstep.train.config import RunConfig, WatchConfig
from fewstep.train.defaults import changed, default_config
from fewstep.train.run import train
from recipes.emoji import art
from recipes.emoji.autoencoder import Pixels
from recipes.emoji.cache import STARTER_TEACHER, as_training_cache
from recipes.emoji.judge import Judge

PAGE = Path(__file__).parents[1] / "docs" / "distillation.md"
STEPS = (1, 2, 4, 8)
AT_ONCE = 32
TEACHER, UNTRAINED = "teacher, 25 steps", "teacher, untrained"
Row = dict[str, float]

DEFAULT = {"objective.trajectory": True} | {
    f"objective.{name}": value for name, value in Trajectory.recommended.items()
}
UNIFORM = DEFAULT | {"objective.t_m": "uniform"}
# The first is what diffusers' LoRA script does: w drawn and not told, no empty captions, DDIM over one grid step.
SETTINGS: dict[str, dict[str, Any]] = {
    "script": {"objective.w_range": (0.0, 6.0), "objective.embed_w": False, "objective.empty": 0.0},
    "lcm": {},
    "no guidance": {"objective.w_range": (0.0, 0.0)},
    "l2": {"objective.metric": "l2"},
    "pseudo_huber": {"objective.metric": "pseudo_huber"},
    "cauchy": {"objective.metric": "cauchy"},
    "ema target": {"objective.target": "ema"},
    "k 100": {"objective.k": 100},
    "substeps": {"objective.k": 100, "objective.substeps": 4},
    "dpm++": {"objective.k": 100, "objective.solver": "dpm++", "objective.substeps": 4},
    "far": {"objective.k": 300, "objective.solver": "dpm++", "objective.substeps": 8},
    "trajectory, gamma 0.3": {"objective.trajectory": True, "objective.gamma": 0.3},
    "trajectory": {"objective.trajectory": True},
    "trajectory, k 100": {"objective.trajectory": True, "objective.k": 100},
    "uniform ends": UNIFORM,
    "uniform ends, dpm++": UNIFORM | {"objective.solver": "dpm++", "objective.substeps": 2},
    "default": DEFAULT,
    "phases 2": {"objective.phases": 2},
    "phases 4": {"objective.phases": 4},
    "phases 4, k 100": {"objective.phases": 4, "objective.k": 100},
    "phases 4, trajectory, gamma 0.3": {
        "objective.phases": 4,
        "objective.trajectory": True,
        "objective.gamma": 0.3,
    },
    "phases 4, pseudo_huber": {"objective.phases": 4, "objective.metric": "pseudo_huber"},
    "phases 4, bfloat16": {"objective.phases": 4, "fit.precision": "bfloat16"},
    "path": {"objective.target": "path", "objective.phases": 4},
}


def main(
    folder: Annotated[Path, typer.Option(help="Where the recipe built art, latents and judge.")] = Path(
        "build/starter"
    ),
    work: Annotated[Path, typer.Option(help="For the runs; kept.")] = Path("build/ablations"),
    only: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(SETTINGS)}; repeat. [default: all]")] = None,
    seeds: Annotated[int, typer.Option(help="How many, from 0.")] = 2,
    pictures: Annotated[int, typer.Option(help="Seen by every run.")] = 3_200,
    batch_size: Annotated[int, typer.Option(help="Pictures a step.")] = 16,
    lr: Annotated[float, typer.Option(help="AdamW's.")] = 5e-4,
    full: Annotated[bool, typer.Option("--full", help="The whole network in place of a LoRA.")] = False,
    prompts: Annotated[int, typer.Option(help="That are painted to be measured.")] = 192,
) -> None:
    """Train, measure, and write the table."""
    if unknown := set(only or ()) - SETTINGS.keys():
        raise typer.BadParameter(f"unknown setting {', '.join(unknown)}; known are {', '.join(SETTINGS)}")
    fit = {"pictures": pictures, "batch_size": batch_size, "lr": lr}
    settings = fit | {"full": full, "prompts": prompts}
    rows = published(settings)
    cache, gallery = as_training_cache(folder, work / "starter.cache"), Gallery(folder, prompts)
    for name, teacher in ((TEACHER, gallery.of_teacher), (UNTRAINED, gallery.untrained)):
        rows.setdefault(name, {"0": teacher(work)})
    for name in only or SETTINGS:
        for seed in range(seeds):
            if str(seed) not in (measured := rows.setdefault(name, {})):
                run = work / f"{name.replace(' ', '-')}-{'full' if full else 'lora'}-{pictures}-{lr:g}-{seed}"
                row = measured[str(seed)] = distilled(name, cache, run, fit | {"seed": seed}, gallery, full=full)
                typer.echo(f"{name}, seed {seed}: {row}")
    rows = {name: rows[name] for name in (TEACHER, UNTRAINED, *SETTINGS) if rows.get(name)}
    line = report.command("ablations", only=only, seeds=seeds, **settings)
    made = report.write("ablations", line, values=settings | {"rows": rows})
    write_table({name: list(measured.values()) for name, measured in rows.items()}, made)


def published(settings: Mapping[str, Any]) -> dict[str, dict[str, Row]]:
    """The results' rows, by setting and seed; none where they are of other lengths."""
    file = report.RESULTS / "ablations.json"
    earlier = json.loads(file.read_text()) if file.is_file() else {}
    return dict(earlier["rows"]) if {name: earlier.get(name) for name in settings} == settings else {}


def distilled(name: str, cache: Path, run: Path, fit: Mapping[str, Any], gallery: Gallery, *, full: bool) -> Row:
    """What a run of one setting comes to; trained and measured where that has not been done."""
    changes = {"objective.phases": 1} | SETTINGS[name]
    target = changes.get("objective.target")
    config = default_config("distill", STARTER_TEACHER, str(cache), lora=not full, target=target, phases=1)
    assert isinstance(config.objective, Distillation)
    share = config.objective.cost
    changes |= {f"fit.{key}": value for key, value in fit.items()}
    changes |= {f"fit.{key}": fit[key] // share for key in ("pictures", "batch_size")}
    watch = WatchConfig(every=fit["pictures"], prompts=("cat face, noto style", "red apple, twemoji style"))
    config = changed(config, changes | {"watch": watch})

    def measure() -> Row:
        train(config, run)
        return gallery.measured(_result(run, full=full))

    return {"calls": calls(config) / share, **kept(measured_in(run, gallery), measure)}


def measured_in(run: Path, gallery: Gallery) -> Path:
    """The file of a run's measures."""
    return run / f"measured-{len(gallery.chosen)}.json"


def calls(config: RunConfig) -> int:
    """Of the network, for a picture or a path of training."""
    objective, student = config.objective, 3  # forwards, and backwards
    assert isinstance(objective, (Consistency, PathDistillation))
    guided = 1 if objective.w_range == (0.0, 0.0) else 2
    if isinstance(objective, PathDistillation):
        return objective.phases * objective.substeps * (guided + student)
    return guided * objective.substeps + 1 + student


def _result(run: Path, *, full: bool) -> Model:
    if full:
        return fewstep.load(run / "model", device="cpu")
    return merged(fewstep.load(STARTER_TEACHER, device="cpu", loras=[run]))


def kept(file: Path, measure: Callable[[], Row]) -> Row:
    """What `measure` gives, or gave before."""
    if not file.is_file():
        row = measure()
        file.write_text(json.dumps(row) + "\n")
    return dict(json.loads(file.read_text()))


class Gallery:
    """Drawings that training has seen, to be painted and compared with; the same for every model."""

    def __init__(self, folder: Path, count: int) -> None:
        self.judge, self.eye = Judge(folder), Eye.load()
        real = Pixels(folder, held_out=False)
        self.real = self._features([real[slice(i, i + AT_ONCE)] for i in range(0, len(real), AT_ONCE)])
        self.chosen = random.Random(0).sample(real.pictures, count)

    def of_teacher(self, work: Path) -> Row:
        """One number stands for all step counts."""
        teacher = fewstep.load(STARTER_TEACHER, device="cpu")
        return kept(work / f"teacher-{len(self.chosen)}.json", lambda: self.measured(teacher, steps=(25,)))

    def untrained(self, work: Path) -> Row:
        teacher = fewstep.load(STARTER_TEACHER, device="cpu")
        return kept(work / f"untrained-{len(self.chosen)}.json", lambda: self.measured(teacher, sampler="ddim"))

    @torch.no_grad()
    def measured(self, model: Model, steps: Sequence[int] = STEPS, **how: Any) -> Row:
        row = {}
        prompts = [f"{picture.label}, {picture.style} style" for picture in self.chosen]
        for count in steps:
            images = text2image(model, prompts, steps=count, seed=0, batch_size=AT_ONCE, **how)
            pixels = torch.cat([to_pixels(image, art.SIZE, art.SIZE) for image in images])
            features = self._features(pixels.split(AT_ONCE))
            row[f"KID@{count}"] = 1000 * KernelSums.of(features, self.real, 1).distance()
            ranks = self.judge.ranks(pixels, [picture.label for picture in self.chosen])
            row[f"top 1@{count}"] = sum(rank == 0 for rank in ranks) / len(ranks)
        return row

    def _features(self, pixels: Sequence[Tensor]) -> Tensor:
        return torch.cat([self.eye.look(some).features for some in pixels])


def write_table(rows: Mapping[str, list[Row]], made: Mapping[str, Any]) -> None:
    """Put the table between the marks of the page; `made` says by what, as `report.write` does."""
    names = ["calls", *(f"{measure}@{count}" for measure in ("KID", "top 1") for count in STEPS)]
    lines = [f"| setting | {' | '.join(names)} |", f"| --- |{' --: |' * len(names)}"]
    for name, measured in rows.items():
        cells = [_cell([row[each] for row in measured if each in row], each) for each in names]
        if name == TEACHER:
            cells = [
                "",
                *([_cell([measured[0]["KID@25"]], "KID")] * 4),
                *([_cell([measured[0]["top 1@25"]], "top")] * 4),
            ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    about = f"{report.as_sentence(made)} Mean ± standard deviation of two seeds and more; rows that this run did not"
    text = f"{about}\nrenew are from earlier ones.\n\n" + "\n".join(lines)
    page = PAGE.read_text(encoding="utf-8")
    marked = re.sub(
        r"(<!-- ablations: begin -->\n).*?(\n<!-- ablations: end -->)",
        lambda found: found[1] + text + found[2],
        page,
        flags=re.DOTALL,
    )
    PAGE.write_text(marked, encoding="utf-8")


def _cell(values: Sequence[float], measure: str) -> str:
    digits = 0 if measure == "calls" else 1 if measure.startswith("KID") else 2
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 and digits else ""
    return f"{statistics.mean(values):.{digits}f}{spread}" if values else ""


if __name__ == "__main__":
    typer.run(main)
