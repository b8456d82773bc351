"""What a dry run advises."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from fewstep.runtime.machine import Speed
from fewstep.train.defaults import changed, default_config
from fewstep.train.rehearsal import rehearse


@pytest.mark.parametrize(
    ("times_as_fast", "precision", "told"), [(2.5, "float32", True), (1.1, "float32", False), (2.5, "bfloat16", False)]
)
def test_bfloat16_is_advised_where_the_machine_is_quicker_in_it(
    tmp_path: Path, miniature: Path, monkeypatch: pytest.MonkeyPatch, times_as_fast: float, precision: str, told: bool
) -> None:
    def speed(device: torch.device, dtype: torch.dtype, size: int) -> Speed:
        return Speed(str(device), str(dtype), 1e9 * (times_as_fast if dtype is torch.bfloat16 else 1.0))

    monkeypatch.setattr("fewstep.train.rehearsal.matrix_speed", speed)
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (128, 128), "red").save(tmp_path / "pictures" / "a red square.png")
    config = default_config("distill", str(miniature / "teacher"), str(tmp_path / "pictures"), lora=True)
    advice = rehearse(changed(config, {"fit.precision": precision, "device": "cpu"}), tmp_path / "run").advice
    assert any("2.5 times as fast in bfloat16: --precision bfloat16" in line for line in advice) == told
