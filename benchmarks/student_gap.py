"""How much of what guidance does has a student learnt? One step of it, beside one guided step of its teacher.

    python -m recipes.starter art                  (once, with the latents of the recipe)
    python -m benchmarks.student_gap               (the shipped starter; writes benchmarks/results/student_gap.md)
    python -m benchmarks.student_gap --adapter lcm-lora --adapter runs/mine

From states on whole paths of the guided teacher one step is taken to the end of the phase (of four), and compared with
where the path leaves it: mean |difference| in latents of unit variance, for each phase and each of its three states.
The guided teacher, at two calls a step, is what a student may come to; the unguided one is where it began.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

import fewstep
from benchmarks import report
from fewstep.core.consistency import TrajectoryFunction
from fewstep.core.denoise import Denoise
from fewstep.core.guidance import ClassifierFreeGuidance, guidance_scale_from_w
from fewstep.core.objectives import path
from fewstep.core.objectives.base import Networks
from fewstep.data.latents import LatentCache
from fewstep.models.adapters.lora.put_on import merged
from fewstep.models.conditioning import Conditioning
from fewstep.train.task import OverCache
from recipes.emoji.cache import STARTER_TEACHER

AT_ONCE = 8


def main(
    folder: Annotated[Path, typer.Option(help="Where the recipe built the latents.")] = Path("build/starter"),
    adapter: Annotated[list[str] | None, typer.Option(help="On the teacher; repeat. [default: lcm-lora]")] = None,
    w: Annotated[float, typer.Option(help="Guidance in LCM's form.")] = 2.0,
    paths: Annotated[int, typer.Option(help="Of the teacher.")] = 32,
) -> None:
    """Walk, step, and write the table."""
    teacher, student = (fewstep.load(name, device="cpu") for name in (STARTER_TEACHER, "starter"))
    cache = LatentCache.load(folder / "latents.safetensors")
    networks = Networks(student.denoise, teacher.profile.schedule, teacher=teacher.denoise)
    objective = path.Path(w_range=(w, w))
    task = OverCache(objective, networks, cache)
    adapted = {name: fewstep.load(STARTER_TEACHER, device="cpu", loras=[name]) for name in adapter or ["lcm-lora"]}
    steps: dict[str, Denoise[Conditioning]] = {"teacher, unguided": teacher.denoise, "starter": student.denoise}
    steps |= {f"teacher + {name}": merged(model).denoise for name, model in adapted.items()}
    generator = torch.Generator().manual_seed(0)
    found: dict[str, list[Tensor]] = {}
    for _ in range(0, paths, AT_ONCE):
        for name, gaps in _gaps(objective, task, steps, generator).items():
            found.setdefault(name, []).append(gaps)
    table = _table({name: torch.stack(gaps).mean(0) for name, gaps in found.items()})
    about = f"{paths} paths, guidance scale {guidance_scale_from_w(w):g}."
    report.write(
        "student_gap",
        report.command("student_gap", adapter=adapter, w=f"{w:g}", paths=paths),
        title="How far one step ends from the guided teacher's path",
        text=f"{about}\n\n{table}",
    )
    typer.echo(table)


@torch.no_grad()
def _gaps(
    objective: path.Path, task: OverCache, steps: Mapping[str, Denoise[Conditioning]], generator: torch.Generator
) -> dict[str, Tensor]:
    """(phases, states of a phase) for each way to step."""
    cache, networks, substeps = task.cache, task.networks, objective.substeps
    draw = task.draw(torch.randint(len(cache), (AT_ONCE,), generator=generator), generator)
    draw = dataclasses.replace(draw, captions=cache.draw_captions(draw.rows, generator))
    batch = task.batch(draw)
    assert batch.w is not None
    states = objective.walk(networks, batch)
    many = len(states) - 1
    phase_of = torch.arange(many) // substeps
    ends = objective.ends(networks.schedule)[phase_of].repeat_interleave(len(draw))
    target = torch.cat([states[(phase + 1) * substeps] for phase in phase_of.tolist()])
    cond, w = cache.conditioning(draw.captions, draw.rows, "cpu").repeat(many), batch.w.repeat(many)
    assert networks.teacher is not None
    guided = ClassifierFreeGuidance(networks.teacher, cache.unconditional(cond), w)
    gaps = {}
    for name, step in {**steps, "teacher, guided": guided}.items():
        own_w = w if name == "starter" else None
        ended = TrajectoryFunction(step, networks.schedule, ends)(
            torch.cat(states[:-1]), draw.times.T.flatten(), cond, own_w
        )
        gaps[name] = (ended - target).abs().view(objective.phases, substeps, -1).mean(2)
    return gaps


def _table(gaps: Mapping[str, Tensor]) -> str:
    phases = len(next(iter(gaps.values())))
    lines = [
        f"| | all | {' | '.join(f'phase {phase + 1}' for phase in range(phases))} |",
        f"| --- |{' --: |' * (phases + 1)}",
    ]
    for name, gap in gaps.items():
        cells = [f"{float(gap.mean()):.4f}", *(" ".join(f"{float(each):.3f}" for each in row) for row in gap)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)
