"""What a run trains, and how: the network, its objective, and the model to sample from while it learns."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from fewstep.core.denoise import Denoise
from fewstep.core.guidance import LearntGuidance, guidance_scale_from_w, w_from_guidance_scale
from fewstep.core.objectives.base import Networks, Objective
from fewstep.core.objectives.ends import AnyEarlierTime, CleanData, Ends, PhaseEnds
from fewstep.core.objectives.fine_tuning import FineTuning
from fewstep.core.objectives.guided import Distillation, Guided
from fewstep.core.objectives.pairs import Pairs
from fewstep.core.profile import Facts
from fewstep.core.samplers import SAMPLERS, few_step_sampler
from fewstep.data.latents import LatentCache
from fewstep.errors import InvalidConfig
from fewstep.files import Json
from fewstep.models.adapters.lora.convert import write_lora
from fewstep.models.conditioning import Conditioning
from fewstep.models.lean.part import twin_of
from fewstep.models.model import Model
from fewstep.models.saving import save
from fewstep.models.student import W_DIM, Unadapted, adapter_layers, add_adapter
from fewstep.train.config import RunConfig
from fewstep.train.processes import Processes
from fewstep.train.sharding import all_whole, whole
from fewstep.train.state import AveragedTarget, trained
from fewstep.train.task import OverCache

LCM_RANGE = (2.0, 14.0)  # of w, where a model that embeds it does not say (LCM, sec. 5.1)


@dataclass(frozen=True, eq=False)
class Training:
    """student    samples with the network as it is now, under the card of what it becomes
    network    the one in training
    objective  with what the config leaves open taken from the model
    networks   whom the objective asks
    base       the folder of the model that it began as
    target     the averaged target, where the objective wants one
    record     what a LoRA's file says of itself
    teacher    as it stays, to sample from; None where there is none, or where it is the same network
    processes  among which the networks are divided, where they are
    """

    config: RunConfig
    student: Model
    network: nn.Module
    objective: Objective
    networks: Networks[Conditioning]
    base: Path | None
    target: AveragedTarget | None
    record: Mapping[str, Json]
    teacher: Model | None = None
    processes: Processes = dataclasses.field(default_factory=Processes)

    @property
    def w_range(self) -> tuple[float, float]:
        """Of the guidance that is trained for, in LCM's form."""
        found = self.objective.w_range if isinstance(self.objective, Guided) else None
        return found or (0.0, 0.0)

    @property
    def keeps_copy(self) -> bool:
        """Whether the network is held a second time, as it was."""
        return self.networks.guidance is not None and self.config.lora is None

    @property
    def parameters(self) -> int:
        return sum(weight.numel() for weight in trained(self.network).values())

    def task(self, cache: LatentCache) -> OverCache:
        """What the loop descends."""
        return OverCache(self.objective, self.networks, cache, self.student.device)

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
            write_lora({self.student.family.denoiser: layers}, spelling, file, self.record)  # type: ignore[arg-type]
        return list(files.values())

    def _export_model(self, target: Path) -> list[Path]:
        shards, is_main = self.processes.shards, self.processes.is_main
        state = all_whole(self.network.state_dict(), keep=is_main) if shards else None
        if not is_main:
            return []
        own = self.student.network
        network = own if state is None else own.holding(own.copy(state))
        save(dataclasses.replace(self.student, network=network), target, self.base, dtype="float16", replaces=True)
        return [target]

    def kohya_file(self, folder: Path) -> Path:
        return folder / f"{self.student.name}.safetensors"


def training_of(config: RunConfig, model: Model, name: str, processes: Processes | None = None) -> Training:
    """Make the network that `config` trains of `model`, which a LoRA changes in place.

    processes  among which the networks are divided, where they are

    Raises `InvalidConfig` where the model is of the wrong kind.
    """
    _check_kind(config, model)
    model = dataclasses.replace(model, network=model.network.holding(twin_of(model.network.module)))
    processes = processes or Processes()
    objective = resolved(config, model)
    _check_guidance(objective, model)
    network = _network(config, objective, model)
    if config.checkpointing:
        network.enable_gradient_checkpointing()
    guidance = None
    if isinstance(objective, FineTuning) and (learnt := learnt_range(model, objective)) is not None:
        guidance = LearntGuidance(_as_it_was(config, model, processes), learnt)
    for each in {id(held): held for held in (model.network.module, network)}.values():
        processes.divide(each)
    student = dataclasses.replace(model, network=model.network.holding(network), origin=model.origin.changed())
    if isinstance(objective, Distillation):
        student = _few_step_student(student, objective)
    student = dataclasses.replace(student, card=dataclasses.replace(student.card, name=name, shared=None, measured={}))
    averaged = isinstance(objective, Pairs) and objective.target == "ema"
    target = AveragedTarget(network, objective.target_decay) if averaged else None  # type: ignore[attr-defined]
    size = config.data.size or model.traits.default_size
    return Training(
        config=config,
        student=student,
        network=network,
        objective=objective,
        networks=Networks(
            student=student.denoise,
            schedule=student.profile.for_size(model.traits.tokens(*size)).schedule,
            target=None if target is None else target.wrap(student.denoise),
            teacher=_teacher(config, model),
            guidance=guidance,
            reads_w=config.method == "distill" and model.profile.guidance.embedded,
        ),
        base=model.origin.folder,
        target=target,
        record=_record(config, student, model),
        teacher=model if config.method == "distill" and config.lora is None else None,
        processes=processes,
    )


def resolved(config: RunConfig, model: Model) -> Objective:
    """The objective, with what the config leaves open taken from the model."""
    objective = config.objective
    if isinstance(objective, FineTuning):
        objective = as_distilled(objective, model)
    if isinstance(objective, Guided) and objective.w_range is None:
        objective = dataclasses.replace(objective, w_range=_own_range(config, model))
    return objective


def _check_guidance(objective: Objective, model: Model) -> None:
    """Raises `InvalidConfig` for what a distillation cannot do with this teacher."""
    if not isinstance(objective, Distillation):
        return
    if model.profile.guidance.embedded and objective.embed_w is False:
        raise InvalidConfig(
            f"{model.name} reads its guidance as an input (it was distilled from guidance itself), and so will its "
            "student: leave embed_w out, or train without guidance (--guidance none)"
        )
    if model.profile.is_flow and objective.gamma > 0:
        raise InvalidConfig(
            f"gamma={objective.gamma:g} is fresh noise in TCD's sampler, and trajectories of a rectified flow are "
            "walked without any (flow_map): leave gamma out"
        )


def _own_range(config: RunConfig, model: Model) -> tuple[float, float]:
    """The guidance that is to be trained for, in LCM's form, by the model's own."""
    guidance = model.profile.guidance
    if config.method == "finetune":
        return guidance.w_range or (LCM_RANGE if guidance.embedded else (0.0, 0.0))
    own = max(w_from_guidance_scale(guidance.scale), 0.0)
    one = config.lora is not None or own == 0.0 or not model.network.takes_w
    return (own, own) if one else (0.0, 2 * guidance.scale)


def learnt_range(model: Model, objective: FineTuning) -> tuple[float, float] | None:
    """The range of w that a consistency model was distilled in, where w is its input, and is to keep its meaning."""
    guidance = model.profile.guidance
    low, high = guidance.w_range or LCM_RANGE
    return (low, high) if guidance.embedded and objective.w_range != (0.0, 0.0) and low < high else None


def as_distilled(objective: FineTuning, model: Model) -> FineTuning:
    """With the grid, phases or trajectories that a consistency model was distilled in: without, it would forget them.

    A model that walks along its own trajectories is asked, where `k` says nothing else, for their ends at once.
    """
    profile, plain = model.profile, FineTuning()
    own = dataclasses.asdict(profile.grid)
    for name, value in own.items():
        given = getattr(objective, name)
        if given not in (getattr(plain, name), value):
            raise InvalidConfig(f"{name}={given}, but {model.name} was made with {value}, which fine-tuning keeps")
    k = objective.k
    if SAMPLERS[profile.sampler].along and k is None:
        if objective.target == "ema":
            raise InvalidConfig(
                f"target='ema' averages answers, and {model.name} is asked for the ends of its trajectories, "
                "which are known: leave target out, or give a k that is shorter than they are"
            )
        k = model.profile.schedule.num_train_timesteps
    return dataclasses.replace(objective, **own, k=k, distilled=_ends_of(model))


def _ends_of(model: Model) -> Ends:
    """Where the steps of a consistency model end."""
    profile = model.profile
    if SAMPLERS[profile.sampler].along and (profile.phases == 1 or profile.gamma > 0):
        return AnyEarlierTime(profile.phases)
    return PhaseEnds(profile.phases) if profile.phases > 1 else CleanData()


def _check_kind(config: RunConfig, model: Model) -> None:
    wanted = "lcm" if config.method == "finetune" else "diffusion"
    if model.profile.kind == wanted:
        return
    if wanted == "lcm":
        raise InvalidConfig(
            f"{model.name} is a diffusion model, and fine-tuning as a consistency model needs one that samples in few "
            "steps already: distil it first (fewstep distill), or train a style on it (fewstep train-lora)"
        )
    raise InvalidConfig(
        f"{model.name} is a consistency model, and this needs a diffusion model (such as starter-teacher): to teach "
        "a consistency model new pictures, use fewstep finetune"
    )


def _network(config: RunConfig, objective: Objective, model: Model) -> Any:
    if config.lora is not None:
        rank = config.lora.rank
        alpha = rank if config.lora.alpha is None else config.lora.alpha
        add_adapter(model.network.module, rank, alpha, config.lora.targets, seed=config.fit.seed)
        return model.network.module
    if not isinstance(objective, Distillation):
        return model.network.module.float().requires_grad_(True)
    low, high = objective.w_range or (0.0, 0.0)
    embeds = low < high if objective.embed_w is None else objective.embed_w
    return model.network.student(W_DIM if embeds else None)


def _teacher(config: RunConfig, model: Model) -> Denoise[Conditioning] | None:
    """The model as it was, of a distillation: with its adapter off, where there is one."""
    if config.method != "distill":
        return None
    return model.denoise if config.lora is None else Unadapted(model.denoise, model.network.module)


def _few_step_student(student: Model, objective: Distillation) -> Model:
    """The model as the consistency model that it becomes."""
    embedded, scale = student.network.embeds_w, student.profile.guidance.scale
    w_range = objective.w_range or (0.0, 0.0)
    middle = min(max(w_from_guidance_scale(scale), w_range[0]), w_range[1])
    own_guidance = 1.0 if w_range != (0.0, 0.0) else scale
    facts: Facts = {
        "steps": objective.num_phases if objective.num_phases > 1 else 4,
        "guidance_scale": guidance_scale_from_w(middle) if embedded else own_guidance,
        "w_range": w_range,
        "sampler": few_step_sampler(student.profile, along=objective.along),
        "gamma": objective.gamma,
        "phases": objective.num_phases,
        "original_inference_steps": objective.original_inference_steps,
        "timestep_scaling": objective.timestep_scaling,
    }
    profile = student.profile.as_few_step(facts, embedded=embedded)
    return dataclasses.replace(student, profile=profile, card=dataclasses.replace(student.card, teacher=student.name))


def _as_it_was(config: RunConfig, model: Model, processes: Processes) -> Denoise[Conditioning]:
    """The model before fine-tuning: with its adapter off, or a frozen copy."""
    if config.lora is not None:
        return Unadapted(model.denoise, model.network.module)
    frozen = copy.deepcopy(model.network.module).requires_grad_(False)
    processes.divide(frozen)
    return dataclasses.replace(model, network=model.network.holding(frozen)).denoise


def _record(config: RunConfig, student: Model, model: Model) -> dict[str, Any]:
    """Of a LoRA: what it makes of its base, how that is sampled, and where it comes from."""
    if config.method == "distill":
        return {"kind": "lcm", "base": model.name, **student.profile.facts()}
    return {"kind": "style", "base": model.name}
