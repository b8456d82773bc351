"""Which model a transformer is of, by the names of its tensors or by its class; also where no family reads it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

SD3 = "SD 3"
_WRAPPING = re.compile(r"^(model\.)?diffusion_model\.")  # around a network in ComfyUI's files and in whole checkpoints


@dataclass(frozen=True)
class TransformerKind:
    """marks  how tensors of this kind alone begin, with "model.diffusion_model." taken off
    network  the class of it in diffusers
    needs    what a family of it would need; None where fewstep has one
    """

    name: str
    marks: tuple[str, ...]
    network: str
    needs: str | None = None

    @property
    def advice(self) -> str:
        if self.needs is not None:
            return f"fewstep does not have that family: {self.needs}"
        if self.name == SD3:
            return "give it with --unet, over the folder that its other parts come from (--model)"
        return "fewstep reads models of this family from their folders, as diffusers writes them (--model FOLDER)"


# Those whose marks are narrower stand first.
KINDS = (
    TransformerKind(SD3, ("joint_blocks.0.context_block.", "pos_embed.pos_embed"), "SD3Transformer2DModel"),
    TransformerKind(
        "SANA", ("caption_norm.", "attention_y_norm.", "blocks.0.mlp.inverted_conv."), "SanaTransformer2DModel"
    ),
    TransformerKind(
        "PixArt",
        ("y_embedder.y_embedding", "adaln_single.emb.resolution_embedder.", "caption_projection.y_embedding"),
        "PixArtTransformer2DModel",
    ),
    TransformerKind(
        "FLUX.2",
        ("single_stream_modulation.", "double_stream_modulation_img."),
        "Flux2Transformer2DModel",
        "its latents are packed, and a language model reads its prompts",
    ),
    TransformerKind(
        "Chroma",
        ("distilled_guidance_layer.",),
        "ChromaTransformer2DModel",
        "its latents are packed, and a network of its own makes its modulations",
    ),
    TransformerKind(
        "HunyuanVideo",
        ("txt_in.individual_token_refiner.",),
        "HunyuanVideoTransformer3DModel",
        "it makes films",
    ),
    TransformerKind(
        "FLUX.1",
        ("double_blocks.0.img_attn.", "single_transformer_blocks.0.proj_mlp."),
        "FluxTransformer2DModel",
        "its latents are packed two by two, and its guidance is an input",
    ),
    TransformerKind(
        "Qwen-Image",
        ("transformer_blocks.0.img_mod.", "txt_in.text_norm."),
        "QwenImageTransformer2DModel",
        "its latents are packed, and a vision model reads its prompts",
    ),
    TransformerKind(
        "Z-Image",
        ("layers.0.adaLN_modulation.0.", "all_x_embedder."),
        "ZImageTransformer2DModel",
        "a language model reads its prompts, each as long as it is",
    ),
    TransformerKind(
        "Lumina 2", ("cap_embedder.0.",), "Lumina2Transformer2DModel", "a language model reads its prompts"
    ),
    TransformerKind(
        "AuraFlow", ("double_layers.0.attn.",), "AuraFlowTransformer2DModel", "another T5 reads its prompts"
    ),
    TransformerKind(
        "Hunyuan-DiT",
        ("mlp_t5.", "text_embedder.linear_1."),
        "HunyuanDiT2DModel",
        "two text encoders of its own kinds, and places that turn with the size",
    ),
)


def kind_of(names: Iterable[str]) -> TransformerKind | None:
    """By the names of tensors."""
    bare = [_WRAPPING.sub("", name) for name in names]
    return next((kind for kind in KINDS if any(name.startswith(kind.marks) for name in bare)), None)


def kind_called(network: str) -> TransformerKind | None:
    """By the class of the network in diffusers."""
    return next((kind for kind in KINDS if kind.network == network), None)


def kind_named(name: str) -> TransformerKind | None:
    return next((kind for kind in KINDS if kind.name == name), None)
