"""The starter's network: a `UNet2DConditionModel` of diffusers that reads the words' states also beside the time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewstep.models.lean.blocks import Down, Resnet, Up
from fewstep.models.lean.part import Config, LeanPart
from fewstep.models.lean.transformer import Transformer

LONGEST = 10_000  # period of the time's embedding
EPS = 1e-5
_DOWN = {"DownBlock2D": False, "CrossAttnDownBlock2D": True}  # whether a block reads words
_UP = {"UpBlock2D": False, "CrossAttnUpBlock2D": True}


class UNet(LeanPart):
    twin = ("UNet2DConditionModel", "diffusers.models.unets.unet_2d_condition")
    reads = (
        *("addition_embed_type_num_heads", "attention_head_dim", "block_out_channels", "cross_attention_dim"),
        *("down_block_types", "in_channels", "layers_per_block", "norm_num_groups", "out_channels", "sample_size"),
        *("time_cond_proj_dim", "up_block_types"),
    )
    assumes = {  # noqa: RUF012
        "act_fn": "silu",
        "addition_embed_type": "text",
        "addition_time_embed_dim": None,
        "attention_type": "default",
        "center_input_sample": False,
        "class_embed_type": None,
        "class_embeddings_concat": False,
        "conv_in_kernel": 3,
        "conv_out_kernel": 3,
        "cross_attention_norm": None,
        "downsample_padding": 1,
        "dropout": 0.0,
        "dual_cross_attention": False,
        "encoder_hid_dim": None,
        "encoder_hid_dim_type": None,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "mid_block_only_cross_attention": None,
        "mid_block_scale_factor": 1,
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "norm_eps": EPS,
        "num_attention_heads": None,
        "num_class_embeds": None,
        "only_cross_attention": False,
        "projection_class_embeddings_input_dim": None,
        "resnet_out_scale_factor": 1.0,
        "resnet_skip_time_act": False,
        "resnet_time_scale_shift": "default",
        "reverse_transformer_layers_per_block": None,
        "time_embedding_act_fn": None,
        "time_embedding_dim": None,
        "time_embedding_type": "positional",
        "timestep_post_act": None,
        "transformer_layers_per_block": 1,
        "upcast_attention": False,
        "use_linear_projection": False,
    }

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        shape = _Shape(config)
        widths = shape.widths
        self.first_width = widths[0]
        self.conv_in = nn.Conv2d(config["in_channels"], widths[0], 3, padding=1)
        self.time_embedding = TimeEmbedding(widths[0], shape.time_width, config["time_cond_proj_dim"])
        self.add_embedding = Pooled(shape.text_width, shape.time_width, config["addition_embed_type_num_heads"])
        self.down_blocks = nn.ModuleList(shape.down(level) for level in range(len(widths)))
        self.mid_block = shape.middle()
        self.up_blocks = nn.ModuleList(shape.up(level) for level in reversed(range(len(widths))))
        self.conv_norm_out = nn.GroupNorm(shape.groups, widths[0], EPS)
        self.conv_out = nn.Conv2d(widths[0], config["out_channels"], 3, padding=1)

    @classmethod
    def fits(cls, config: Config) -> bool:
        if not super().fits(config) or not isinstance(config["attention_head_dim"], Sequence):
            return False
        down, up = config["down_block_types"], config["up_block_types"]
        known = {*down} <= _DOWN.keys() and {*up} <= _UP.keys()
        return known and [_DOWN[name] for name in down] == [_UP[name] for name in reversed(up)]

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        timestep_cond: Tensor | None = None,
        added_cond_kwargs: Mapping[str, Tensor] | None = None,
        return_dict: bool = False,
    ) -> tuple[Tensor]:
        """x_t (B, C, h, w), times (B,) or (), token states (B, L, D) and the embedding of w (B, d), if it reads one."""
        text = encoder_hidden_states
        times = timestep.reshape(-1).expand(sample.shape[0])
        time = self.time_embedding(sines(times, self.first_width).to(sample.dtype), timestep_cond)
        time = F.silu(time + self.add_embedding(text))
        # where the sides do not halve evenly, the way up takes its sizes from the way down
        odd = any(side % 2 ** (len(self.up_blocks) - 1) for side in sample.shape[-2:])
        x = self.conv_in(sample)
        passed = [x]
        for block in self.down_blocks:
            x = block(x, time, text, passed)
        x = self.mid_block(x, time, text)
        for block in self.up_blocks:
            x = block(x, time, text, passed, odd)
        return (self.conv_out(F.silu(self.conv_norm_out(x))),)


class _Shape:
    """The blocks of a config, level by level."""

    def __init__(self, config: Config) -> None:
        self.widths: list[int] = list(config["block_out_channels"])
        self.heads: list[int] = list(config["attention_head_dim"])  # diffusers' name for their number
        self.reads_text = [_DOWN[name] for name in config["down_block_types"]]
        self.layers: int = config["layers_per_block"]
        self.groups: int = config["norm_num_groups"]
        self.text_width: int = config["cross_attention_dim"]
        self.time_width = 4 * self.widths[0]

    def resnet(self, into: int, out: int) -> Resnet:
        return Resnet(into, out, self.groups, EPS, self.time_width)

    def attentions(self, level: int, count: int) -> list[Transformer]:
        shape = (self.widths[level], self.heads[level], self.text_width, self.groups)
        return [Transformer(*shape) for _ in range(count)]

    def down(self, level: int) -> DownBlock:
        out = self.widths[level]
        first = self.widths[max(level - 1, 0)]
        resnets = [self.resnet(first if layer == 0 else out, out) for layer in range(self.layers)]
        attentions = self.attentions(level, self.layers) if self.reads_text[level] else []
        return DownBlock(resnets, attentions, None if level == len(self.widths) - 1 else Down(out, padding=1))

    def middle(self) -> MidBlock:
        width = self.widths[-1]
        return MidBlock([self.resnet(width, width) for _ in range(2)], self.attentions(-1, 1))

    def up(self, level: int) -> UpBlock:
        """Its layers each take in what one layer of the way down has passed on."""
        out, below = self.widths[level], self.widths[min(level + 1, len(self.widths) - 1)]
        passed = [*[out] * self.layers, self.widths[max(level - 1, 0)]]
        resnets = [self.resnet((below if layer == 0 else out) + each, out) for layer, each in enumerate(passed)]
        attentions = self.attentions(level, len(passed)) if self.reads_text[level] else []
        return UpBlock(resnets, attentions, Up(out) if level else None)


class _Block(nn.Module):
    """Residual layers, each with a transformer behind it where the block reads words."""

    def __init__(self, resnets: Sequence[Resnet], attentions: Sequence[Transformer]) -> None:
        super().__init__()
        if attentions:
            self.attentions = nn.ModuleList(attentions)
        self.resnets = nn.ModuleList(resnets)

    def layer(self, number: int, x: Tensor, time: Tensor, text: Tensor) -> Tensor:
        x = self.resnets[number](x, time)
        return self.attentions[number](x, text) if "attentions" in self._modules else x


class DownBlock(_Block):
    def __init__(self, resnets: Sequence[Resnet], attentions: Sequence[Transformer], down: Down | None) -> None:
        super().__init__(resnets, attentions)
        self.downsamplers = None if down is None else nn.ModuleList([down])

    def forward(self, x: Tensor, time: Tensor, text: Tensor, passed: list[Tensor]) -> Tensor:
        """Adds to `passed` what the way up takes in."""
        for number in range(len(self.resnets)):
            x = self.layer(number, x, time, text)
            passed.append(x)
        if self.downsamplers is not None:
            x = self.downsamplers[0](x)
            passed.append(x)
        return x


class MidBlock(_Block):
    def forward(self, x: Tensor, time: Tensor, text: Tensor) -> Tensor:
        x = self.attentions[0](self.resnets[0](x, time), text)
        return cast("Tensor", self.resnets[1](x, time))


class UpBlock(_Block):
    def __init__(self, resnets: Sequence[Resnet], attentions: Sequence[Transformer], up: Up | None) -> None:
        super().__init__(resnets, attentions)
        self.upsamplers = None if up is None else nn.ModuleList([up])

    def forward(self, x: Tensor, time: Tensor, text: Tensor, passed: list[Tensor], odd: bool) -> Tensor:
        """Takes its part from the end of `passed`; `odd`: the next size is that of what is left."""
        for number in range(len(self.resnets)):
            x = self.layer(number, torch.cat([x, passed.pop()], dim=1), time, text)
        if self.upsamplers is None:
            return x
        return cast("Tensor", self.upsamplers[0](x, passed[-1].shape[2:] if odd else None))


def sines(times: Tensor, width: int) -> Tensor:
    """(B, width) float32: cosines and sines of the times (B,) over periods from 2 pi to `LONGEST` times that."""
    half = width // 2
    exponent = -math.log(LONGEST) * torch.arange(half, dtype=torch.float32, device=times.device) / half
    angles = times[:, None].float() * torch.exp(exponent)[None, :]
    return torch.cat([torch.cos(angles), torch.sin(angles)], dim=-1)


class TimeEmbedding(nn.Module):
    def __init__(self, into: int, out: int, w_width: int | None) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(into, out)
        self.cond_proj = None if w_width is None else nn.Linear(w_width, into, bias=False)
        self.linear_2 = nn.Linear(out, out)

    def forward(self, time: Tensor, w: Tensor | None) -> Tensor:
        if w is not None and self.cond_proj is not None:
            time = time + self.cond_proj(w)
        return cast("Tensor", self.linear_2(F.silu(self.linear_1(time))))


class Pooled(nn.Module):
    """All token states of a prompt (B, L, D) as one vector beside the time's."""

    def __init__(self, into: int, out: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(into)
        self.pool = Pool(into, heads)
        self.proj = nn.Linear(into, out)
        self.norm2 = nn.LayerNorm(out)

    def forward(self, states: Tensor) -> Tensor:
        return cast("Tensor", self.norm2(self.proj(self.pool(self.norm1(states)))))


class Pool(nn.Module):
    """Attention of the states' mean to itself and to all of them; the scale is on both sides, for float16's sake."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.empty(1, width))
        self.k_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.heads = heads

    def forward(self, states: Tensor) -> Tensor:
        mean = states.mean(dim=1, keepdim=True) + self.positional_embedding.to(states.dtype)
        every = torch.cat([mean, states], dim=1)
        q, k, v = (self._split(each) for each in (self.q_proj(mean), self.k_proj(every), self.v_proj(every)))
        scale = 1 / math.sqrt(math.sqrt(q.shape[1]))
        weight = torch.einsum("bct,bcs->bts", q * scale, k * scale)
        weight = torch.softmax(weight.float(), dim=-1).type(weight.dtype)
        pooled = torch.einsum("bts,bcs->bct", weight, v)
        return pooled.reshape(states.shape[0], -1)

    def _split(self, x: Tensor) -> Tensor:
        """(B, L, D) to (B heads, D / heads, L)."""
        rows, _, width = x.shape
        split = x.view(rows, -1, self.heads, width // self.heads).transpose(1, 2)
        return split.reshape(rows * self.heads, -1, width // self.heads).transpose(1, 2)
