"""Networks that look: pictures become features to compare sets by, and embeddings that lie near their words."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from fewstep.errors import InvalidModel, InvalidRequest, NotInstalled
from fewstep.evaluate.eye import EyeNetwork
from fewstep.models import packed
from fewstep.models.latent_model import LatentModel
from fewstep.models.loading import load
from fewstep.models.locating import STARTER, find_weights

NETWORKS = ("eye", "clip", "inception")
EYE = Path(__file__).parent / "eye.safetensors"
CLIP = "openai/clip-vit-large-patch14"
# As torch-fidelity publishes it: the network of the original FID, converted from TensorFlow.
INCEPTION = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
)


@dataclass(frozen=True, eq=False)
class Seen:
    """Of pictures: `features` (B, D) float32 for distances between sets, `embeddings` (B, E) to compare with words."""

    features: Tensor
    embeddings: Tensor


class FeatureNetwork(Protocol):
    """`name` is for people; `identity` tells apart all that would give other numbers."""

    @property
    def name(self) -> str: ...

    @property
    def identity(self) -> str: ...

    def look(self, pixels: Tensor) -> Seen:
        """At pictures (B, 3, H, W) in [-1, 1]."""
        ...

    def read(self, texts: Sequence[str]) -> Tensor:
        """Texts to embeddings (B, E)."""
        ...


def load_features(name: str, device: str | torch.device = "cpu", clip: str | Path = CLIP) -> FeatureNetwork:
    """A feature network by its name.

    eye        the one that ships: small, for drawings on white like the starter's, works offline
    clip       a published CLIP (`clip`: folder or hub id) for everything
    inception  Inception-v3 as the original FID has it, and that CLIP for the words; needs torch-fidelity

    Raises `InvalidRequest`, `ModelNotFound`, `NotInstalled`.
    """
    if name == "eye":
        return Eye.load(device)
    if name == "clip":
        return ClipFeatures.load(clip, device)
    if name == "inception":
        return InceptionFeatures.load(clip, device)
    raise InvalidRequest(f"unknown features {name[:60]!r}; choose one of {', '.join(NETWORKS)}")


def digest(files: Sequence[Path]) -> str:
    """The first 12 hex digits of a SHA-256 over files."""
    total = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()[:12]


def text_encoder_digest() -> str:
    """Of the starter's text encoder: the eye goes with no other."""
    return digest(find_weights(STARTER / "text_encoder"))


@dataclass(frozen=True, eq=False)
class Eye:
    """The shipped network (`eye.py`); features have mean 0 and deviation 1 over the drawings that it learnt from."""

    network: EyeNetwork
    mean: Tensor
    deviation: Tensor
    device: torch.device
    file: Path

    @classmethod
    def load(cls, device: str | torch.device = "cpu", file: Path = EYE) -> Eye:
        """Raises `InvalidModel` where the weights are missing or go with another text encoder."""
        if not file.is_file():
            raise InvalidModel(
                f"the weights of the eye are not here ({file}); make them: python -m recipes.starter eye"
            )
        stored, metadata = packed.read(file)
        if metadata["text_encoder"] != text_encoder_digest():
            raise InvalidModel(
                "the eye was trained with another text encoder than the starter's; train it again: "
                "python -m recipes.starter eye --ship"
            )
        weights = {name: weight.float() for name, weight in stored.items()}
        mean, deviation = weights.pop("mean").to(device), weights.pop("deviation").to(device)
        network = EyeNetwork()
        network.load_state_dict(weights)
        return cls(network.eval().to(device), mean, deviation, torch.device(device), file)

    @property
    def name(self) -> str:
        return "the eye of fewstep (a tiny CLIP of 2.4 million weights, trained on open emoji art)"

    @cached_property
    def identity(self) -> str:
        return f"eye {digest([self.file])}"

    @torch.no_grad()
    def look(self, pixels: Tensor) -> Seen:
        seen = self.network.see(pixels.to(self.device))
        return Seen(((seen.pooled - self.mean) / self.deviation).cpu(), seen.embeddings.cpu())

    @torch.no_grad()
    def read(self, texts: Sequence[str]) -> Tensor:
        chunks = (list(texts[start : start + 256]) for start in range(0, len(texts), 256))
        pooled = [self._reader.encode_text(chunk).pooled for chunk in chunks]
        return self.network.embed_text(torch.cat([p for p in pooled if p is not None]).float().to(self.device)).cpu()

    @cached_property
    def _reader(self) -> LatentModel:
        return load("starter", device="cpu")


@dataclass(frozen=True, eq=False)
class ClipFeatures:
    """A published CLIP for distances and for words."""

    clip: Any

    @classmethod
    def load(cls, name: str | Path, device: str | torch.device) -> ClipFeatures:
        from fewstep.models.clip import Clip

        return cls(Clip.load(name, device))

    @property
    def name(self) -> str:
        return f"CLIP ({self.clip.name})"

    @cached_property
    def identity(self) -> str:
        return f"clip {digest(self.clip.weight_files)}"

    def look(self, pixels: Tensor) -> Seen:
        embeddings = self.clip.look(pixels)
        # CLIP's embeddings are compared by their direction; of this length a coordinate is about 1, as the kernels want
        unit = torch.nn.functional.normalize(embeddings, dim=1)
        return Seen(unit * embeddings.shape[1] ** 0.5, unit)

    def read(self, texts: Sequence[str]) -> Tensor:
        chunks = (texts[start : start + 64] for start in range(0, len(texts), 64))
        return torch.nn.functional.normalize(torch.cat([self.clip.read(chunk) for chunk in chunks]), dim=1)


@dataclass(frozen=True, eq=False)
class InceptionFeatures:
    """Inception-v3 (2048 features, FID's) for distances, a CLIP for words."""

    network: Any
    words: ClipFeatures
    device: torch.device

    @classmethod
    def load(cls, clip: str | Path, device: str | torch.device) -> InceptionFeatures:
        return cls(_inception().to(device), ClipFeatures.load(clip, device), torch.device(device))

    @property
    def name(self) -> str:
        return f"Inception-v3 (2015-12-05) and {self.words.name}"

    @property
    def identity(self) -> str:
        return f"inception 6726825d, {self.words.identity}"

    @torch.no_grad()
    def look(self, pixels: Tensor) -> Seen:
        levels = ((pixels.clamp(-1.0, 1.0) + 1.0) * 127.5).round().to(torch.uint8)
        (features,) = self.network(levels.to(self.device))
        return Seen(features.float().cpu(), self.words.look(pixels).embeddings)

    def read(self, texts: Sequence[str]) -> Tensor:
        return self.words.read(texts)


def _inception() -> Any:
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision for another build of torch
        raise NotInstalled(
            f"the features 'inception' need torch-fidelity ({error}): pip install 'fewstep[evaluate]', or use "
            "--features clip"
        ) from error
    from tempfile import NamedTemporaryFile

    try:
        weights = torch.hub.load_state_dict_from_url(INCEPTION, weights_only=True, check_hash=True, progress=False)
    except OSError as error:
        raise NotInstalled(
            f"the weights of Inception are not in the cache and cannot be fetched ({error}); go online, put "
            f"{Path(INCEPTION).name} into {torch.hub.get_dir()}/checkpoints, or use --features eye"
        ) from error
    with NamedTemporaryFile(suffix=".pth") as ours:  # torch-fidelity unpickles what it is given: give it our own file
        torch.save(weights, ours.name)
        return FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=ours.name)
