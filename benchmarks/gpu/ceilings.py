"""What the device can do at most: matrix products, the convolutions of Stable Diffusion, attention, copying.

TFLOP/s, and GB/s counting bytes read and bytes written; on random numbers, since zeros are quicker.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.nn.functional import conv2d, scaled_dot_product_attention

from benchmarks.gpu.stage import Bench
from benchmarks.gpu.timing import Call, kernel_seconds

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
# (channels in, channels out, side of the latents): residual blocks of the U-Net at 512 x 512 pixels, and the decoder's
CONVOLUTIONS = ((320, 320, 64), (640, 640, 32), (1280, 1280, 16), (1280, 1280, 8), (2560, 1280, 16), (128, 128, 512))
ATTENTION = ((8, 4096, 40), (8, 1024, 80), (8, 256, 160))  # heads, places, width: SD1.5's self-attention
BATCH = 16


@torch.inference_mode()
def run(bench: Bench) -> None:
    torch.manual_seed(0)
    for name, (call, amount) in cases(bench):
        repeats = 1 if bench.tiny else 10
        seconds = kernel_seconds(call, bench.device, repeats=repeats)
        unit, scale = ("gb_per_second", 1e9) if name.startswith("copy") else ("tflop_per_second", 1e12)
        bench.record(name, {unit: round(amount / seconds / scale, 4), "ms": round(1e3 * seconds, 5)})


def cases(bench: Bench) -> Iterator[tuple[str, tuple[Call, float]]]:
    """Each call by its name, with its operations, or bytes."""
    yield "copy", copy(bench)
    for name, dtype in DTYPES.items():
        for size in (64, 128) if bench.tiny else (4096, 8192):
            yield f"matmul {size} {name}", product(size, dtype, bench.device)
    torch.backends.cuda.matmul.allow_tf32 = True
    size = 64 if bench.tiny else 8192
    yield f"matmul {size} tf32", product(size, torch.float32, bench.device)
    torch.backends.cuda.matmul.allow_tf32 = False
    for shape in CONVOLUTIONS:
        for layout in ("contiguous", "channels_last"):
            for name in ("float16", "bfloat16"):
                what = "x".join(map(str, shape))
                yield f"conv {what} batch {_batch(bench)} {layout} {name}", convolution(shape, layout, name, bench)
    for heads, places, width in ATTENTION:
        yield (
            f"attention {heads}x{places}x{width} batch {_batch(bench)} float16",
            attention(heads, places, width, bench),
        )


def product(size: int, dtype: torch.dtype, device: str) -> tuple[Call, float]:
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return lambda: a @ b, 2.0 * size**3


def convolution(kind: tuple[int, int, int], layout: str, dtype: str, bench: Bench) -> tuple[Call, float]:
    """3 x 3, `kind` = (channels in, channels out, side)."""
    inner, outer, side = (8, 8, 8) if bench.tiny else kind
    memory = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    batch = _batch(bench) if side < 512 else 1
    x, weight = (
        torch.randn(shape, device=bench.device, dtype=DTYPES[dtype]).to(memory_format=memory)
        for shape in ((batch, inner, side, side), (outer, inner, 3, 3))
    )
    return lambda: conv2d(x, weight, padding=1), 2.0 * batch * outer * inner * 9 * side**2


def attention(heads: int, places: int, width: int, bench: Bench) -> tuple[Call, float]:
    places = 16 if bench.tiny else places
    shape = (_batch(bench), heads, places, width)
    q, k, v = (torch.randn(shape, device=bench.device, dtype=torch.float16) for _ in range(3))
    return lambda: scaled_dot_product_attention(q, k, v), 4.0 * shape[0] * heads * places**2 * width


def copy(bench: Bench) -> tuple[Call, float]:
    count = 2**16 if bench.tiny else 2**32
    source = torch.randint(256, (count,), dtype=torch.uint8, device=bench.device)
    target = torch.empty_like(source)
    return lambda: target.copy_(source), 2.0 * count


def _batch(bench: Bench) -> int:
    return 1 if bench.tiny else BATCH
