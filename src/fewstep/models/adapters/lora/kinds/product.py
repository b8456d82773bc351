"""A product of two matrices, or of three."""

from __future__ import annotations

import torch
from torch import Tensor


def product(a: Tensor | None, b: Tensor | None, core: Tensor | None) -> Tensor:
    """a @ b, or with a core: sum over both ranks, (out, in, h, w)."""
    assert a is not None
    assert b is not None
    return a @ b if core is None else torch.einsum("ij...,ip,jr->pr...", core, a, b)


def product_shape(a: Tensor | None, b: Tensor | None, core: Tensor | None) -> tuple[int, ...]:
    """The shape of `product`; empty where it has none."""
    if a is None or b is None or a.ndim != 2 or b.ndim != 2:
        return ()
    if core is not None:
        fits = core.ndim > 2 and tuple(core.shape[:2]) == (len(a), len(b))
        return (a.shape[1], b.shape[1], *core.shape[2:]) if fits else ()
    return (a.shape[0], b.shape[1]) if a.shape[1] == b.shape[0] else ()
