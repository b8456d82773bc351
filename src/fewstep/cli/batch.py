"""`fewstep batch`: many pictures from a file of prompts; what is there already is not made again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fewstep.cli import options
from fewstep.cli.beforehand import check_beforehand
from fewstep.cli.loading import load_model
from fewstep.cli.output import FORMATS, check_new_folder, write_picture
from fewstep.cli.progress import StepBar, is_quiet, one_line_warnings
from fewstep.cli.spread import spread
from fewstep.cli.standard_input import STDIN, read_stdin
from fewstep.cli.steering import read_controls
from fewstep.errors import CannotWrite, InvalidRequest
from fewstep.models.adapters.lora.by_name import found_by_name
from fewstep.pipelines.prompt_file import NamedRequest, batches, read_prompts
from fewstep.pipelines.provenance import Record, describe, record_of

if TYPE_CHECKING:
    from fewstep.models.latent_model import LatentModel
    from fewstep.pipelines.plan import Plan


@spread
def batch(
    prompts: Annotated[
        Path, typer.Argument(help="A .txt (a prompt a line), .csv or .jsonl file; - reads standard input.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder for the pictures; made where missing.")],
    loading: options.Loading,
    steps: Annotated[int | None, typer.Option(help="Where a row says nothing. [default: the model's]")] = None,
    guidance_scale: Annotated[
        float | None, typer.Option(help="Where a row says nothing. [default: the model's]")
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="txt, csv or jsonl. [default: by the name; of standard input by its first line: txt or jsonl]",
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Pictures through the network at once.", min=1)] = 8,
    quiet: options.Quiet = False,
) -> None:
    """Generate many pictures from a file, and print their paths. The same command again goes on where it stopped.

    Rows may have what fewstep generate has options for (prompt, negative_prompt, seed, steps, guidance_scale, sampler,
    width, height, image, strength, mask, …), and a name (x.jpg and x.webp are written as that, all others as PNG).
    --control steers every picture. A picture that is there, made by the same parameters and model, is kept; one made
    otherwise is never overwritten.

    **Examples**

    fewstep batch prompts.txt -o pictures

    fewstep batch prompts.csv -o pictures --steps 8 --model ./my-sd15 --lora lcm-lora

    printf 'a cat\\na dog' | fewstep batch - -o pictures
    """
    nets, controls = read_controls(loading.control or [])
    loading = loading.quick()
    common = {"steps": steps, "guidance_scale": guidance_scale, **loading.precision()}
    defaults = {name: value for name, value in common.items() if value is not None}
    text = read_stdin("prompts") if prompts == STDIN else None
    requests = read_prompts(prompts, defaults, controls or None, text, form)
    check_new_folder(output)
    name, given = loading.model or options.default_model(), list(loading.lora or ())
    loras: list[options.LoraSource] = [*given, *found_by_name(_named(requests), given, name)]
    precision = next((each for one in requests if (each := one.request.precision) is not None), None)
    how = loading.options(nets, loras=loras, precision=precision)
    check_beforehand(name, how, [(one.name, one.request) for one in requests])
    _make_folder(output)
    with one_line_warnings(quiet), StepBar(quiet) as bar:
        bundle = load_model(name, **how)
        bar.loaded(bundle)
        _check_few_step(requests, bundle, len(given))
        left = _left(requests, output, bundle)
        plans = [(ones, _plan(ones, bundle)) for ones in batches(left, batch_size)]
        bar.expect(sum(plan.num_steps for _, plan in plans))
        for ones, plan in plans:
            _generate(ones, plan, bundle, output, bar)
    for one in requests:
        typer.echo(_path(output, one))
    if not is_quiet(quiet):
        typer.echo(f"{len(left)} painted, {len(requests) - len(left)} were there", err=True)


def _named(requests: list[NamedRequest]) -> Iterator[str]:
    for one in requests:
        yield from one.request.loras or ()


def _check_few_step(requests: list[NamedRequest], model: LatentModel, given: int) -> None:
    """Raises `InvalidRequest` where some prompts alone name an LCM-LoRA: it decides how all are sampled."""
    if model.loras is None:
        return
    for name, file in list(zip(model.loras.names, model.loras.files, strict=True))[given:]:
        if file.kind == "lcm" and any(name not in (one.request.loras or ()) for one in requests):
            raise InvalidRequest(f"{name} is an LCM-LoRA, and some prompts do not name it: give it to all, with --lora")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWrite(f"cannot make the folder {folder}: {error.strerror}") from error


def _path(folder: Path, one: NamedRequest) -> Path:
    named = Path(one.name)
    return folder / (one.name if named.suffix.lower() in FORMATS else f"{one.name}.png")


def _plan(ones: list[NamedRequest], model: LatentModel) -> Plan:
    """All of them at once; raises `InvalidRequest` naming the picture that the model cannot generate."""
    from fewstep.pipelines.plan import complete
    from fewstep.pipelines.request import Request

    together = Request.joined([one.request for one in ones])
    try:
        return complete(together, model, batch_size=len(ones))
    except InvalidRequest as error:
        raise InvalidRequest(f"{ones[0].name}: {error}") from error


def _left(requests: list[NamedRequest], folder: Path, model: LatentModel) -> list[NamedRequest]:
    """Those that are not there yet; raises `CannotWrite` where another picture has the name."""
    left = []
    for one in requests:
        path = _path(folder, one)
        if not path.exists():
            left.append(one)
        elif _recorded(path) != Record.from_json(describe(model, _plan([one], model), 0)["fewstep"]):
            raise CannotWrite(f"{path} is there and was made otherwise; choose another folder, or remove it")
    return left


def _recorded(path: Path) -> Record | None:
    from fewstep.imaging.reading import read_image

    try:
        return record_of(read_image(path))
    except InvalidRequest:
        return None


def _generate(ones: list[NamedRequest], plan: Plan, model: LatentModel, folder: Path, bar: StepBar) -> None:
    from fewstep.pipelines.generate import generate_plan

    for one, image in zip(ones, generate_plan(model, plan, bar.advance), strict=True):
        write_picture(image, _path(folder, one))
