"""A model whose network and decoder are run by OpenVINO: the same pictures, in less time on x86 processors."""

from __future__ import annotations

import shutil
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fewstep.errors import CannotWrite, FewstepError, FewstepWarning
from fewstep.files import cache_folder, new_folder
from fewstep.models.autoencoder import Autoencoder
from fewstep.models.families.base import Inputs, Network, NetworkWrapper
from fewstep.models.model import Model

if TYPE_CHECKING:
    import openvino

LARGEST_KEPT = 1 << 30  # bytes of weights: graphs of larger models are traced anew rather than kept on the disk


class CannotAccelerate(FewstepError):
    """This model, or this machine, does without OpenVINO; the message says why."""


def accelerated(model: Model) -> Model:
    """`model` with its network and its decoder traced for OpenVINO; everything else, and every picture, stays the same.

    Graphs of models from files are kept in the user's cache folder. They are compiled when they are first called: once
    for the model's own size of pictures, once for all others. Raises `CannotAccelerate`.
    """
    if reason := _obstacle(model):
        raise CannotAccelerate(reason)
    try:
        version = _import().__version__
    except ModuleNotFoundError as error:
        raise CannotAccelerate(f"{error.name} is missing: pip install 'fewstep[openvino]'") from error
    inputs, latents = _examples(model)
    names, folder = tuple(inputs), _folder(model, version)
    graph = Graph(lambda: _Network(model.network, names), list(inputs.values()), folder and folder / "unet")
    decoder = Graph(lambda: _Decoder(model.autoencoder), [latents], folder and folder / "decoder")
    multiple = model.traits.multiple // model.traits.pixels_per_latent
    network = OpenVinoNetwork(model.network, graph, names, multiple)
    return replace(model, network=network, autoencoder=replace(model.autoencoder, decoder=decoder))


class Graph:
    """A module as an OpenVINO graph: called with tensors (B, ...) on the CPU, answers with one tensor (B, ...).

    make      makes the module, asked for only where no graph is kept
    examples  inputs to trace it with. Inputs of other sizes are answered too, by a second, slightly slower network
    folder    where the graph is kept between runs; None: nowhere
    """

    def __init__(self, make: Callable[[], nn.Module], examples: Sequence[Tensor], folder: Path | None = None) -> None:
        self._core = _import().Core()
        kept = _kept(self._core, folder)
        if kept is None:
            traced = _traced(make(), examples)
            kept = _kept(self._core, _keep(traced, folder)) or traced  # read back: as it will be the next time
        self._model = kept
        self._own = [x.shape[1:] for x in examples]

    def __call__(self, *inputs: Tensor) -> Tensor:
        network = self._of_own_size if [x.shape[1:] for x in inputs] == self._own else self._of_any_size
        return torch.from_numpy(network([x.contiguous().numpy() for x in inputs], share_inputs=True)[0])

    @cached_property
    def _of_own_size(self) -> openvino.CompiledModel:
        return self._compiled([[-1, *shape] for shape in self._own])

    @cached_property
    def _of_any_size(self) -> openvino.CompiledModel:
        return self._compiled([[-1] * (1 + len(shape)) for shape in self._own])

    def _compiled(self, shapes: list[list[int]]) -> openvino.CompiledModel:
        self._model.reshape(dict(zip(self._model.inputs, shapes, strict=True)))
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        return self._core.compile_model(self._model, "CPU", settings)


@dataclass(frozen=True, eq=False)
class OpenVinoNetwork(NetworkWrapper):
    """A network whose graph runs in its place, but for what that was not traced for.

    names     of the inputs of the graph, of which the first is x_t
    multiple  of the sides of x_t
    """

    graph: Graph
    names: tuple[str, ...]
    multiple: int

    def run(self, inputs: Inputs) -> Tensor:
        tensors = [x for x in inputs.values() if isinstance(x, Tensor)]
        if tuple(inputs) != self.names or any(side % self.multiple for side in tensors[0].shape[-2:]):
            return self.inner.run(inputs)
        return self.graph(*tensors)


class _Network(nn.Module):
    """A network with all of its inputs in a row."""

    def __init__(self, network: Network, names: Sequence[str]) -> None:
        super().__init__()
        self.module = network.module
        self._network, self._names = network, names

    def forward(self, *inputs: Tensor) -> Tensor:
        return self._network.run(dict(zip(self._names, inputs, strict=True)))


class _Decoder(nn.Module):
    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.modules_ = nn.ModuleList(autoencoder.modules)
        self._autoencoder = autoencoder

    def forward(self, latents: Tensor) -> Tensor:
        return self._autoencoder.decode_unscaled(latents)


def _examples(model: Model) -> tuple[dict[str, Tensor], Tensor]:
    """Two rows of inputs to the network and to the decoder, to trace them with."""
    height, width = model.traits.default_size
    cond = model.conditioned(model.encode_text(["", ""]), height, width)
    x_t = torch.zeros(2, *model.traits.latent_shape(height, width))
    w = torch.zeros(2) if model.network.embeds_w else None
    inputs = model.network.inputs(x_t, torch.tensor([999, 499]), cond, w)
    return {name: x for name, x in inputs.items() if isinstance(x, Tensor)}, x_t


def _obstacle(model: Model) -> str | None:
    """What keeps OpenVINO from running `model`, in words."""
    if model.device.type != "cpu":
        return f"{model.name} is on {model.device}; OpenVINO is used on the CPU"
    if model.dtype != torch.float32:
        return f"{model.name} is loaded in {model.dtype}; OpenVINO is used in float32"
    if model.adapters.loras is not None or model.steered_by:
        return f"{model.name} has adapters, which change from picture to picture: they need PyTorch"
    return None


def _import() -> ModuleType:
    """OpenVINO without its telemetry, which would tell its makers of every import."""
    if "openvino" not in sys.modules:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


@torch.no_grad()
def _traced(module: nn.Module, examples: Sequence[Tensor]) -> openvino.Model:
    """The module as a graph; its weights may be shared with the module."""
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's, of branches on shapes: `OpenVinoNetwork` minds them
        decoder = TorchScriptPythonDecoder(module.eval(), example_input=tuple(examples))
    frontend = FrontEndManager().load_by_framework("pytorch")
    return frontend.convert(frontend.load(decoder))


def _folder(model: Model, version: str) -> Path | None:
    """Where the graphs of `model` are kept; None for one that is in the making, or too large to be kept twice."""
    parts = (model.network.module, *model.autoencoder.modules)
    size = sum(weight.nbytes for part in parts for weight in part.parameters())
    if not model.origin.weight_files or size > LARGEST_KEPT:
        return None
    return cache_folder() / "openvino" / f"{model.origin.hash}-{version.split('-')[0]}"


def _kept(core: openvino.Core, folder: Path | None) -> openvino.Model | None:
    """The graph kept in `folder`; None where there is none, or none that can be read."""
    if folder is None or not folder.is_dir():
        return None
    try:
        return core.read_model(folder / "graph.xml")
    except RuntimeError:
        shutil.rmtree(folder, ignore_errors=True)
        return None


def _keep(graph: openvino.Model, folder: Path | None) -> Path | None:
    """Write the graph into `folder` and return it. Best effort: where that fails, the next run traces anew."""
    if folder is None:
        return None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with new_folder(folder) as partial:
            _import().save_model(graph, partial / "graph.xml", compress_to_fp16=False)
    except (OSError, CannotWrite) as error:
        warnings.warn(f"the OpenVINO graph is not kept: {error}", FewstepWarning, stacklevel=2)
    return folder
