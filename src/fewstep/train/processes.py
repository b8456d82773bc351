"""The processes that train together: who this one is, what it computes, and the means over all of them.

Started by `accelerate launch` or `torchrun`, each process computes its share of every batch, and the gradients are
averaged in one flat buffer: what DistributedDataParallel does, for any module, wrapped or not. Random numbers are drawn
for the whole batch everywhere, so that the number of processes changes nothing but rounding.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fewstep.train.config import InvalidConfig

SHARDING = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")


@dataclass(frozen=True)
class Processes:
    """This process, `rank` of `count`; the main one writes files and shows progress."""

    rank: int = 0
    count: int = 1

    @classmethod
    def here(cls, device: str | None = None) -> Processes:
        """By the environment that a launcher leaves; joins the others where there are some.

        Raises `InvalidConfig` where accelerate is to divide the weights, and not only the pictures.
        """
        if any(os.environ.get(name) == "true" for name in SHARDING):
            raise InvalidConfig(
                "accelerate is configured for FSDP or DeepSpeed, and every process here holds the whole network: "
                "launch with --multi_gpu; --lora, --precision bfloat16, --accumulate and --checkpointing save memory"
            )
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls()
        from accelerate import PartialState

        state = PartialState(cpu=device == "cpu" or not torch.cuda.is_available())
        return cls(state.process_index, state.num_processes)

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def device(self, asked: str | None) -> str | None:
        """The device of this process: of several on CUDA, each has its own."""
        if self.count > 1 and asked in (None, "cuda") and torch.cuda.is_available():
            return f"cuda:{os.environ.get('LOCAL_RANK', self.rank)}"
        return asked

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors of one device by their means over all processes, to the bit the same in each."""
        if self.count == 1 or not tensors:
            return
        flat = torch.cat([tensor.detach().float().flatten() for tensor in tensors])
        torch.distributed.all_reduce(flat)
        flat /= self.count
        for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def wait(self) -> None:
        """Until all are here."""
        if self.count > 1:
            torch.distributed.barrier()
