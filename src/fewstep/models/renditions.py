"""A model in another precision, or with its other decoder, beside the one that it is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, cast

import torch
from torch import Tensor, nn

from fewstep.models.autoencoder import Autoencoder
from fewstep.models.families.base import Inputs, Network, NetworkWrapper
from fewstep.models.placement import DTYPES, dtype_of
from fewstep.models.precisions import EAGER, FAST, INT8
from fewstep.models.rebuilt import Part, rebuilt

if TYPE_CHECKING:
    from diffusers import AutoencoderKL


Model = TypeVar("Model")


@dataclass(frozen=True, eq=False)
class Rendition(Generic[Model]):
    """What a model is of another one (`of`): in which precision, by which decoder, and by what it is run."""

    of: Model
    precision: str
    decoder: str
    backend: str = EAGER


class Runner(Protocol[Model]):
    """What decides how a model's renditions are run (`fewstep.runtime`)."""

    def run(self, rendition: Model) -> Model:
        """The same with networks that are quicker, or as it is. Asked for every request: it must answer at once."""
        ...


@dataclass(frozen=True, eq=False)
class Converted(NetworkWrapper):
    """A network in another precision: what it is given is of the precision of the one `inner`, and so is its answer.

    network  the same network, converted
    """

    network: Network

    @property
    def module(self) -> nn.Module:
        return self.network.module

    def run(self, inputs: Inputs) -> Tensor:
        dtype = dtype_of(self.module)
        before = next(x.dtype for x in inputs.values() if isinstance(x, Tensor))

        def rounded(x: Tensor) -> Tensor:  # but for times, a number a row, which are never rounded
            return x.to(dtype) if x.is_floating_point() and x.ndim > 1 else x

        inside: Inputs = {
            name: rounded(x) if isinstance(x, Tensor) else [rounded(part) for part in x] for name, x in inputs.items()
        }
        return self.network.run(inside).to(before)


def rendered(
    network: Network, autoencoder: Autoencoder, device: torch.device, precision: str | None, decoder: str | None
) -> tuple[Network, Autoencoder]:
    """The parts of a model in another precision, with its other decoder; None: as they are. What stays the same is
    shared."""
    autoencoder = _with_decoder(autoencoder, decoder, device)
    if precision is not None:
        convert = _CONVERT.get(precision) or _to(DTYPES[precision])
        network = Converted(network, network.holding(convert(network.module)))
        inside = autoencoder.module if autoencoder.decoder is None else autoencoder.decoder
        assert isinstance(inside, nn.Module)
        autoencoder = replace(autoencoder, decoder=_Decoder(convert(inside), whole=autoencoder.decoder is None))
    return network, autoencoder


class _Decoder(nn.Module):
    """A converted decoder, which takes latents in the precision of the autoencoder that it belongs to.

    whole  whether `module` is diffusers' whole autoencoder
    """

    def __init__(self, module: nn.Module, *, whole: bool) -> None:
        super().__init__()
        self.module, self._whole = module, whole

    def forward(self, latents: Tensor) -> Tensor:
        z = latents.to(dtype_of(self.module))
        pixels = cast("AutoencoderKL", self.module).decode(z, return_dict=False)[0] if self._whole else self.module(z)
        return pixels.to(latents.dtype)


def _with_decoder(autoencoder: Autoencoder, decoder: str | None, device: torch.device) -> Autoencoder:
    if decoder is None:
        return autoencoder
    if decoder != FAST:
        return replace(autoencoder, decoder=None)
    assert autoencoder.fast is not None
    return replace(autoencoder, decoder=autoencoder.fast().to(device))


def _to(dtype: torch.dtype) -> Callable[[nn.Module], nn.Module]:
    def convert(module: nn.Module) -> nn.Module:
        changed: dict[Part, Part] = {each: nn.Parameter(each.to(dtype), False) for each in module.parameters()}
        changed |= {each: each.to(dtype) for each in module.buffers() if each.is_floating_point()}
        return rebuilt(module, changed)

    return convert


def _to_int8(module: nn.Module) -> nn.Module:
    """Every weight of a linear or convolutional layer as one of 255 levels, of a size for each of its outputs:
    w = s q with s = max |w| / 127 and whole q from -127 to 127. What is computed with them is float32.
    """
    layers = [each for each in module.modules() if isinstance(each, (nn.Linear, nn.Conv2d))]
    return rebuilt(module, {each.weight: nn.Parameter(_levelled(each.weight), False) for each in layers})


def _levelled(weight: Tensor) -> Tensor:
    size = weight.detach().abs().amax(tuple(range(1, weight.ndim)), keepdim=True).clamp(min=1e-12) / 127
    return (weight.detach() / size).round() * size


_CONVERT: dict[str, Callable[[nn.Module], nn.Module]] = {INT8: _to_int8}
