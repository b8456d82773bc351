"""`fewstep evaluate`: which step count may I ship?"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fewstep.cli.output import check_new_folder
from fewstep.cli.progress import TaskBars, one_line_warnings
from fewstep.core.samplers import one_call_solvers
from fewstep.errors import InvalidRequest

if TYPE_CHECKING:
    from fewstep.evaluate.config import EvaluateConfig
    from fewstep.evaluate.search import Found

WHAT = "What is compared"
WITH = "What it is measured with"
HOW = "How"


def evaluate(
    model: Annotated[
        str, typer.Argument(help="As in `fewstep generate`; MODEL+LORA:0.8 puts adapters on top.")
    ] = "starter",
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder of the report; the same command goes on in it.")
    ] = Path("evaluation"),
    teacher: Annotated[
        str,
        typer.Option(
            help="What it was distilled from; auto: as its card says, where built in; none.", rich_help_panel=WHAT
        ),
    ] = "auto",
    also: Annotated[
        list[str] | None,
        typer.Option(
            help="Another MODEL, MODEL+LORA:0.8, or MODEL@tcd (sampled so); repeat for several.", rich_help_panel=WHAT
        ),
    ] = None,
    steps: Annotated[str, typer.Option(help="The step counts in question.", rich_help_panel=WHAT)] = "1,2,4,8",
    teacher_steps: Annotated[
        int | None, typer.Option(help="Of the teacher at its best. [default: its card's]", rich_help_panel=WHAT)
    ] = None,
    solvers: Annotated[
        str,
        typer.Option(help="Under which the teacher is tried at the same steps; none.", rich_help_panel=WHAT),
    ] = ",".join(one_call_solvers()),
    num_images: Annotated[
        int, typer.Option("--num-images", "-n", help="Pictures of each; 2000 for a report.", rich_help_panel=HOW)
    ] = 256,
    per_prompt: Annotated[
        int, typer.Option(help="Of these so many for each prompt, to see variety.", rich_help_panel=HOW)
    ] = 4,
    prompts: Annotated[
        str,
        typer.Option(help="A text file, a prompt a line, or builtin: 500 of the starter's kind.", rich_help_panel=WITH),
    ] = "builtin",
    reference: Annotated[
        str,
        typer.Option(
            help="Real pictures: a folder, a .safetensors with pixels or kept features, builtin (the starter's art), "
            "none. [default: builtin for the starter, none for others]",
            rich_help_panel=WITH,
            show_default=False,
        ),
    ] = "auto",
    features: Annotated[
        str,
        typer.Option(
            help="The network that looks: eye (ships; for drawings), clip, inception. [default: eye for the starter, "
            "inception for others]",
            rich_help_panel=WITH,
            show_default=False,
        ),
    ] = "auto",
    clip: Annotated[
        str | None, typer.Option(help="Another CLIP: a folder or a hub id.", rich_help_panel=WITH, show_default=False)
    ] = None,
    two_part: Annotated[
        bool | None,
        typer.Option(
            "--two-part/--no-two-part",
            help="Ask a hundred prompts of two parts, too: a colour and a thing, two things, three of a thing. "
            "[default: of the starter]",
            rich_help_panel=WITH,
            show_default=False,
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Of the first picture; the next ones take the next.", rich_help_panel=HOW)
    ] = 0,
    guidance_scale: Annotated[
        float | None, typer.Option(help="For all. [default: each card's]", rich_help_panel=HOW)
    ] = None,
    draws: Annotated[int, typer.Option(help="Of the bootstrap, for the intervals.", rich_help_panel=HOW)] = 200,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Pictures through the network at once. [default: by their size]", rich_help_panel=HOW),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, mps. [default: the best one here]", rich_help_panel=HOW)
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="float32, float16, bfloat16. [default: by the device]", rich_help_panel=HOW)
    ] = None,
    search_timesteps: Annotated[
        bool,
        typer.Option("--search-timesteps", help="In place of a report: find better times for these step counts."),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No advice and no bar; errors only.", rich_help_panel=HOW)
    ] = False,
) -> None:
    """Measure how good, how faithful, how varied and how fast a few-step model is at each step count.

    Beside it, from the same prompts and the same noise: its teacher, and the teacher under plain fast solvers. Writes
    report.html (one file, opens anywhere), results.json and card.md, with a recommendation, into the folder.

    Killed or interrupted, the same command goes on where it stopped. `accelerate launch -m fewstep evaluate …` splits
    the work among processes.

    **Examples**

    fewstep evaluate starter -n 128 -o quick

    fewstep evaluate ./my-lcm --teacher ./my-sd15 --reference ./photos --prompts prompts.txt -n 2000

    fewstep evaluate starter --also starter-teacher+lcm-lora.safetensors

    fewstep evaluate starter --search-timesteps --steps 2,4
    """
    from fewstep.evaluate.config import EvaluateConfig

    config = EvaluateConfig(
        model=model,
        teacher=teacher,
        also=tuple(also or ()),
        prompts=prompts,
        reference=reference,
        steps=_numbers(steps),
        teacher_steps=teacher_steps,
        solvers=() if solvers == "none" else tuple(part.strip() for part in solvers.split(",")),
        num_images=num_images,
        per_prompt=per_prompt,
        seed=seed,
        guidance_scale=guidance_scale,
        features=features,
        two_part=two_part,
        draws=draws,
        batch_size=batch_size,
        device=device,
        dtype=dtype,
        clip=EvaluateConfig.clip if clip is None else clip,
    )
    check_new_folder(output)
    with one_line_warnings(quiet), TaskBars(quiet) as bars:
        if search_timesteps:
            found = _search(config, output, bars)
        else:
            from fewstep.evaluate.run import evaluate as run

            command = shlex.join(["fewstep", *sys.argv[1:]])
            results = run(config, output, command=command, on_progress=bars)
    if search_timesteps:
        _print_found(model, found)
    elif results is not None:
        from fewstep.evaluate.report_two_parts import lines as two_part_lines

        typer.echo(results.recommendation["headline"])
        for line in two_part_lines(results):
            typer.echo(line)
        for name in ("report.html", "results.json", "card.md"):
            typer.echo(output / name)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise InvalidRequest(f"the steps are {text[:60]!r}; give whole numbers with commas: 1,2,4,8") from error


def _search(config: EvaluateConfig, output: Path, bars: TaskBars) -> list[Found]:
    from fewstep.evaluate.run import search

    return search(config, output, on_progress=bars)


def _print_found(model: str, found: list[Found]) -> None:
    for each in found:
        times = ",".join(map(str, each.times))
        before, after = each.usual_distance.value, each.distance.value
        verdict = "better" if each.better else "no better than the usual times, which are"
        shown = times if each.better else ",".join(map(str, each.usual))
        typer.echo(f"{each.steps} steps: {verdict} {shown}")
        typer.echo(
            "  on pictures that the search did not use: "
            f"Fréchet distance {before:.2f} with the usual times, {after:.2f} with {times} "
            f"(p = {each.gain.p:.2g}; {each.asked} settings were tried)",
        )
        if each.better:
            typer.echo(f"  fewstep generate … --model {model} --timesteps {times}")
