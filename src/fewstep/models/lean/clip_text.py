"""The starter's text encoder: a `CLIPTextModel` of transformers."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewstep.models.lean.part import Config, LeanPart


class TextStates(NamedTuple):
    """last_hidden_state  (B, L, D), normalised
    pooler_output      (B, D): that of the first mark of the end
    """

    last_hidden_state: Tensor
    pooler_output: Tensor


class ClipTextModel(LeanPart):
    """CLIP's text encoder (2103.00020): tokens see those before them."""

    twin = ("CLIPTextModel", "transformers.models.clip.modeling_clip")
    reads = (
        *("bos_token_id", "dtype", "eos_token_id", "hidden_size", "initializer_factor", "initializer_range"),
        *("intermediate_size", "layer_norm_eps", "max_position_embeddings", "num_attention_heads"),
        *("num_hidden_layers", "pad_token_id", "projection_dim", "transformers_version", "vocab_size"),
    )
    assumes = {  # noqa: RUF012
        "architectures": ["CLIPTextModel"],
        "attention_dropout": 0.0,
        "hidden_act": "quick_gelu",
        "model_type": "clip_text_model",
    }

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        width, eps = config["hidden_size"], config["layer_norm_eps"]
        self.embeddings = Embeddings(config["vocab_size"], config["max_position_embeddings"], width)
        self.encoder = Encoder(Layer(config) for _ in range(config["num_hidden_layers"]))
        self.final_layer_norm = nn.LayerNorm(width, eps)

    @classmethod
    def fits(cls, config: Config) -> bool:
        return super().fits(config) and config["eos_token_id"] != 2  # transformers' sign of a config with a wrong one

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings.token_embedding

    def forward(self, input_ids: Tensor, attention_mask: None = None, output_hidden_states: bool = False) -> TextStates:
        states = self.final_layer_norm(self.encoder(self.embeddings(input_ids)))
        ends = (input_ids == self.config["eos_token_id"]).int().argmax(dim=-1)
        return TextStates(states, states[torch.arange(len(states), device=states.device), ends])

    def blank(self, kind: Any) -> nn.Module:
        config = kind.config_class.from_dict(dict(self.config))
        with torch.random.fork_rng(devices=[]):  # not on the meta device: its places are in no state
            twin: nn.Module = kind(config)
        return twin


class Embeddings(nn.Module):
    """Tokens (B, L) and their places as vectors (B, L, D)."""

    def __init__(self, tokens: int, places: int, width: int) -> None:
        super().__init__()
        # not drawn: normal numbers on the meta device need the compiler, whose import takes most of a second
        self.token_embedding: nn.Module = nn.Embedding.from_pretrained(torch.empty(tokens, width))
        self.position_embedding = nn.Embedding.from_pretrained(torch.empty(places, width))

    def forward(self, ids: Tensor) -> Tensor:
        return cast("Tensor", self.token_embedding(ids) + self.position_embedding.weight[None, : ids.shape[1]])


class Encoder(nn.Module):
    def __init__(self, layers: Any) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, states: Tensor) -> Tensor:
        for layer in self.layers:
            states = layer(states)
        return states


class Layer(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        width, eps = config["hidden_size"], config["layer_norm_eps"]
        self.self_attn = CausalAttention(width, config["num_attention_heads"])
        self.layer_norm1 = nn.LayerNorm(width, eps)
        self.mlp = Perceptron(width, config["intermediate_size"])
        self.layer_norm2 = nn.LayerNorm(width, eps)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return cast("Tensor", x + self.mlp(self.layer_norm2(x)))


class CausalAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.head = width // heads
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (self._split(layer(x)) for layer in (self.q_proj, self.k_proj, self.v_proj))
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=self.head**-0.5)
        return cast("Tensor", self.out_proj(seen.transpose(1, 2).reshape(x.shape)))

    def _split(self, x: Tensor) -> Tensor:
        """(B, L, D) to (B, heads, L, D / heads)."""
        return x.view(*x.shape[:2], -1, self.head).transpose(1, 2)


class Perceptron(nn.Module):
    """With GELU as CLIP has it: x sigmoid(1.702 x)."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x)
        return cast("Tensor", self.fc2(x * torch.sigmoid(1.702 * x)))
