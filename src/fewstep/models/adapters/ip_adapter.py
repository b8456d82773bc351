"""IP-Adapters (2308.06721): pictures as prompts, which the U-Net's cross-attention reads beside the words."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import torch
from torch import Tensor, nn

from fewstep.errors import InvalidModel, ModelNotFound
from fewstep.imaging.channels import on_white
from fewstep.models.adapters.host import Host
from fewstep.models.adapters.steering import scales_of
from fewstep.models.families.base import Inputs
from fewstep.models.families.unets import named
from fewstep.models.locating import IS_A_PICKLE, PICKLES, download
from fewstep.models.placement import dtype_of
from fewstep.models.rebuilt import KeptWhole, rebuilt
from fewstep.models.traits import Control
from fewstep.models.variants import chosen_variant

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel
    from PIL.Image import Image
    from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

    from fewstep.models.conditioning import Conditioning

Model = TypeVar("Model", bound=Host)
ENCODER = "image_encoder"
ENCODERS = (ENCODER, f"../{ENCODER}", f"../models/{ENCODER}")  # where the published repositories have it


@dataclass(frozen=True, eq=False)
class ImagePrompt:
    """One adapter: the encoder of pictures, and the projection of what it says to tokens like those of words."""

    name: str
    encoder: CLIPVisionModelWithProjection
    processor: CLIPImageProcessor
    projection: nn.Module
    reads_places: bool  # the encoder's last states but one, place by place, and not its one vector for the whole

    @torch.no_grad()
    def tokens(self, picture: Image | None, device: torch.device, *, away: bool = False) -> Tensor:
        """(1, T, D): what the U-Net reads for a picture, for none, or to be led away from one; `device` is where the
        encoder runs.
        """
        pixels = torch.zeros(1, 3, *[self.encoder.config.image_size] * 2)
        if picture is not None and not away:
            pixels = self.processor(images=on_white(picture), return_tensors="pt").pixel_values
        output = self.encoder(pixels.to(device, dtype_of(self.encoder)), output_hidden_states=True)
        said = output.hidden_states[-2] if self.reads_places else output.image_embeds
        if (picture is None or away) and not self.reads_places:
            said = torch.zeros_like(said)
        projected: Tensor = self.projection(said)
        return projected.reshape(1, -1, projected.shape[-1])


class Scales(KeptWhole):
    """Of the call under way: (B, adapters), how much each row takes of each; the layers read them as they run."""

    now: Tensor = torch.zeros(1, 1)


@dataclass(frozen=True, eq=False)
class ImagePrompts:
    """The adapters in a bundle's U-Net, in their order."""

    adapters: tuple[ImagePrompt, ...]
    scales: Scales = field(default_factory=Scales)
    networks: tuple[nn.Module, ...] = ()
    _without: dict[torch.device, Tensor] = field(default_factory=dict, init=False, repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(adapter.name for adapter in self.adapters)

    @property
    def readers(self) -> tuple[nn.Module, ...]:
        return tuple(network for adapter in self.adapters for network in (adapter.encoder, adapter.projection))

    def tokens(self, pictures: Sequence[Image | None], device: torch.device, *, away: bool = False) -> Tensor:
        """All adapters' tokens side by side, (1, sum of T, D)."""
        rows = zip(self.adapters, pictures, strict=True)
        return torch.cat([adapter.tokens(picture, device, away=away) for adapter, picture in rows], dim=1)

    def without(self, device: torch.device) -> Tensor:
        """The tokens where there is no picture at all; asked for at every step, and so kept."""
        if device not in self._without:
            self._without[device] = self.tokens([None] * len(self.adapters), device)
        return self._without[device]

    def conditioned(
        self,
        cond: Conditioning,
        height: int,
        width: int,
        controls: Sequence[Control | None],
        device: torch.device,
        *,
        away: bool,
    ) -> Conditioning:
        """With the pictures as tokens."""
        tokens = self.tokens([None if each is None else each.image for each in controls], device, away=away)
        rows = len(cond)
        return dataclasses.replace(
            cond, image_tokens=tokens.expand(rows, *tokens.shape[1:]), image_scales=scales_of(controls).expand(rows, -1)
        )

    def steered(self, inputs: Inputs, cond: Conditioning) -> Inputs:
        """A conditioning without pictures takes nothing of the adapters."""
        tokens, scales, like = cond.image_tokens, cond.image_scales, inputs["sample"]
        assert isinstance(like, Tensor)
        if tokens is None or scales is None:
            tokens = self.without(like.device).expand(len(like), -1, -1)
            scales = torch.zeros(len(like), len(self.adapters))
        self.scales.now = scales.to(like.device, like.dtype)
        return {**inputs, "image_embeds": tokens.to(like.device, like.dtype)}


class _Split(nn.Module):
    """Tokens side by side to a list of (B, 1, T, D), one for each adapter, as diffusers' attention takes them."""

    def __init__(self, counts: Sequence[int]) -> None:
        super().__init__()
        self.counts = list(counts)

    def forward(self, tokens: Tensor) -> list[Tensor]:
        return [part[:, None] for part in tokens.split(self.counts, dim=1)]


def with_image_prompts(model: Model, sources: Sequence[tuple[str, str]]) -> Model:
    """A model with IP-Adapters, (name, source) each, from files or hub paths (owner/name/folder/file.safetensors), in a
    U-Net of its own, by diffusers' own conversion.

    Raises `ModelNotFound`, and `InvalidModel` for an adapter of another family, one for faces, or without an encoder.
    """
    from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

    files = [_find(source) for _, source in sources]
    weights = [_read(file) for file in files]
    for file, each in zip(files, weights, strict=True):
        _check_family(file, each, model)
    encoders: dict[Path, CLIPVisionModelWithProjection] = {}
    for file, each in zip(files, weights, strict=True):
        home = _encoder_for(file, each["image_proj"])
        if home not in encoders:
            variant = chosen_variant(home, model.dtype)
            encoder = CLIPVisionModelWithProjection.from_pretrained(
                home, dtype=model.dtype, local_files_only=True, variant=variant
            )
            encoders[home] = encoder.to(model.device).eval()
    unet = cast("UNet2DConditionModel", rebuilt(model.networks["unet"]))
    unet._load_ip_adapter_weights(weights)
    projections = unet.encoder_hid_proj.image_projection_layers
    adapters = []
    for (name, _), file, each, projection in zip(sources, files, weights, projections, strict=True):
        encoder = encoders[_encoder_for(file, each["image_proj"])]
        size = encoder.config.image_size
        processor = CLIPImageProcessor(size=size, crop_size=size)
        places = "proj.weight" not in each["image_proj"]
        adapters.append(ImagePrompt(name, encoder, processor, projection.eval(), places))
    stack = ImagePrompts(tuple(adapters))
    unet.encoder_hid_proj = _Split([adapter.tokens(None, model.device).shape[1] for adapter in adapters])
    for processor in unet.attn_processors.values():
        for index, layer in enumerate(getattr(processor, "to_v_ip", ())):
            layer.register_forward_hook(partial(_weigh, stack.scales, index))
    unet.requires_grad_(False)
    networks = {**model.networks, "unet": unet}
    return model.with_networks(networks, dataclasses.replace(model.adapters, image_prompts=stack))


def _weigh(scales: Scales, index: int, layer: nn.Module, inputs: tuple[Tensor, ...], values: Tensor) -> Tensor:
    """Attention is linear in its values: what is scaled here, row by row, is the adapter's part of the result."""
    return values * scales.now[:, index].view(-1, *[1] * (values.ndim - 1)).to(values.dtype)


def _find(source: str) -> Path:
    path = Path(source).expanduser()
    if path.suffix in PICKLES:
        raise InvalidModel(f"{path} {IS_A_PICKLE}")
    if path.is_file():
        return path
    owner, _, rest = source.partition("/")
    name, _, file = rest.partition("/")
    if not file:
        raise ModelNotFound(f"no IP-Adapter {source!r}: give a .safetensors file, or OWNER/NAME/FOLDER/FILE on the hub")
    home = download(f"{owner}/{name}", [file, *(f"{folder}/*" for folder in _encoder_folders(Path(file).parent))])
    if not (home / file).is_file():
        raise ModelNotFound(f"{owner}/{name} has no {file}")
    return home / file


def _encoder_folders(folder: Path) -> Iterator[str]:
    """Within a repository, where the encoder of an adapter in `folder` may lie."""
    for place in (folder / ENCODER, folder.parent / ENCODER, folder.parent / "models" / ENCODER):
        yield place.as_posix()


def _read(file: Path) -> dict[str, dict[str, Tensor]]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        flat = load_file(file)
    except (OSError, SafetensorError) as error:
        raise InvalidModel(f"{file} cannot be read as safetensors: {error}") from error
    parts = ("image_proj", "ip_adapter")
    weights = {
        part: {key.removeprefix(f"{part}."): value for key, value in flat.items() if key.startswith(f"{part}.")}
        for part in parts
    }
    if not all(weights.values()):
        raise InvalidModel(f"{file} is no IP-Adapter: it has no {' and no '.join(f'{part}.…' for part in parts)}")
    projection = weights["image_proj"]
    if "perceiver_resampler.proj_in.weight" in projection or {"proj.0.weight", "norm.weight"} <= set(projection):
        raise InvalidModel(f"{file} is for faces (FaceID), which needs a face recogniser; fewstep has none")
    return weights


def _check_family(file: Path, weights: dict[str, dict[str, Tensor]], model: Host) -> None:
    keys = next(value for key, value in weights["ip_adapter"].items() if key.endswith("to_k_ip.weight"))
    layers = {name: module for name, module in model.networks["unet"].named_modules() if name.endswith("attn2.to_k")}
    same = len(layers) == sum(key.endswith("to_k_ip.weight") for key in weights["ip_adapter"])
    own = model.text_width
    if keys.shape[1] != own or not same:
        raise InvalidModel(
            f"the IP-Adapter {file.name} was made for {named(keys.shape[1], 'another base')} and "
            f"{model.name} is {named(own, 'of another kind')}"
        )


def _encoder_for(file: Path, projection: dict[str, Tensor]) -> Path:
    """The folder of the picture encoder beside the file whose width the projection reads."""
    from fewstep.models.locating import read_json

    if "proj.weight" in projection:
        wanted, what = projection["proj.weight"].shape[1], "projection_dim"
    elif "proj.0.weight" in projection:
        wanted, what = projection["proj.0.weight"].shape[1], "hidden_size"
    else:
        wanted, what = projection["proj_in.weight"].shape[1], "hidden_size"
    for place in ENCODERS:
        home = (file.parent / place).resolve()
        if (home / "config.json").is_file() and read_json(home / "config.json").get(what) == wanted:
            return home
    raise InvalidModel(
        f"{file} reads a picture encoder with {what} {wanted}, and there is none in {ENCODER}/ beside it or above it"
    )
