"""The processes that train together: who this one is, what it computes, and the means over all of them.

Started by `accelerate launch` or `torchrun`, each process computes its share of every batch, and the gradients are
averaged in one flat buffer: what DistributedDataParallel does, for any module, wrapped or not. Random numbers are drawn
for the whole batch everywhere, so that the number of processes changes nothing but rounding. Where accelerate is
configured for FSDP the weights are divided as well (`sharding`), and all processes look at the samples together.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fewstep.errors import InvalidConfig

SHARDING, OFFLOADING, DEEPSPEED = "ACCELERATE_USE_FSDP", "FSDP_OFFLOAD_PARAMS", "ACCELERATE_USE_DEEPSPEED"


@dataclass(frozen=True)
class Processes:
    """This process, `rank` of `count`; the main one writes files and shows progress.

    shards  whether the weights are divided among them, too
    """

    rank: int = 0
    count: int = 1
    shards: bool = False

    @classmethod
    def here(cls, device: str | None = None) -> Processes:
        """By the environment that a launcher leaves; joins the others where there are some.

        Raises `InvalidConfig` for DeepSpeed, and for FSDP with the weights in the memory of the CPU.
        """
        asked = {name for name in (SHARDING, OFFLOADING, DEEPSPEED) if os.environ.get(name, "").lower() == "true"}
        if DEEPSPEED in asked or asked >= {SHARDING, OFFLOADING}:
            raise InvalidConfig(
                "accelerate is configured for DeepSpeed, or for FSDP with fsdp_offload_params: use FSDP without, which "
                "divides the weights among the GPUs, or --multi_gpu, which divides the pictures alone"
            )
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls()
        from accelerate import PartialState

        state = PartialState(cpu=device == "cpu" or not torch.cuda.is_available())
        return cls(state.process_index, state.num_processes, SHARDING in asked)

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

    def divide(self, network: nn.Module) -> None:
        """Keep a part of `network` here, where the weights are divided."""
        if self.shards:
            from fewstep.train.sharding import shard

            shard(network)

    def as_main(self, values: Mapping[str, float]) -> dict[str, float]:
        """What the main process measured, in all: what is decided by it must not differ in the last digit."""
        if not self.shards:
            return dict(values)
        sent = [dict(values)]
        torch.distributed.broadcast_object_list(sent)
        return sent[0]

    def wait(self) -> None:
        """Until all are here."""
        if self.count > 1:
            torch.distributed.barrier()
