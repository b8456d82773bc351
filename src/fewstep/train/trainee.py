"""What a run trains: the network, what it is asked, and the model to sample from while it learns."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from fewstep.core.consistency import ConsistencyFunction, Scalings, boundary_scalings, hard_scalings
from fewstep.core.denoise import Denoise
from fewstep.core.guidance import LearntGuidance, guidance_scale_from_w, w_from_guidance_scale
from fewstep.core.profile import Facts
from fewstep.data.latents import LatentCache
from fewstep.errors import InvalidConfig
from fewstep.models.adapters.lora.convert import write_lora
from fewstep.models.bundle import ModelBundle
from fewstep.models.network import UNetNetwork
from fewstep.models.saving import save
from fewstep.models.student import W_DIM, Unadapted, adapter_layers, add_adapter, copy_with, student_of
from fewstep.train.config import ConsistencyConfig, RunConfig
from fewstep.train.loop import Objective
from fewstep.train.objectives import Diffusion, Distillation, FineTuning
from fewstep.train.paths import PathDistillation
from fewstep.train.processes import Processes
from fewstep.train.sharding import all_whole, whole
from fewstep.train.state import AveragedTarget, trained

LCM_RANGE = (2.0, 14.0)  # of w, where a model that embeds it does not say (LCM, sec. 5.1)


@dataclass(frozen=True, eq=False)
class Trainee:
    """bundle     samples with the network as it is now
    network    the U-Net in training
    objective  makes the objective, once the data is there
    record     what a LoRA's file says of itself
    teacher    as it stays, to sample from; None where there is none, or where it is the same network
    obeyed     the w that fine-tuning keeps the meaning of; None where nothing obeys it
    processes  among which the networks are divided, where they are
    """

    config: RunConfig
    bundle: ModelBundle
    network: nn.Module
    base: Path | None
    w_range: tuple[float, float]
    objective: Callable[[LatentCache], Objective]
    target: AveragedTarget | None
    record: Mapping[str, Any]
    teacher: ModelBundle | None = None
    obeyed: tuple[float, float] | None = None
    processes: Processes = dataclasses.field(default_factory=Processes)

    @property
    def keeps_copy(self) -> bool:
        """Whether the network is held a second time, as it was."""
        return self.obeyed is not None and self.config.lora is None

    @property
    def parameters(self) -> int:
        return sum(weight.numel() for weight in trained(self.network).values())

    def export(self, folder: Path) -> list[Path]:
        """Write the result, as it is now: a model folder, or a LoRA in diffusers' and in kohya's spelling.

        Of a divided network all processes give their parts, and the main one writes.
        """
        if self.config.lora is None:
            return self._export_model(folder / "model")
        layers = {name: dataclasses.replace(layer, down=layer.down.half(), up=layer.up.half())
                  for name, layer in adapter_layers(self.network, whole).items()}  # fmt: skip
        if not self.processes.is_main:
            return []
        files = {"diffusers": folder / "pytorch_lora_weights.safetensors", "kohya": self.kohya_file(folder)}
        for spelling, file in files.items():
            write_lora({"unet": layers}, spelling, file, self.record)  # type: ignore[arg-type]
        return list(files.values())

    def _export_model(self, target: Path) -> list[Path]:
        shards, is_main = self.processes.shards, self.processes.is_main
        state = all_whole(self.network.state_dict(), keep=is_main) if shards else None
        if not is_main:
            return []
        unet = self.network if state is None else copy_with(self.network, state)
        save(dataclasses.replace(self.bundle, unet=unet), target, self.base, dtype="float16", replaces=True)
        return [target]

    def kohya_file(self, folder: Path) -> Path:
        return folder / f"{self.bundle.name}.safetensors"


def trainee_of(config: RunConfig, model: ModelBundle, name: str, processes: Processes | None = None) -> Trainee:
    """Make the network that `config` trains of `model`, which a LoRA changes in place.

    processes  among which the networks are divided, where they are

    Raises `InvalidConfig` where the model is of the wrong kind.
    """
    _check_kind(config, model)
    processes = processes or Processes()
    if config.method == "finetune":
        config = dataclasses.replace(config, consistency=as_it_walks(config.consistency, model))
    w_range = w_range_of(config, model)
    unet = _network(config, model, w_range)
    if config.checkpointing:
        unet.enable_gradient_checkpointing()
    obeyed = obeyed_w(model, w_range) if config.method == "finetune" else None
    guidance = None if obeyed is None else LearntGuidance(_as_it_was(config, model, processes), obeyed)
    for network in {id(each): each for each in (model.unet, unet)}.values():
        processes.divide(network)
    consistency = config.consistency
    bundle = dataclasses.replace(model, unet=unet, folder=None, reference=None, weight_files=())
    if config.method == "distill":
        bundle = _few_step_student(bundle, consistency, w_range)
    bundle = dataclasses.replace(bundle, card=dataclasses.replace(bundle.card, name=name, shared=None, measured={}))
    target = AveragedTarget(unet, consistency.target_decay) if consistency.target == "ema" else None
    return Trainee(
        config=config,
        bundle=bundle,
        network=unet,
        base=model.folder,
        w_range=w_range,
        objective=partial(_objective, config, bundle, model, target, w_range, guidance),
        target=None if config.method == "style" else target,
        record=_record(config, bundle, model),
        teacher=model if config.method == "distill" and config.lora is None else None,
        obeyed=obeyed,
        processes=processes,
    )


def w_range_of(config: RunConfig, model: ModelBundle) -> tuple[float, float]:
    """The guidance that is trained for, in LCM's form; what the config leaves open is the model's own."""
    given, guidance = config.consistency.w_range, model.profile.guidance
    if given is not None:
        return given
    if config.method == "finetune":
        return guidance.w_range or (LCM_RANGE if guidance.embedded else (0.0, 0.0))
    own = max(w_from_guidance_scale(guidance.scale), 0.0)
    return (own, own) if config.lora is not None else (0.0, 2 * guidance.scale)


def obeyed_w(model: ModelBundle, w_range: tuple[float, float]) -> tuple[float, float] | None:
    """The range of w that a consistency model was trained in, where it is told w, and is to go on obeying it."""
    guidance = model.profile.guidance
    low, high = guidance.w_range or LCM_RANGE
    return (low, high) if guidance.embedded and w_range != (0.0, 0.0) and low < high else None


def as_it_walks(config: ConsistencyConfig, model: ModelBundle) -> ConsistencyConfig:
    """With the grid, phases or trajectories that a consistency model was distilled in: without, it would forget them.

    A model that walks along its own trajectories is asked, where `k` says nothing else, for their ends at once.
    """
    profile, plain = model.profile, ConsistencyConfig()
    own: dict[str, Any] = {
        **dataclasses.asdict(profile.grid),
        "phases": profile.phases,
        "trajectory": profile.sampler == "tcd" and (profile.phases == 1 or profile.gamma > 0),
    }
    for name, value in own.items():
        given = getattr(config, name)
        if given not in (getattr(plain, name), value):
            raise InvalidConfig(f"{name}={given}, but {model.name} was made with {value}, which fine-tuning keeps")
    if profile.sampler == "tcd" and config.k is None:
        if config.target == "ema":
            raise InvalidConfig(
                f"target='ema' averages answers, and {model.name} is asked for the ends of its trajectories, "
                "which are known: leave target out, or give a k that is shorter than they are"
            )
        own["k"] = model.schedule.num_train_timesteps
    return dataclasses.replace(config, **own)


def _check_kind(config: RunConfig, model: ModelBundle) -> None:
    wanted = "lcm" if config.method == "finetune" else "diffusion"
    if model.kind == wanted:
        return
    if wanted == "lcm":
        raise InvalidConfig(
            f"{model.name} is a diffusion model, and fine-tuning as a consistency model needs one that paints in few "
            "steps already: distil it first (fewstep distill), or train a style on it (fewstep train-lora)"
        )
    raise InvalidConfig(
        f"{model.name} is a consistency model, and this needs a diffusion model (such as starter-teacher): to teach "
        "a consistency model new pictures, use fewstep finetune"
    )


def _network(config: RunConfig, model: ModelBundle, w_range: tuple[float, float]) -> Any:
    if config.lora is not None:
        rank = config.lora.rank
        alpha = rank if config.lora.alpha is None else config.lora.alpha
        add_adapter(model.unet, rank, alpha, config.lora.targets, seed=config.fit.seed)
        return model.unet
    if config.method == "finetune":
        return model.unet.float().requires_grad_(True)
    embeds = config.consistency.embed_w
    return student_of(model.unet, W_DIM if (w_range[0] < w_range[1] if embeds is None else embeds) else None)


def _few_step_student(bundle: ModelBundle, config: ConsistencyConfig, w_range: tuple[float, float]) -> ModelBundle:
    """The bundle as the consistency model that it becomes."""
    embedded, scale = UNetNetwork(bundle.unet).embeds_w, bundle.profile.guidance.scale
    middle = min(max(w_from_guidance_scale(scale), w_range[0]), w_range[1])
    own_guidance = 1.0 if w_range != (0.0, 0.0) else scale
    facts: Facts = {
        "steps": config.phases if config.phases > 1 else 4,
        "guidance_scale": guidance_scale_from_w(middle) if embedded else own_guidance,
        "w_range": w_range,
        "sampler": config.sampler,
        "gamma": config.gamma,
        "phases": config.phases,
        "original_inference_steps": config.original_inference_steps,
        "timestep_scaling": config.timestep_scaling,
    }
    profile = bundle.profile.as_few_step(facts, embedded=embedded)
    return dataclasses.replace(bundle, profile=profile, card=dataclasses.replace(bundle.card, teacher=bundle.name))


def _objective(
    config: RunConfig,
    bundle: ModelBundle,
    model: ModelBundle,
    target: AveragedTarget | None,
    w_range: tuple[float, float],
    guidance: LearntGuidance | None,
    cache: LatentCache,
) -> Objective:
    algorithm = config.consistency
    if config.method == "style":
        return Diffusion(bundle.denoise, cache, empty=algorithm.empty, device=bundle.device)
    f = ConsistencyFunction(bundle.denoise, _scalings(algorithm))
    f_target = None if target is None else ConsistencyFunction(target.wrap(bundle.denoise), f.scalings)
    common: dict[str, Any] = {
        "w_range": w_range,
        "metric": algorithm.metric,
        "original_inference_steps": algorithm.original_inference_steps,
        "empty": algorithm.empty,
        "phases": algorithm.phases,
        "device": bundle.device,
    }
    learnt: dict[str, Any] = {
        "k": algorithm.k,
        "trajectory": algorithm.trajectory,
        "ends": algorithm.ends,
        "f_target": f_target,
    }
    if config.method == "finetune":
        return FineTuning(f, bundle.schedule, cache, guidance=guidance, **common, **learnt)
    teacher = model.denoise if config.lora is None else Unadapted(model.denoise, model.unet)
    common |= {"solver": algorithm.solver, "substeps": algorithm.substeps}
    if algorithm.target == "path":
        return PathDistillation(f, teacher, cache, **common)
    return Distillation(f, teacher, cache, **common, **learnt)


def _as_it_was(config: RunConfig, model: ModelBundle, processes: Processes) -> Denoise:
    """The model before fine-tuning: with its adapter off, or a frozen copy."""
    if config.lora is not None:
        return Unadapted(model.denoise, model.unet)
    frozen = copy.deepcopy(model.unet).requires_grad_(False)
    processes.divide(frozen)
    return dataclasses.replace(model, unet=frozen).denoise


def _scalings(config: ConsistencyConfig) -> Scalings:
    return (
        hard_scalings
        if config.boundary == "hard"
        else partial(boundary_scalings, timestep_scaling=config.timestep_scaling)
    )


def _record(config: RunConfig, bundle: ModelBundle, model: ModelBundle) -> dict[str, Any]:
    """Of a LoRA: what it makes of its base, how that is sampled, and where it comes from."""
    if config.method == "distill":
        return {"kind": "lcm", "base": model.name, **bundle.profile.facts()}
    return {"kind": "style", "base": model.name}
