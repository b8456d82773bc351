"""The networks that look: the one that ships, and published ones against their own libraries."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPConfig, CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from fewstep.errors import InvalidModel, InvalidRequest, ModelNotFound, NotInstalled
from fewstep.evaluate.features import EYE, ClipFeatures, Eye, load_features, text_encoder_digest
from fewstep.evaluate.reference import FILE, read_reference
from fewstep.imaging.pixels import to_pixels
from miniature import write_tokenizer


@pytest.fixture(scope="module")
def eye() -> Eye:
    return Eye.load()


def disc(color: tuple[int, int, int], radius: float = 40, size: int = 128) -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    inside = ((rows - size / 2) ** 2 + (columns - size / 2) ** 2).sqrt() < radius
    return torch.where(inside, torch.tensor(color).view(3, 1, 1) / 127.5 - 1.0, torch.tensor(1.0))[None]


def test_the_shipped_network_is_small() -> None:
    assert EYE.stat().st_size <= 10_000_000


def test_the_eye_knows_plain_things(eye: Eye) -> None:
    words = eye.read(["red circle", "blue circle", "green circle"])
    seen = eye.look(torch.cat([disc((221, 46, 68)), disc((60, 110, 230)), disc((60, 170, 70))]))
    assert (seen.embeddings @ words.T).argmax(1).tolist() == [0, 1, 2]


def test_a_picture_is_seen_the_same_alone_and_among_others_and_at_any_size(eye: Eye) -> None:
    pictures = torch.cat([disc((221, 46, 68)), disc((60, 110, 230), 20), disc((0, 0, 0), 60)])
    together = eye.look(pictures)
    for index, picture in enumerate(pictures):
        torch.testing.assert_close(eye.look(picture[None]).features[0], together.features[index], rtol=1e-3, atol=1e-3)
    larger = eye.look(disc((221, 46, 68), 120, 384))
    assert float(larger.embeddings @ together.embeddings[0]) > 0.9


def test_an_eye_for_another_text_encoder_is_refused(tmp_path: Path) -> None:
    save_file(load_file(EYE), tmp_path / "eye.safetensors", {"text_encoder": "another"})
    with pytest.raises(InvalidModel, match="another text encoder"):
        Eye.load(file=tmp_path / "eye.safetensors")
    with pytest.raises(InvalidModel, match="are not here"):
        Eye.load(file=tmp_path / "gone.safetensors")
    assert text_encoder_digest() == text_encoder_digest()


def test_the_shipped_reference_goes_with_the_shipped_eye(eye: Eye) -> None:
    reference = read_reference("builtin", eye, (128, 128))
    assert reference.features.shape == (4610, 352)
    assert reference.pictures is None
    assert FILE.stat().st_size < 4_000_000
    # over two of the three styles mean 0 and deviation 1; over all not far from that
    assert float(reference.features.mean().abs()) < 0.1
    assert float(reference.features.std()) == pytest.approx(1.0, abs=0.2)


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP of a few thousand random weights, as transformers writes it."""
    folder = tmp_path_factory.mktemp("clip")
    write_tokenizer(folder)
    tower = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config={**tower, "vocab_size": 600, "max_position_embeddings": 77, "projection_dim": 16},
        vision_config={**tower, "image_size": 32, "patch_size": 16, "projection_dim": 16},
        projection_dim=16,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        CLIPModel(config).save_pretrained(folder)
    size = {"height": 32, "width": 32}
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=size).save_pretrained(folder)
    return folder


def test_clip_sees_and_reads_as_in_transformers(clip_folder: Path) -> None:
    ours = load_features("clip", clip=clip_folder)
    assert isinstance(ours, ClipFeatures)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    model = CLIPModel.from_pretrained(clip_folder).eval()
    inputs = CLIPImageProcessorPil.from_pretrained(clip_folder)(image, return_tensors="pt")
    ids = ours.clip.tokenizer(["a cat", "a red fox"], padding=True, return_tensors="pt")
    with torch.no_grad():
        theirs = model(**inputs, **ids)
    torch.testing.assert_close(
        ours.look(to_pixels(image, 32, 32)).embeddings, theirs.image_embeds, rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(ours.read(["a cat", "a red fox"]), theirs.text_embeds, rtol=1e-4, atol=1e-5)


def test_networks_that_are_not_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clip_folder: Path) -> None:
    with pytest.raises(InvalidRequest, match="unknown features 'vgg'"):
        load_features("vgg")
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    with pytest.raises(NotInstalled, match="need torch-fidelity"):
        load_features("inception", clip=clip_folder)
    with pytest.raises((ModelNotFound, InvalidModel)):
        load_features("clip", clip=tmp_path)
