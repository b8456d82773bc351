"""What only a CUDA device can tell: skipped without one. Tolerances are stated in the tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def cuda() -> None:
    """Skips where there is no device, before any other fixture loads a model."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.fixture(autouse=True)
def as_it_was(cuda: None) -> Iterator[None]:
    """In a test float32 is float32 (no TF32); after it the allocator may take everything again."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()
