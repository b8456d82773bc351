"""A ControlNet in one file, as web UIs keep them: in diffusers' names, or in its first code's (`control_model.`)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from fewstep.errors import InvalidModel
from fewstep.models.families.unets import named
from fewstep.models.identify import refusal
from fewstep.models.tensor_file import Header, read_tensors

if TYPE_CHECKING:
    from diffusers import ControlNetModel, UNet2DConditionModel

_HINTS = re.compile(
    r"(?:controlnet_cond_embedding\.(conv_in|blocks\.(\d+))|(?:control_model\.)?input_hint_block\.(\d+))\.weight"
)
_OTHERS = {"control_type_proj.": "a ControlNet-Union, of several kinds in one", "lllite_": "a ControlNet-LLLite"}


def read_controlnet(path: Path, unet: UNet2DConditionModel, dtype: torch.dtype) -> ControlNetModel:
    """A `ControlNetModel` of the shape that goes with `unet`, a `UNet2DConditionModel`.

    Raises `InvalidModel` for what is no ControlNet, for another family's, and for shapes that do not fit.
    """
    from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint
    from diffusers.models.controlnets.controlnet import ControlNetModel

    header = Header.read(path)
    for mark, what in _OTHERS.items():
        if header.has(mark, f"control_model.{mark}"):
            raise InvalidModel(f"{path} is {what}, which fewstep cannot use; the plain ControlNet of its kind works")
    if "difference" in header.shapes:
        raise InvalidModel(f"{path} holds only how a ControlNet differs from its base: give one that is whole")
    width, own = header.width("attn2.to_k.weight"), unet.config.cross_attention_dim
    if width is None:
        raise refusal(path, "ControlNet")
    if width != own:
        raise InvalidModel(f"{path} is a ControlNet for {named(width)}, and the model is {named(own)}")
    channels, sizes = _hints(header)
    with torch.device("meta"):
        network = ControlNetModel.from_unet(
            unet,
            conditioning_embedding_out_channels=sizes,
            conditioning_channels=channels,
            load_weights_from_unet=False,
        )
    tensors = {key.removeprefix("controlnet."): value for key, value in read_tensors(path)[0].items()}
    weights = convert_controlnet_checkpoint(tensors, config=network.config)
    network.load_state_dict(
        {key: value for key, value in weights.items() if value is not None}, strict=True, assign=True
    )
    return network.to(dtype).requires_grad_(False)


def _hints(header: Header) -> tuple[int, tuple[int, ...]]:
    """What the layers that read the picture say: its channels, and how wide the steps on the way in are."""
    layers = []
    for key, shape in header.shapes.items():
        if found := _HINTS.fullmatch(key):
            place = -1 if found[1] == "conv_in" else int(found[2] or found[3] or 0)
            layers.append((place, shape))
    layers.sort()
    if not layers:
        return 3, (16, 32, 96, 256)
    shapes = [shape for _, shape in layers]
    is_original = any("input_hint_block" in key for key in header.shapes)
    inner = shapes[:-1] if is_original else shapes  # the last of the original's belongs to what follows
    outs = [shape[0] for shape in inner]
    return shapes[0][1], tuple(outs[::2])
