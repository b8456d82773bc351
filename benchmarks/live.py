"""Live sessions against one server: pictures a second and key-to-picture latency, beside the usual design.

    python -m benchmarks.live                 (writes benchmarks/results/live.md)

The clients are a process of their own, over loopback. Every client is a person who changes the seed as soon as the last
picture came; in the row of the slider, one who changes it sixty times a second whatever comes: the newest counts,
and the latency of a picture is that of the change which it shows.

The rival is what most servers do: one lock around diffusers' own pipeline and scheduler, as the model's folder names
them (for the starter `StableDiffusionPipeline` with `TCDScheduler`), prompt encoded each time, JPEG by Pillow, behind
the same WebSocket library. One runs after the other, with the machine to itself.
"""

from __future__ import annotations

import math
import os
from typing import Annotated

import torch
import typer

from benchmarks import report
from benchmarks.live_clients import SLIDES, WARM_UP, Manner, apart, measure
from benchmarks.live_servers import running, serve_ours, serve_usual
from fewstep.cli.main import SPINS

SESSIONS = (1, 2, 4, 8, 16)
ABOUT = """Each server has the machine to itself, one after the other. Ours runs as `fewstep serve` does (with OpenVINO
where it is installed, and the fast decoder where the model brings one), the usual design through diffusers' own
pipeline, one request at a time."""


def main(
    model: Annotated[str, typer.Option(help="starter, or a folder with an LCM.")] = "starter",
    steps: Annotated[int, typer.Option(help="Steps of every picture.")] = 2,
    seconds: Annotated[
        float, typer.Option(help=f"How long each measurement lasts, after {WARM_UP:g} s of warming up.")
    ] = 8.0,
    threads: Annotated[int, typer.Option(help="Of torch.")] = torch.get_num_threads(),
    sessions: Annotated[list[int] | None, typer.Option(help="Repeat. [default: 1, 2, 4, 8, 16]")] = None,
) -> None:
    """Write the table: so many sessions, the usual design beside, and a neighbour who floods."""
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # as `fewstep serve` sets it; for both
    rows = [
        "| sessions | ours, pictures/s | p50 ms | p95 ms | usual, pictures/s | p50 ms | p95 ms | ratio |",
        "| --- |" + " --- |" * 7,
    ]
    counts = sessions or SESSIONS
    with apart() as process:
        with running(serve_usual, model, threads) as usual:
            theirs = [measure(process, usual, count, steps, seconds) for count in counts]
        with running(serve_ours, model, threads) as ours:
            for count, b in zip(counts, theirs, strict=True):
                a = measure(process, ours, count, steps, seconds)
                rows.append(
                    f"| {count} | {a.per_second:.1f} | {a.p50:.0f} | {a.p95:.0f} | {b.per_second:.1f} | {b.p50:.0f} | "
                    f"{b.p95:.0f} | {a.per_second / b.per_second if b.per_second else math.inf:.2f} |"
                )
                typer.echo(rows[-1])
            slider = measure(process, ours, 1, steps, seconds, manner=Manner.SLIDER)
            fair = measure(process, ours, 4, steps, seconds)
            flooded = measure(process, ours, 4, steps, seconds, manner=Manner.FLOOD, besides=True)
    text = "\n".join(
        [
            ABOUT,
            "",
            *rows,
            "",
            f"One session whose slider is drawn ({SLIDES} changes a second, the newest counts): "
            f"{slider.per_second:.1f} pictures/s, p50 {slider.p50:.0f} ms, p95 {slider.p95:.0f} ms.",
            "",
            f"Four sessions: the worst p95 is {fair.worst_p95:.0f} ms. When one of the four floods (100 changes a "
            f"second), the worst p95 of the others is {flooded.worst_p95:.0f} ms, "
            f"{flooded.worst_p95 / fair.worst_p95:.2f} times that.",
        ]
    )
    line = report.command("live", model=model, steps=steps, seconds=f"{seconds:g}", threads=threads, sessions=sessions)
    report.write("live", line, title="Live sessions", text=text)
    typer.echo(text)


if __name__ == "__main__":
    typer.run(main)
