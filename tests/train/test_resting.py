"""Encoders at rest come back as they were, and leave nothing behind."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import fewstep
from fewstep.errors import CannotWrite
from fewstep.train.resting import resting


def test_what_rests_in_a_file_encodes_and_decodes_as_before(tmp_path: Path, miniature: Path) -> None:
    model = fewstep.load(miniature, device="cpu")
    words, pixels = ["a red fox"], torch.rand(1, 3, 128, 128) * 2 - 1
    before = model.encode_text(words).states, model.encode_images(pixels)
    weight = next(model.autoencoder.module.parameters())
    address = weight.data_ptr()
    with resting(model, tmp_path) as encoders:
        assert [path.name for path in tmp_path.iterdir()] == ["encoders-at-rest-0.safetensors"]
        assert next(model.autoencoder.module.parameters()).data_ptr() != address  # it is the file's now
        for _ in range(2):
            with encoders.awake():
                after = model.encode_text(words).states, model.encode_images(pixels)
            assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert list(tmp_path.iterdir()) == []
    assert torch.equal(model.encode_text(words).states, before[0])


def test_on_cuda_they_lie_with_the_host_between_two_looks(tmp_path: Path) -> None:
    class Part:
        moves: list[str] = []  # noqa: RUF012

        def to(self, device: object) -> None:
            self.moves.append(str(device))

        def state_dict(self) -> dict[str, torch.Tensor]:
            return {}

    parts = {"autoencoder": SimpleNamespace(module=Part()), "text": SimpleNamespace(encoders={"text_encoder": Part()})}
    model = SimpleNamespace(device=torch.device("cuda:1"), **parts)
    with resting(model, tmp_path) as encoders:  # type: ignore[arg-type]
        with pytest.raises(KeyboardInterrupt), encoders.awake():
            raise KeyboardInterrupt
        assert list(tmp_path.iterdir()) == []
    assert Part.moves == ["cpu"] * 2 + ["cuda:1"] * 2 + ["cpu"] * 2


def test_a_disk_that_refuses_is_said(tmp_path: Path, miniature: Path) -> None:
    model = fewstep.load(miniature, device="cpu")
    with pytest.raises(CannotWrite, match="there is no folder"), resting(model, tmp_path / "not there"):
        pass
