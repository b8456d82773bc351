"""What a lean part is: a network of ours in the place of one of diffusers' or transformers'."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from importlib import import_module
from typing import Any, ClassVar

import torch
from torch import nn

_HERE = __name__.rpartition(".")[0]
Config = Mapping[str, Any]  # as it lies on the disk


class LeanPart(nn.Module):
    """A network that is called as the one that it stands for. What it lacks (saving, tiles, steering, training) that
    one does in its place: see `twin_of`.

    twin     the class that it stands for, and the module of its home
    reads    the keys of a config that shape it
    assumes  what all others must say
    """

    twin: ClassVar[tuple[str, str]]
    reads: ClassVar[Collection[str]]
    assumes: ClassVar[Config]

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config: Config = dict(config)

    @classmethod
    def fits(cls, config: Config) -> bool:
        """Whether it is the network of this config: it says each of these keys, and no other."""
        said = {key: value for key, value in config.items() if not key.startswith("_")}
        return said.keys() == {*cls.reads, *cls.assumes} and cls.assumes.items() <= said.items()

    def make_twin(self) -> nn.Module:
        """The network that it stands for, with the very layers of this one in it."""
        name, home = self.twin
        twin = self.blank(getattr(import_module(home), name))
        _graft(self, twin)
        return twin.train(self.training)

    def blank(self, kind: Any) -> nn.Module:
        """A twin whose layers are of no use."""
        with torch.device("meta"):
            twin: nn.Module = kind.from_config(self.config)
        return twin


def twin_of(part: nn.Module) -> nn.Module:
    """diffusers' or transformers' own object in the place of a lean one; any other as it is."""
    return part.make_twin() if isinstance(part, LeanPart) else part


def _graft(ours: nn.Module, theirs: nn.Module) -> None:
    """Torch's layers, and whatever adapters have put around them, from one of our modules into its counterpart."""
    theirs._parameters.update(ours._parameters)
    for name, child in ours._modules.items():
        if child is None:
            continue
        if isinstance(child, nn.ModuleList) or type(child).__module__.startswith(_HERE):
            _graft(child, theirs.get_submodule(name))
        else:
            theirs._modules[name] = child
