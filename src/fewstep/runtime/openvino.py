"""A model whose U-Net and decoder are run by OpenVINO: the same pictures, in less time on x86 processors."""

from __future__ import annotations

import shutil
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fewstep.errors import CannotWrite, FewstepError, FewstepWarning
from fewstep.files import cache_folder, new_folder
from fewstep.models.bundle import ModelBundle

LARGEST_KEPT = 1 << 30  # bytes of weights: graphs of larger models are traced anew rather than kept on the disk


class CannotAccelerate(FewstepError):
    """This model, or this machine, does without OpenVINO; the message says why."""


def accelerated(model: ModelBundle) -> ModelBundle:
    """`model` with its U-Net and its decoder traced for OpenVINO; everything else, and every picture, stays the same.

    Graphs of models from files are kept in the user's cache folder. They are compiled when they are first called: once
    for the model's own size of pictures, once for all others. Raises `CannotAccelerate`.
    """
    if reason := _obstacle(model):
        raise CannotAccelerate(reason)
    try:
        openvino = _import()
    except ModuleNotFoundError as error:
        raise CannotAccelerate(f"{error.name} is missing: pip install 'fewstep[openvino]'") from error
    unet, decoder = _examples(model)
    folder = _folder(model, openvino.__version__)
    network = Graph(lambda: _UNet(model.unet), unet, folder and folder / "unet")
    decode = Graph(lambda: _Decoder(model.autoencoder), decoder, folder and folder / "decoder")
    return replace(
        model, unet=OpenVinoUNet(model.unet, network), autoencoder=OpenVinoAutoencoder(model.autoencoder, decode)
    )


class Graph:
    """A module as an OpenVINO graph: called with tensors (B, ...) on the CPU, answers with one tensor (B, ...).

    make      makes the module, asked for only where no graph is kept
    examples  inputs to trace it with. Inputs of other sizes are answered too, by a second, slightly slower network
    folder    where the graph is kept between runs; None: nowhere
    """

    def __init__(self, make: Callable[[], nn.Module], examples: Sequence[Tensor], folder: Path | None = None) -> None:
        self._core = _import().Core()
        self._model = _kept(self._core, folder)
        if self._model is None:
            traced = _traced(make(), examples)
            self._model = _kept(self._core, _keep(traced, folder)) or traced  # read back: as it will be the next time
        self._own = [x.shape[1:] for x in examples]

    def __call__(self, *inputs: Tensor) -> Tensor:
        network = self._of_own_size if [x.shape[1:] for x in inputs] == self._own else self._of_any_size
        return torch.from_numpy(network([x.contiguous().numpy() for x in inputs], share_inputs=True)[0])

    @cached_property
    def _of_own_size(self) -> Any:
        return self._compiled([[-1, *shape] for shape in self._own])

    @cached_property
    def _of_any_size(self) -> Any:
        return self._compiled([[-1] * (1 + len(shape)) for shape in self._own])

    def _compiled(self, shapes: list[list[int]]) -> Any:
        self._model.reshape(dict(zip(self._model.inputs, shapes, strict=True)))
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        return self._core.compile_model(self._model, "CPU", settings)


class OpenVinoUNet:
    """Stands in for a `UNet2DConditionModel`, and leaves to it what the graph was not traced for."""

    def __init__(self, unet: Any, graph: Graph) -> None:
        self._unet, self._graph = unet, graph
        self._multiple = 2 ** (len(unet.config.block_out_channels) - 1)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._unet, name)

    def __call__(self, sample: Tensor, timestep: Tensor, *, encoder_hidden_states: Tensor, **others: Any) -> Any:
        extras = _extras(self._unet, others)
        if extras is None or any(side % self._multiple for side in sample.shape[-2:]):
            return self._unet(sample, timestep, encoder_hidden_states=encoder_hidden_states, **others)
        return (self._graph(sample, timestep, encoder_hidden_states, *extras),)


class OpenVinoAutoencoder:
    """Stands in for an autoencoder, which still encodes itself."""

    def __init__(self, autoencoder: Any, graph: Graph) -> None:
        self._autoencoder, self._graph = autoencoder, graph

    def __getattr__(self, name: str) -> Any:
        return getattr(self._autoencoder, name)

    def decode(self, latents: Tensor, *, return_dict: bool = False) -> tuple[Tensor]:
        return (self._graph(latents),)


class _UNet(nn.Module):
    """A U-Net with all of its inputs in a row."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, x_t: Tensor, t: Tensor, states: Tensor, *extras: Tensor) -> Tensor:
        rest = dict(zip(_extra_names(self.unet), extras, strict=True))
        embedded = rest.pop("timestep_cond", None)
        output: Tensor = self.unet(
            x_t, t, states, timestep_cond=embedded, added_cond_kwargs=rest or None, return_dict=False
        )[0]
        return output


class _Decoder(nn.Module):
    def __init__(self, autoencoder: Any) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, latents: Tensor) -> Tensor:
        output: Tensor = self.autoencoder.decode(latents, return_dict=False)[0]
        return output


def _extra_names(unet: Any) -> list[str]:
    """The inputs that only some U-Nets have: w embedded, SDXL's pooled states and sizes."""
    names = ["timestep_cond"] if unet.config.time_cond_proj_dim is not None else []
    return names + (["text_embeds", "time_ids"] if unet.config.addition_embed_type == "text_time" else [])


def _extras(unet: Any, given: dict[str, Any]) -> list[Tensor] | None:
    """Those inputs out of a call's arguments; None where one is missing, or one is given that the graph has not."""
    everything = {**given, **(given.get("added_cond_kwargs") or {})}
    inputs = {name: x for name, x in everything.items() if isinstance(x, Tensor)}
    names = _extra_names(unet)
    return [inputs[name] for name in names] if inputs.keys() == set(names) else None


def _examples(model: ModelBundle) -> tuple[list[Tensor], list[Tensor]]:
    """Two rows of inputs to the U-Net and to the decoder, to trace them with."""
    height, width = model.traits.default_size
    cond = model.framed(model.encode_text(["", ""]), height, width)
    x_t, config = torch.zeros(2, *model.latent_shape(height, width)), model.unet.config
    extras = {
        "timestep_cond": torch.zeros(2, config.time_cond_proj_dim or 0),
        "text_embeds": cond.pooled,
        "time_ids": None if cond.sizes is None else cond.sizes.float(),
    }
    chosen = [x for name in _extra_names(model.unet) if (x := extras[name]) is not None]
    return [x_t, torch.tensor([999, 499]), cond.states.float(), *chosen], [x_t]


def _obstacle(model: ModelBundle) -> str | None:
    """What keeps OpenVINO from running `model`, in words."""
    if model.device.type != "cpu":
        return f"{model.name} is on {model.device}; OpenVINO is used on the CPU"
    if model.dtype != torch.float32:
        return f"{model.name} is loaded in {model.dtype}; OpenVINO is used in float32"
    if model.loras is not None or model.adapters.steering:
        return f"{model.name} has adapters, which change from picture to picture: they need PyTorch"
    return None


def _import() -> Any:
    """OpenVINO without its telemetry, which would tell its makers of every import."""
    if "openvino" not in sys.modules:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


@torch.no_grad()
def _traced(module: nn.Module, examples: Sequence[Tensor]) -> Any:
    """The module as a graph; its weights may be shared with the module."""
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's, of branches on shapes: `OpenVinoUNet` minds them
        decoder = TorchScriptPythonDecoder(module.eval(), example_input=tuple(examples))
    frontend = FrontEndManager().load_by_framework("pytorch")
    return frontend.convert(frontend.load(decoder))


def _folder(model: ModelBundle, version: str) -> Path | None:
    """Where the graphs of `model` are kept; None for one that is in the making, or too large to be kept twice."""
    size = sum(weight.nbytes for part in (model.unet, model.autoencoder) for weight in part.parameters())
    if not model.weight_files or size > LARGEST_KEPT:
        return None
    return cache_folder() / "openvino" / f"{model.hash}-{version.split('-')[0]}"


def _kept(core: Any, folder: Path | None) -> Any:
    """The graph kept in `folder`; None where there is none, or none that can be read."""
    if folder is None or not folder.is_dir():
        return None
    try:
        return core.read_model(folder / "graph.xml")
    except RuntimeError:
        shutil.rmtree(folder, ignore_errors=True)
        return None


def _keep(graph: Any, folder: Path | None) -> Path | None:
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
