"""A network whose weights are divided among the processes: each holds its part, and gathers a block while it computes.

PyTorch's `fully_shard` (FSDP2): weights in training, their gradients, averages and optimiser, and the frozen weights
too, take as many times less memory as there are processes. Gathering is collective, so all of them call what is here
together; a tensor that is not divided passes through unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

BLOCKS = ("ResnetBlock2D", "BasicTransformerBlock")  # of diffusers' U-Nets: what is gathered at once


def shard(network: nn.Module) -> None:
    """Divide `network` in place, block by block; what lies outside of the blocks is one more.

    All is given back after every pass: weights are exchanged between passes, and a gathered copy would be stale.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    device = next(network.parameters()).device.type
    mesh = init_device_mesh(device, (torch.distributed.get_world_size(),))
    blocks = [each for each in network.modules() if type(each).__name__ in BLOCKS]
    for module in (*blocks, network):
        divided = fully_shard(module, mesh=mesh, reshard_after_forward=True)
        divided.unshard()  # once, as it will be in training: what is gathered first while sampling could not learn
        divided.reshard()


def is_part(tensor: Tensor) -> bool:
    """Whether it is this process's part of a divided one."""
    return hasattr(tensor, "full_tensor")  # a DTensor, whose module is slow to import


def whole(tensor: Tensor) -> Tensor:
    """The tensor that `tensor` is a part of."""
    return tensor.full_tensor() if is_part(tensor) else tensor  # type: ignore[attr-defined]


def part(tensor: Tensor, like: Tensor) -> Tensor:
    """This process's part of a tensor that all have whole, divided as `like` is."""
    if not is_part(like) or is_part(tensor):
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def all_whole(tensors: Mapping[str, Tensor], *, keep: bool = True) -> dict[str, Tensor]:
    """Divided tensors, whole and on the CPU, one after the other; empty in a process that is not to keep them."""
    kept = {}
    for name, tensor in tensors.items():
        gathered = whole(tensor.detach())
        if keep:
            kept[name] = gathered.cpu()
    return kept
