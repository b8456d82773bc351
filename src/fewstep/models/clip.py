"""A published CLIP, to look at pictures and to read words with; from a folder or from the hub, safetensors only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fewstep.errors import InvalidModel
from fewstep.models.locating import download, find_weights
from fewstep.models.variants import chosen_variant

if TYPE_CHECKING:
    from transformers.modeling_outputs import BaseModelOutputWithPooling
    from transformers.models.clip.modeling_clip import CLIPModel
    from transformers.models.clip.tokenization_clip import CLIPTokenizer

FILES = ("*.json", "*.txt", "*.safetensors")


@dataclass(frozen=True, eq=False)
class Clip:
    """transformers' CLIP with its tokenizer and its way to prepare pictures."""

    name: str
    model: CLIPModel
    tokenizer: CLIPTokenizer
    side: int
    mean: Tensor
    deviation: Tensor
    weight_files: tuple[Path, ...]

    @classmethod
    def load(cls, name: str | Path, device: str | torch.device = "cpu") -> Clip:
        """A folder as transformers writes it, or a hub id; raises `ModelNotFound`, `InvalidModel`."""
        folder = Path(name).expanduser()
        if not folder.is_dir():
            folder = download(str(name), FILES)
        files = find_weights(folder)
        from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
        from transformers.models.clip.modeling_clip import CLIPModel
        from transformers.models.clip.tokenization_clip import CLIPTokenizer

        try:
            variant = chosen_variant(folder, None)
            model = CLIPModel.from_pretrained(folder, use_safetensors=True, local_files_only=True, variant=variant)
            model = model.eval().to(device)
            tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
            preparing = CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise InvalidModel(f"{folder} cannot be loaded as a CLIP: {error}") from error
        mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (preparing.image_mean, preparing.image_std))
        return cls(str(name), model, tokenizer, model.config.vision_config.image_size, mean, deviation, files)

    @torch.no_grad()
    def look(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) in [-1, 1] to image embeddings (B, E), not normalised."""
        x = torch.nn.functional.interpolate(pixels, (self.side, self.side), mode="bicubic", antialias=True)
        x = (x.clamp(-1.0, 1.0) / 2 + 0.5 - self.mean.to(x)) / self.deviation.to(x)
        return _tensor(self.model.get_image_features(pixel_values=x.to(self.model.device)))

    @torch.no_grad()
    def read(self, texts: Sequence[str]) -> Tensor:
        """Texts to text embeddings (B, E), not normalised."""
        tokens = self.tokenizer(list(texts), padding=True, truncation=True, max_length=77, return_tensors="pt")
        return _tensor(self.model.get_text_features(**tokens.to(self.model.device)))


def _tensor(output: Tensor | BaseModelOutputWithPooling) -> Tensor:
    """transformers 5 wraps what these methods return."""
    return (output if isinstance(output, Tensor) else output.pooler_output).float().cpu()
