"""The precisions and decoders that a picture can be asked for in, by name; imports nothing."""

from __future__ import annotations

FLOATS = ("float32", "float16", "bfloat16")  # that weights are loaded in
INT8 = "int8"
PRECISIONS = (*FLOATS, INT8)
DERIVED = ("bfloat16", INT8)  # those that a model in float32 can also be sampled in
WHOLE, FAST = "whole", "fast"
DECODERS = (WHOLE, FAST)
EAGER = "eager"  # the backend that is always there: PyTorch, layer by layer
