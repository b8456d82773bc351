"""What is said of a machine: counted operations that others have counted too, and measured times that are times."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.attention_processor import Attention

from fewstep.models.families.sd import SD1
from fewstep.models.memory import free_memory
from fewstep.models.model import Model
from fewstep.runtime.machine import Speed, matrix_speed, operations, step_seconds

CPU = torch.device("cpu")


def test_the_operations_of_stable_diffusion_add_up() -> None:
    """Counted here from the shapes that go into and out of the layers, by the textbook's formulae."""
    unet = SD1.blank("unet")
    total = 0

    def matrix(module: torch.nn.Linear | torch.nn.Conv2d, _: object, output: torch.Tensor) -> None:
        nonlocal total
        total += 2 * output.numel() * module.weight[0].numel()

    def attention(module: Attention, inputs: tuple[torch.Tensor], options: dict[str, torch.Tensor | None]) -> None:
        nonlocal total
        queries = inputs[0].shape[1]
        context = options.get("encoder_hidden_states")
        total += 4 * queries * (queries if context is None else context.shape[1]) * module.inner_dim

    for module in unet.modules():
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)):
            module.register_forward_hook(matrix)
        if isinstance(module, Attention):
            module.register_forward_pre_hook(attention, with_kwargs=True)
    with torch.device("meta"):
        x, t, states = torch.empty(1, 4, 64, 64), torch.empty(1, dtype=torch.int64), torch.empty(1, 77, 768)
    unet(x, t, encoder_hidden_states=states)
    assert operations(SD1, 512)[0] == pytest.approx(total, rel=0.001)


@pytest.mark.slow
def test_operations_grow_with_the_picture() -> None:
    assert 3.9 < operations(SD1, 512)[1] / operations(SD1, 256)[1] < 4.3


def test_times_are_measured(student: Model, teacher: Model) -> None:
    speed = matrix_speed(CPU, torch.float32, size=256)
    assert 1e8 < speed.flops < 1e15
    assert Speed("cpu", "float32", 1e9).seconds(2e9) == 2.0
    for model in (student, teacher):
        step, decode = step_seconds(model)
        assert 0 < step < 10
        assert 0 < decode < 10
    assert free_memory(CPU) > 2**20
