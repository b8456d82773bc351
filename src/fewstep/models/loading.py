"""`load`: the only door to diffusers and transformers; a name, a folder or a hub id becomes a `ModelBundle`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fewstep.errors import InvalidModel, ModelNotFound
from fewstep.models.bundle import ModelBundle
from fewstep.models.card import FILE as CARD_FILE
from fewstep.models.card import Kind, ModelCard
from fewstep.models.kinds import Overrides, check_channels, defaults_of, overridden
from fewstep.models.locating import (
    FAST_DECODER,
    NETWORKS,
    PICKLES,
    TOKENIZERS,
    find_weights,
    locate,
    locate_network,
    locate_parts,
    names_of,
    read_json,
    reference_of,
)
from fewstep.models.memory import check_policy, placed
from fewstep.models.parts import decoding_fast, explained, quiet, read_network, read_tokenizer
from fewstep.models.placement import choose_device, choose_dtype
from fewstep.models.scheduler_config import SchedulerSettings

FAST = "fast"
TINY_FOR = {768: "madebyollin/taesd", 1024: "madebyollin/taesd", 2048: "madebyollin/taesdxl"}

LoraSource = str | Path | tuple[str | Path, float]


def load(
    name: str | Path = "starter",
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    loras: Iterable[LoraSource] = (),
    vae: str | Path | None = None,
    config: str | Path | None = None,
    controlnets: Iterable[str | Path] = (),
    kind: str | None = None,
    prediction_type: str | None = None,
    memory: str = "auto",
) -> ModelBundle:
    """Load a model that can generate.

    name    "starter" (built in, offline), "starter-teacher", a folder as diffusers writes it, a hub id, or one
            `.safetensors` file with a whole checkpoint
    device  default: the best one on this machine
    dtype   default: float16 on CUDA, float32 elsewhere
    loras   adapters to put on top, each a file, a hub id or "lcm-lora" (the published one for this base), with a
            weight: "style.safetensors:0.8" or ("style.safetensors", 0.8)
    config  for one file of unusual shape: a model folder whose configs and tokenizers it goes with
    controlnets  folders or hub ids of ControlNets and T2I-Adapters, files of IP-Adapters (also on the hub:
            owner/name/folder/file.safetensors); requests call them by the last part of that
    kind    "lcm" or "diffusion", where the files say something else than what the model is
    prediction_type  "epsilon", "v_prediction" or "sample", likewise
    memory  what to do where the device's memory is short: "auto", "full", "parts" or "layers" (`memory.placed`)
    vae     another autoencoder: a folder, a hub id, a .safetensors file, or "fast" for a decoder that is much faster
            and a little rougher (the model's own, where it brings one, else TAESD)

    Raises `ModelNotFound`, `InvalidModel`, and `InvalidRequest` for an unknown device, dtype, kind or policy.
    """
    device = choose_device(device)
    dtype = choose_dtype(dtype, device)
    check_policy(memory)
    read = _read_file if _is_single_file(name) else _read_folder
    with quiet():
        source = read(name, dtype, vae, config)
        networks = {part: _ready(network, dtype) for part, network in source.networks.items()}
    card, settings = overridden(source.card, source.settings, kind, prediction_type, reads_w=_reads_w(networks["unet"]))
    _check_readers(networks, source.origin)
    check_channels(source.origin, networks["unet"].config.in_channels, networks["unet"].config.out_channels)
    _check_autoencoder(networks["unet"], networks["vae"])
    model = ModelBundle(
        card=card,
        settings=settings,
        unet=networks["unet"],
        autoencoder=networks["vae"],
        text_encoder=networks["text_encoder"],
        tokenizer=source.tokenizers["tokenizer"],
        text_encoder_2=networks.get("text_encoder_2"),
        tokenizer_2=source.tokenizers.get("tokenizer_2"),
        drops_to_zeros=source.drops_to_zeros,
        folder=source.origin if source.origin.is_dir() else None,
        reference=reference_of(name),
        weight_files=source.weight_files,
        overrides=Overrides(kind, prediction_type, *_named(vae)),
    )
    with explained(source.origin):
        _ = model.denoise  # epsilon prediction on a schedule that ends in pure noise is refused here
    return placed(_with_controlnets(_with_loras(model, loras), controlnets), device, memory)


def _named(vae: str | Path | None) -> tuple[str | None, Path | None]:
    """Another autoencoder's name, where that means the same elsewhere, or its place."""
    if vae is None or (name := reference_of(vae)) is not None:
        return None if vae is None else name, None
    return None, Path(vae).expanduser().resolve()


def _reads_w(unet: Any) -> bool:
    return unet.config.time_cond_proj_dim is not None


def _with_controlnets(model: ModelBundle, sources: Iterable[str | Path]) -> ModelBundle:
    """With ControlNets and T2I-Adapters, which are folders, and IP-Adapters, which are files."""
    wanted = [str(source) for source in sources]
    named = list(zip(names_of(wanted), wanted, strict=True))
    files = [(name, source) for name, source in named if Path(source).suffix in (".safetensors", *PICKLES)]
    folders = [
        (name, locate_network(source, "ControlNet", "controlnet"))
        for name, source in named
        if (name, source) not in files
    ]
    if folders:
        from fewstep.models.control import with_controlnets

        with quiet():
            networks = [(name, read_network("controlnet", home, model.dtype)) for name, home in folders]
        model = with_controlnets(model, networks)
    if files:
        from fewstep.models.image_prompt import with_image_prompts

        with quiet(), explained(Path(files[0][1])):
            model = with_image_prompts(model, files)
    return model


@dataclass(frozen=True, eq=False)
class _Source:
    """What was read, from a folder or from one file, before it is a bundle."""

    origin: Path
    card: ModelCard
    settings: SchedulerSettings
    networks: Mapping[str, Any]
    tokenizers: Mapping[str, Any]
    weight_files: tuple[Path, ...]
    drops_to_zeros: bool


def _read_folder(name: str | Path, dtype: torch.dtype, vae: str | Path | None, config: str | Path | None) -> _Source:
    if config is not None:
        raise InvalidModel(f"a folder of configs was given, and {name} is no single file that would need one")
    folder = locate(name)
    card = ModelCard.read(folder) if (folder / CARD_FILE).is_file() else None
    parts = locate_parts(folder, card)
    unet = read_json(parts["unet"] / "config.json")
    brings_fast = vae == FAST and FAST_DECODER in parts
    replaced = vae is not None and not brings_fast
    settings = SchedulerSettings.from_config(read_json(parts["scheduler"] / "scheduler_config.json"))
    present = [part for part in NETWORKS if part in parts and not (replaced and part == "vae")]
    networks = {part: read_network(part, parts[part], dtype) for part in present}
    files: tuple[Path, ...] = ()
    if replaced:
        own = read_json(parts["vae"] / "config.json")
        networks["vae"], files = _another_autoencoder(vae, unet, name, own, dtype)  # type: ignore[arg-type]
    if brings_fast:
        networks["vae"] = decoding_fast(networks["vae"], parts[FAST_DECODER])
        present.append(FAST_DECODER)
    return _Source(
        origin=folder,
        card=_default_card(name, folder, settings, unet) if card is None else _agreeing(card, settings, folder),
        settings=settings,
        networks=networks,
        tokenizers={part: read_tokenizer(parts[part]) for part in TOKENIZERS if part in parts},
        weight_files=(*(file for part in present for file in find_weights(parts[part])), *files),
        drops_to_zeros=read_json(folder / "model_index.json").get("force_zeros_for_empty_prompt", False),
    )


def _is_single_file(name: str | Path) -> bool:
    path = Path(name).expanduser()
    return path.is_file() and path.suffix == ".safetensors"


def _read_file(name: str | Path, dtype: torch.dtype, vae: str | Path | None, config: str | Path | None) -> _Source:
    from fewstep.models.single_file import unpack

    path = Path(name).expanduser()
    with explained(path):
        unpacked = unpack(path, None if config is None else locate(config), dtype, with_vae=vae is None)
    networks = dict(unpacked.networks)
    files: tuple[Path, ...] = (path,)
    unet = networks["unet"].config
    if vae is not None:
        networks["vae"], others = _another_autoencoder(vae, unet, name, unpacked.autoencoder, dtype)
        files = (path, *others)
    settings = SchedulerSettings.from_config(unpacked.scheduler)
    return _Source(
        origin=path,
        card=_default_card(name, path.with_suffix(""), settings, unet),
        settings=settings,
        networks=networks,
        tokenizers=unpacked.tokenizers,
        weight_files=files,
        drops_to_zeros="text_encoder_2" in networks,
    )


def _ready(network: Any, dtype: torch.dtype) -> Any:
    """Ready to run, not in training; an autoencoder that overflows in float16 (it says so) in float32."""
    if dtype is torch.float16 and getattr(network.config, "force_upcast", False):
        network = network.float()
    return network.eval().requires_grad_(False)


def _with_loras(model: ModelBundle, loras: Iterable[LoraSource]) -> ModelBundle:
    wanted = list(loras)
    if not wanted:
        return model
    from fewstep.models.lora import with_loras

    return with_loras(model, wanted)


def _another_autoencoder(
    vae: str | Path, unet: Mapping[str, Any], model: str | Path, own: Mapping[str, Any], dtype: torch.dtype
) -> tuple[Any, tuple[Path, ...]]:
    """What `vae` names in place of a model's own autoencoder (whose config a single file shares), and its files."""
    path = Path(vae).expanduser()
    if _is_single_file(path):
        from fewstep.models.single_file import unpack_autoencoder

        with explained(path):
            return unpack_autoencoder(path, own, dtype), (path,)
    folder = locate_network(_autoencoder_name(vae, unet, model), "autoencoder", "vae")
    return read_network("vae", folder, dtype), find_weights(folder)


def _autoencoder_name(vae: str | Path, unet: Mapping[str, Any], model: str | Path) -> str | Path:
    """The name itself, or for "fast" the hub id of the tiny autoencoder for this U-Net's family."""
    if vae != FAST:
        return vae
    width = unet.get("cross_attention_dim")
    if width not in TINY_FOR:
        raise ModelNotFound(
            f"there is no fast decoder for {model}: there are some for SD 1.x, 2.x, SDXL and the starter"
        )
    return TINY_FOR[width]


def _check_autoencoder(unet: Any, autoencoder: Any) -> None:
    expected, given = unet.config.in_channels, autoencoder.config.latent_channels
    if expected != given:
        raise InvalidModel(f"the autoencoder has latents of {given} channels and this model paints {expected}")


def _check_readers(networks: Mapping[str, Any], origin: Path) -> None:
    """A network of the SDXL kind needs both text encoders (the refiner, which has one, is no text-to-image model)."""
    if networks["unet"].config.addition_embed_type == "text_time" and "text_encoder_2" not in networks:
        raise InvalidModel(f"{origin} is of the SDXL kind and has no text_encoder_2/ folder; is it a refiner?")


def _default_card(name: str | Path, folder: Path, settings: SchedulerSettings, unet: Mapping[str, Any]) -> ModelCard:
    """The card of a folder that has none, from its configs; steps and guidance are diffusers' defaults."""
    facts = _shared_facts(settings)
    name = reference_of(name) or folder.resolve().name
    kind: Kind = "lcm" if settings.consistency else "diffusion"
    reads_w = unet.get("time_cond_proj_dim") is not None
    return ModelCard(name=name, kind=kind, **defaults_of(kind, reads_w=reads_w), **facts)


def _agreeing(card: ModelCard, settings: SchedulerSettings, folder: Path) -> ModelCard:
    """The card itself, once it and the scheduler's config say the same."""
    for field, value in _shared_facts(settings).items():
        if getattr(card, field) != value and (card.kind == "lcm" or field == "prediction_type"):
            raise InvalidModel(
                f"{folder}: {CARD_FILE} says {field} = {getattr(card, field)!r} and scheduler_config.json says "
                f"{value!r}; one of them is wrong"
            )
    return card


def _shared_facts(settings: SchedulerSettings) -> dict[str, Any]:
    names = ("prediction_type", "original_inference_steps", "timestep_scaling")
    return {name: getattr(settings, name) for name in names}
