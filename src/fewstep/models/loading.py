"""`load`: the only door to diffusers and transformers; a name, a folder or a hub id becomes a `ModelBundle`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from fewstep.core.profile import SamplingProfile
from fewstep.errors import InvalidModel
from fewstep.models.adapters.steered import with_steering
from fewstep.models.bundle import ModelBundle
from fewstep.models.card import CardFacts, ModelCard, read_card
from fewstep.models.families.unet import check_channels, reads_w
from fewstep.models.identify import check_model_folder
from fewstep.models.locating import (
    BUILT_IN,
    FAST_DECODER,
    NETWORKS,
    TOKENIZERS,
    find_weights,
    locate,
    locate_parts,
    read_json,
    reference_of,
)
from fewstep.models.memory import check_policy, placed
from fewstep.models.overrides import Overrides
from fewstep.models.parts import decoding_fast, explained, quiet, read_network, read_tokenizer
from fewstep.models.placement import choose_device, choose_dtype
from fewstep.models.profile import profile_of
from fewstep.models.replaced import FAST, another_autoencoder, another_unet
from fewstep.models.variants import announce, chosen_variant, variants_in

if TYPE_CHECKING:
    from fewstep.models.adapters.embeddings import EmbeddingSource
    from fewstep.models.single_file import Checkpoint

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
    *,
    zero_snr: bool | None = None,
    unet: str | Path | None = None,
    embeddings: Iterable[EmbeddingSource] = (),
    variant: str | None = None,
) -> ModelBundle:
    """Load a model that can generate.

    name    "starter" (built in, offline), "starter-teacher", a folder as diffusers writes it, a hub id, or one
            `.safetensors` file with a whole checkpoint
    device  default: the best one on this machine
    dtype   default: float16 on CUDA, float32 elsewhere
    loras   adapters to put on top, each a file, a hub id or "lcm-lora" (the published one for this base), with a
            weight: "style.safetensors:0.8" or ("style.safetensors", 0.8)
    config  for one file of unusual shape: a model folder whose configs and tokenizers it goes with
    controlnets  folders or hub ids of ControlNets and T2I-Adapters, files of ControlNets and IP-Adapters (also on the
            hub: owner/name/folder/file.safetensors); requests call them by the last part of that
    kind    "lcm" or "diffusion", where the files say something else than what the model is
    prediction_type  "epsilon", "v_prediction" or "sample", likewise
    zero_snr  whether the betas are rescaled to end in pure noise (zero terminal SNR), likewise
    unet    another U-Net: a folder (as latent-consistency/lcm-sdxl is published), a hub id or a .safetensors file; all
            other parts are those of `name`
    embeddings  words of one's own (textual inversion), each a .safetensors file or a hub id, with the word that prompts
            call it by where that is not the file's: "cat.safetensors=my-cat" or ("cat.safetensors", "my-cat")
    variant  of a folder's or repository's weights: "fp16", …; default: the plain ones, else the one that fits `dtype`
    memory  what to do where the device's memory is short: "auto", "full", "parts" or "layers" (`memory.placed`)
    vae     another autoencoder: a folder, a hub id, a .safetensors file, or "fast" for a decoder that is much faster
            and a little rougher (the model's own, where it brings one, else TAESD)

    Raises `ModelNotFound`, `InvalidModel`, and `InvalidRequest` for an unknown device, dtype, kind or policy.
    """
    device = choose_device(device)
    dtype = choose_dtype(dtype, device)
    check_policy(memory)
    overrides = Overrides(kind, prediction_type, *_named(vae), zero_snr, *_named(unet))
    overrides.check()
    wanted = _Wanted(name, dtype, vae, unet, config, variant)
    with quiet():
        source = _read_file(wanted) if _is_single_file(name) else _read_folder(wanted)
        networks = {part: _ready(network, dtype) for part, network in source.networks.items()}
    if config is None:
        _announce(source, overrides)
    _check_readers(networks, source.origin)
    check_channels(source.origin, networks["unet"].config.in_channels, networks["unet"].config.out_channels)
    _check_autoencoder(networks["unet"], networks["vae"])
    model = ModelBundle(
        card=source.card,
        profile=overrides.of_base(source.profile),
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
        overrides=overrides,
    )
    with explained(source.origin):
        _ = model.denoise  # epsilon prediction on a schedule that ends in pure noise is refused here
    model = _with_embeddings(_with_loras(model, loras, kind), embeddings)
    model = dataclasses.replace(model, profile=overrides.of_whole(model.profile))
    return placed(with_steering(model, controlnets), device, memory)


@dataclass(frozen=True)
class _Wanted:
    """What `load` was asked for, of what a model is read from."""

    name: str | Path
    dtype: torch.dtype
    vae: str | Path | None
    unet: str | Path | None
    config: str | Path | None
    variant: str | None


def _announce(source: _Source, overrides: Overrides) -> None:
    """Say what rests on a name alone, where no option says it."""
    checkpoint, what = source.checkpoint, str(source.origin)
    if checkpoint is None:
        return
    if checkpoint.few_step.value and overrides.kind is None:
        checkpoint.few_step.announce(what, "a few-step model (LCM)", "--kind diffusion")
    if overrides.prediction_type is None:
        other = "epsilon" if checkpoint.prediction.value != "epsilon" else "v_prediction"
        checkpoint.prediction.announce(what, checkpoint.prediction.value, f"--prediction-type {other}")
    if overrides.zero_snr is None:
        checkpoint.zero_snr.announce(what, "a model of zero terminal SNR", "--no-zero-snr")


def _named(part: str | Path | None) -> tuple[str | None, Path | None]:
    """The name of another part, where that means the same elsewhere, or its place."""
    if part is None or (name := reference_of(part)) is not None:
        return None if part is None else name, None
    return None, Path(part).expanduser().resolve()


@dataclass(frozen=True, eq=False)
class _Source:
    """What was read, from a folder or from one file, before it is a bundle."""

    origin: Path
    card: ModelCard
    profile: SamplingProfile
    networks: Mapping[str, Any]
    tokenizers: Mapping[str, Any]
    weight_files: tuple[Path, ...]
    drops_to_zeros: bool
    checkpoint: Checkpoint | None = None


def _read_folder(wanted: _Wanted) -> _Source:
    name, dtype, vae, variant = wanted.name, wanted.dtype, wanted.vae, wanted.variant
    if wanted.config is not None:
        raise InvalidModel(f"a folder of configs was given, and {name} is no single file that would need one")
    folder = _model_folder(wanted)
    card, facts = read_card(folder)
    parts = locate_parts(folder, card)
    unet: Mapping[str, Any] = read_json(parts["unet"] / "config.json")
    brings_fast = vae == FAST and FAST_DECODER in parts
    replaced = vae is not None and not brings_fast
    others = {part for part, given in (("vae", replaced), ("unet", wanted.unet is not None)) if given}
    present = [part for part in NETWORKS if part in parts and part not in others]
    variants = {part: _variant_of(parts[part], wanted) for part in present}
    _announce_variants(folder, variants, variant)
    networks = {part: read_network(part, parts[part], dtype, variants[part]) for part in present}
    files: tuple[Path, ...] = ()
    title, few_step = name, False
    if wanted.unet is not None:
        networks["unet"], files = another_unet(wanted.unet, unet, dtype, variant)
        card, facts, unet, title = None, CardFacts(), networks["unet"].config, wanted.unet
        few_step = reads_w(unet)  # the scheduler is not its own
    if replaced:
        own = read_json(parts["vae"] / "config.json")
        networks["vae"], more = another_autoencoder(vae, unet, name, own, dtype)  # type: ignore[arg-type]
        files = (*files, *more)
    if brings_fast:
        networks["vae"] = decoding_fast(networks["vae"], parts[FAST_DECODER])
        present.append(FAST_DECODER)
    return _Source(
        origin=folder,
        card=card or ModelCard(_name_of(title)),
        profile=profile_of(
            read_json(parts["scheduler"] / "scheduler_config.json"), facts, embedded=reads_w(unet), few_step=few_step
        ),
        networks=networks,
        tokenizers={part: read_tokenizer(parts[part]) for part in TOKENIZERS if part in parts},
        weight_files=(
            *(file for part in present for file in find_weights(parts[part], dtype, variants.get(part))),
            *files,
        ),
        drops_to_zeros=read_json(folder / "model_index.json").get("force_zeros_for_empty_prompt", False),
    )


def _model_folder(wanted: _Wanted) -> Path:
    """The folder of the model; raises `InvalidModel` for a folder of something else, by its name."""
    if str(wanted.name) not in BUILT_IN:
        check_model_folder(Path(wanted.name).expanduser())
    return locate(wanted.name, wanted.variant, wanted.dtype)


def _variant_of(part: Path, wanted: _Wanted) -> str | None:
    """The variant of a part; one without the variant that was asked for is read as it is."""
    here = variants_in(part)
    return chosen_variant(part, wanted.dtype, wanted.variant if wanted.variant in here or None not in here else None)


def _announce_variants(folder: Path, variants: Mapping[str, str | None], wanted: str | None) -> None:
    """Say which variants were taken, where none was asked for.

    Raises `InvalidModel` where no part has the wanted one.
    """
    if wanted is None:
        announce(folder, variants.values())
    elif wanted not in variants.values():
        raise InvalidModel(f"{folder} has no weights of the variant {wanted!r}: leave --variant out")


def _is_single_file(name: str | Path) -> bool:
    path = Path(name).expanduser()
    return path.is_file() and path.suffix == ".safetensors"


def _read_file(wanted: _Wanted) -> _Source:
    from fewstep.models.single_file import unpack

    name, dtype, vae = wanted.name, wanted.dtype, wanted.vae
    path = Path(name).expanduser()
    config = None if wanted.config is None else locate(wanted.config)
    own = wanted.unet is None
    with explained(path):
        unpacked = unpack(path, config, dtype, with_vae=vae is None, with_unet=own)
    networks = dict(unpacked.networks)
    files: tuple[Path, ...] = (path,)
    if wanted.unet is not None:
        networks["unet"], more = another_unet(wanted.unet, unpacked.unet, dtype, wanted.variant)
        files = (path, *more)
    unet = networks["unet"].config
    if vae is not None:
        networks["vae"], others = another_autoencoder(vae, unet, name, unpacked.autoencoder, dtype)
        files = (*files, *others)
    said = unpacked.checkpoint.few_step
    by_itself = said.value and (config is None or said.by != "name")  # a config that was given is more than a name
    few_step = by_itself if own else reads_w(unet)
    return _Source(
        origin=path,
        card=ModelCard(_name_of(wanted.name if wanted.unet is None else wanted.unet)),
        profile=profile_of(unpacked.scheduler, embedded=reads_w(unet), few_step=few_step),
        networks=networks,
        tokenizers=unpacked.tokenizers,
        weight_files=files,
        drops_to_zeros="text_encoder_2" in networks,
        checkpoint=unpacked.checkpoint if own else None,
    )


def _ready(network: Any, dtype: torch.dtype) -> Any:
    """Ready to run, not in training; an autoencoder that overflows in float16 (it says so) in float32."""
    if dtype is torch.float16 and getattr(network.config, "force_upcast", False):
        network = network.float()
    return network.eval().requires_grad_(False)


def _with_loras(model: ModelBundle, loras: Iterable[LoraSource], kind: str | None) -> ModelBundle:
    wanted = list(loras)
    if not wanted:
        return model
    from fewstep.models.adapters.lora.stack import with_loras

    return with_loras(model, wanted, kind)


def _with_embeddings(model: ModelBundle, embeddings: Iterable[EmbeddingSource]) -> ModelBundle:
    wanted = list(embeddings)
    if not wanted:
        return model
    from fewstep.models.adapters.embeddings import with_embeddings

    return with_embeddings(model, wanted)


def _check_autoencoder(unet: Any, autoencoder: Any) -> None:
    expected, given = unet.config.in_channels, autoencoder.config.latent_channels
    if expected != given:
        raise InvalidModel(f"the autoencoder has latents of {given} channels and this model paints {expected}")


def _check_readers(networks: Mapping[str, Any], origin: Path) -> None:
    """A network of the SDXL kind needs both text encoders (the refiner, which has one, is no text-to-image model)."""
    if networks["unet"].config.addition_embed_type == "text_time" and "text_encoder_2" not in networks:
        raise InvalidModel(f"{origin} is of the SDXL kind and has no text_encoder_2/ folder; is it a refiner?")


def _name_of(source: str | Path) -> str:
    """What a model without a card is called: as it was asked for, or as its file or folder is."""
    path = Path(source).expanduser()
    return reference_of(source) or (path.resolve().name if path.is_dir() else path.stem)
