"""`fewstep inspect`: what a LoRA file or a model is, without running it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fewstep.errors import FewstepError


def inspect(
    files: Annotated[list[Path], typer.Argument(help="LoRA files, or model folders.")],
    model: Annotated[
        str | None, typer.Option(help="Also say what of a LoRA does not fit this model.", show_default=False)
    ] = None,
) -> None:
    """Say what LoRA files and model folders are: kind, base, rank, what they change.

    **Examples**

    fewstep inspect style.safetensors

    fewstep inspect style.safetensors --model ./my-sd15
    """
    from rich.console import Console
    from rich.table import Table

    from fewstep.models.loading import load

    base = None if model is None else load(model, device="cpu")
    for file in files:
        facts = _model_facts(file) if (file / "model_index.json").is_file() else _lora_facts(file, base)
        table = Table(title=str(file), title_justify="left", show_header=False, box=None, padding=(0, 2))
        for name, value in facts.items():
            table.add_row(name, value)
        Console(soft_wrap=True, highlight=False).print(table)


def _lora_facts(path: Path, base: object) -> dict[str, str]:
    from fewstep.models.bundle import ModelBundle
    from fewstep.models.lora import PARTS, place
    from fewstep.models.lora_file import LoraFile

    if not path.exists():
        raise FewstepError(f"there is no {path}")
    file = LoraFile.read(path)
    alphas = sorted({layer.alpha for layers in file.layers.values() for layer in layers.values()})
    facts = {
        "kind": "LCM-LoRA: its base becomes a few-step model" if file.kind == "lcm" else "LoRA",
        "made for": file.family,
        "names": f"as {file.spelling} writes them",
        "rank": ", ".join(map(str, file.ranks)),
        "alpha": ", ".join(f"{alpha:g}" for alpha in alphas[:6]) + (", …" if len(alphas) > 6 else ""),
        "changes": ", ".join(f"{len(layers)} layers of {part}" for part, layers in file.layers.items()),
        "parameters": f"{file.num_parameters / 1e6:.2f} million",
        "SHA-256": file.hash,
    }
    if isinstance(base, ModelBundle):
        missing = []
        for part, layers in file.layers.items():
            network = getattr(base, part, None) if part in PARTS else None
            missing += list(layers) if network is None else place(layers, network, part, base.unet.config)[1]
        facts[f"fits {base.name}"] = "wholly" if not missing else f"but for {len(missing)} layers: {', '.join(missing)}"
    return facts


def _model_facts(folder: Path) -> dict[str, str]:
    from fewstep.models.loading import load

    model = load(folder, device="cpu")
    card = model.card
    parameters = sum(x.numel() for x in model.unet.parameters())
    return {
        "kind": "latent consistency model" if card.kind == "lcm" else "latent diffusion model",
        "guidance": "inside the network (w embedded)" if model.embeds_guidance else "by a second call of the network",
        "predicts": model.prediction_type,
        "by default": f"{card.steps} steps, guidance scale {card.guidance_scale:g}",
        "size": " x ".join(map(str, reversed(model.default_size))),
        "U-Net": f"{parameters / 1e6:.1f} million parameters",
        "SHA-256": model.hash,
    }
