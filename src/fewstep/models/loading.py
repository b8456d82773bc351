"""`load`: the only door to diffusers and transformers; a name, a folder or a hub id becomes a `Model`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from fewstep.core.profile import SamplingProfile
from fewstep.errors import InvalidModel
from fewstep.models.adapters.steered import with_steering
from fewstep.models.autoencoder import Autoencoder, config_of
from fewstep.models.card import ModelCard
from fewstep.models.config import Config
from fewstep.models.families.base import Family
from fewstep.models.families.checkpoint import Checkpoint
from fewstep.models.folder import Folder, locate, locate_model
from fewstep.models.lean.part import LeanPart, twin_of
from fewstep.models.locating import FAST_DECODER, find_weights, reference_of
from fewstep.models.memory import check_policy
from fewstep.models.model import Model
from fewstep.models.origin import Origin
from fewstep.models.overrides import Overrides
from fewstep.models.parts import explained, quiet, read_decoder, read_network, read_tokenizer
from fewstep.models.placement import choose_device, choose_dtype, dtype_of
from fewstep.models.precisions import FAST
from fewstep.models.profile import profile_of
from fewstep.models.replaced import another_autoencoder, another_network, family_of
from fewstep.models.text.tokenizer import Tokenizer
from fewstep.models.variants import announce, chosen_variant, variants_in

if TYPE_CHECKING:
    from fewstep.models.adapters.embeddings import EmbeddingSource

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
) -> Model:
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
    source = _read_file(wanted) if _is_single_file(name) else _read_folder(wanted)
    controls = list(controlnets)
    model = _composed(source, dtype, overrides, reference_of(name), steered=bool(controls))
    if config is None:
        _announce(source, overrides)
    with explained(source.origin):
        _ = model.denoise  # epsilon prediction on a schedule that ends in pure noise is refused here
    model = _with_embeddings(_with_loras(model, loras, kind), embeddings)
    model = dataclasses.replace(model, profile=overrides.of_whole(model.profile))
    model = with_steering(model, controls)
    model.placement.put(model.stages, device, memory)
    return model


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
    """What was read, from a folder or from one file, before it is a model.

    networks, tokenizers  by their folders
    decoder               a fast one, in the place of the autoencoder's own
    fast                  reads the fast one that it brings, if it brings one
    index                 the content of model_index.json
    """

    origin: Path
    card: ModelCard
    profile: SamplingProfile
    family: Family
    networks: Mapping[str, nn.Module]
    tokenizers: Mapping[str, Tokenizer]
    weight_files: tuple[Path, ...]
    index: Config
    decoder: nn.Module | None = None
    fast: Callable[[], nn.Module] | None = None
    checkpoint: Checkpoint | None = None


def _composed(
    source: _Source, dtype: torch.dtype, overrides: Overrides, reference: str | None, *, steered: bool
) -> Model:
    family = source.family
    networks = {part: _ready(network, dtype) for part, network in source.networks.items()}
    if steered:
        networks[family.denoiser] = twin_of(networks[family.denoiser])
    network, autoencoder = networks[family.denoiser], networks["vae"]
    channels = config_of(network)["in_channels"]
    family.check(source.origin, config_of(network))
    if (given := config_of(autoencoder)["latent_channels"]) != channels:
        raise InvalidModel(f"the autoencoder has latents of {given} channels and this model samples {channels}")
    decoder = None if source.decoder is None else source.decoder.to(dtype_of(autoencoder))
    tokenizers = {part: source.tokenizers[part] for part in family.tokenizers if part in source.tokenizers}
    encoders = {part: networks[part] for part in family.encoders if part in networks}
    return Model(
        card=source.card,
        profile=overrides.of_base(source.profile),
        family=family_of(network, family),
        text=family.text(encoders, tokenizers, source.index),
        network=family.network(network),
        autoencoder=Autoencoder(autoencoder, decoder, source.fast),
        origin=Origin(source.origin if source.origin.is_dir() else None, reference, source.weight_files, overrides),
    )


def _read_folder(wanted: _Wanted) -> _Source:
    name, dtype, vae, variant = wanted.name, wanted.dtype, wanted.vae, wanted.variant
    if wanted.config is not None:
        raise InvalidModel(f"a folder of configs was given, and {name} is no single file that would need one")
    folder = Folder.read(locate_model(name, variant, dtype))
    family, parts = folder.family, folder.parts
    brings_fast = vae == FAST and FAST_DECODER in parts
    others = {"vae"} if vae is not None and not brings_fast else set()
    others |= {family.denoiser} if wanted.unet is not None else set()
    present = [part for part in family.networks if part in parts and part not in others]
    variants = {part: _variant_of(parts[part], wanted) for part in present}
    _announce_variants(folder.path, variants, variant)
    networks = {part: read_network(family.networks[part], parts[part], dtype, variants[part]) for part in present}
    files = [file for part in present for file in find_weights(parts[part], dtype, variants[part])]
    decoder, fast = None, None
    if vae in (None, FAST) and FAST_DECODER in parts:
        fast = partial(read_decoder, parts[FAST_DECODER], dtype)
    if brings_fast:
        decoder = read_decoder(parts[FAST_DECODER], dtype)
        files += find_weights(parts[FAST_DECODER], dtype)
    if wanted.unet is not None:
        network, more = another_network(wanted.unet, family, folder.network, dtype, variant)
        networks[family.denoiser], files = network, [*files, *more]
        reads_w = family.embeds_w(config_of(network))
        card = ModelCard(_name_of(wanted.unet))
        profile = profile_of(folder.scheduler, embedded=reads_w, few_step=reads_w)  # the scheduler is not its own
    else:
        card, profile = folder.card or ModelCard(_name_of(name)), folder.profile
    if "vae" in others:
        assert vae is not None
        networks["vae"], more = another_autoencoder(vae, family, name, folder.autoencoder, dtype)
        files += more
    lean = all(isinstance(networks[part], LeanPart) for part in family.encoders if part in networks)
    return _Source(
        origin=folder.path,
        card=card,
        profile=profile,
        family=family,
        networks=networks,
        tokenizers={
            part: read_tokenizer(kind, parts[part], lean=lean)
            for part, kind in family.tokenizers.items()
            if part in parts
        },
        weight_files=tuple(files),
        index=folder.index,
        decoder=decoder,
        fast=fast,
    )


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
    with explained(path), quiet():
        unpacked = unpack(path, config, dtype, with_autoencoder=vae is None, with_network=own)
    family, networks, files = unpacked.family, dict(unpacked.networks), [path]
    if wanted.unet is not None:
        own_config = unpacked.configs[family.denoiser]
        networks[family.denoiser], more = another_network(wanted.unet, family, own_config, dtype, wanted.variant)
        files += more
    if vae is not None:
        networks["vae"], more = another_autoencoder(vae, family, name, unpacked.configs.get("vae", {}), dtype)
        files += more
    said = unpacked.checkpoint.few_step
    by_itself = said.value and (config is None or said.by != "name")  # a config that was given is more than a name
    reads_w = family.embeds_w(config_of(networks[family.denoiser]))
    return _Source(
        origin=path,
        card=ModelCard(_name_of(name if wanted.unet is None else wanted.unet)),
        profile=profile_of(unpacked.scheduler, embedded=reads_w, few_step=by_itself if own else reads_w),
        family=family,
        networks=networks,
        tokenizers=unpacked.tokenizers,
        weight_files=tuple(files),
        index=unpacked.index,
        checkpoint=unpacked.checkpoint if own else None,
    )


def _ready(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Ready to run, not in training; an autoencoder that overflows in float16 (it says so) in float32."""
    config = network.config
    if dtype is torch.float16 and isinstance(config, Mapping) and config.get("force_upcast"):
        network = network.float()
    return network.eval().requires_grad_(False)


def _with_loras(model: Model, loras: Iterable[LoraSource], kind: str | None) -> Model:
    wanted = list(loras)
    if not wanted:
        return model
    from fewstep.models.adapters.lora.put_on import with_loras

    return with_loras(model, wanted, kind)


def _with_embeddings(model: Model, embeddings: Iterable[EmbeddingSource]) -> Model:
    wanted = list(embeddings)
    if not wanted:
        return model
    from fewstep.models.adapters.embeddings import with_embeddings

    return with_embeddings(model, wanted)


def _name_of(source: str | Path) -> str:
    """What a model without a card is called: as it was asked for, or as its file or folder is."""
    path = Path(source).expanduser()
    return reference_of(source) or (path.resolve().name if path.is_dir() else path.stem)
