"""One thread: the tensors here are tiny."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
