"""Distillation on a rectified flow: what is learnt, what samples it, and what diffusers does with the result."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from PIL import Image

import fewstep
from fewstep.core.denoise import Denoiser
from fewstep.core.objectives.base import Batch, Draw
from fewstep.core.objectives.consistency import Consistency
from fewstep.core.objectives.ends import AnyEarlierTime, CleanData, PhaseEnds
from fewstep.core.objectives.fine_tuning import FineTuning
from fewstep.core.objectives.guided import Distillation
from fewstep.core.objectives.phases import Phases
from fewstep.core.objectives.trajectory import Trajectory
from fewstep.core.samplers import SAMPLERS
from fewstep.errors import InvalidConfig
from fewstep.models.model import Model
from fewstep.train.config import RunConfig, WatchConfig
from fewstep.train.defaults import changed, default_config
from fewstep.train.method import as_distilled, resolved, training_of
from fewstep.train.run import train
from miniature import write_miniature

WATCH = WatchConfig(prompts=("a red fox",), steps=(1,), every=4)


@pytest.fixture(autouse=True)
def short_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fewstep.train.measures.PATH_STEPS", 2)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for index, colour in enumerate(("red", "blue", "green", "white")):
        Image.new("RGB", (130, 130), colour).save(folder / f"a_{colour}_cat_{index}.png")
    return folder


def write_flow(home: Path, **shift: Any) -> Path:
    """The miniature's teacher as a rectified flow."""
    teacher = write_miniature(home) / "teacher"
    FlowMatchEulerDiscreteScheduler(**shift).save_pretrained(teacher / "scheduler")
    index = json.loads((teacher / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", "FlowMatchEulerDiscreteScheduler"]
    (teacher / "model_index.json").write_text(json.dumps(index))
    card = json.loads((teacher / "fewstep.json").read_text())
    (teacher / "fewstep.json").write_text(json.dumps(card | {"prediction_type": "flow_prediction"}))
    return teacher


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_flow(tmp_path_factory.mktemp("models") / "flow", shift=3.0)


def config(model: Path, pictures: Path, objective: Any, *, lora: bool = False, method: Any = "distill") -> RunConfig:
    settings = default_config(method, str(model), str(pictures), lora=lora)
    short = {"fit.pictures": 4, "fit.batch_size": 2, "fit.warmup": 1, "device": "cpu", "watch": WATCH}
    return changed(settings, short | {"objective": objective} | ({"lora.rank": 4} if lora else {}))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("objective", "sampler", "scheduler", "ends"),
    [
        (Trajectory(), "flow_map", "FlowMapEulerDiscreteScheduler", AnyEarlierTime()),
        (Phases(phases=2), "flow_map", "FlowMapEulerDiscreteScheduler", PhaseEnds(2)),
        (Consistency(), "flow_lcm", "FlowMatchLCMScheduler", CleanData()),
    ],
)
def test_a_student_s_folder_walks_in_diffusers_as_here(
    tmp_path: Path, flow: Path, pictures: Path, objective: Distillation, sampler: str, scheduler: str, ends: Any
) -> None:
    """diffusers' own U-Net and scheduler from the folder, in the loop that its pipelines write."""
    (folder,) = train(config(flow, pictures, objective), tmp_path / "run").files
    model = fewstep.load(folder, device="cpu")
    assert (model.profile.sampler, model.profile.phases) == (sampler, objective.num_phases)
    assert as_distilled(FineTuning(w_range=(0.0, 0.0)), model).distilled == ends
    pipe: Any = DiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    assert type(pipe.scheduler).__name__ == scheduler
    cond = model.encode_text(["a red fox"])
    x_t = torch.randn(1, *model.traits.latent_shape(128, 128), generator=torch.Generator().manual_seed(0))
    generators = [torch.Generator().manual_seed(1) for _ in range(2)]
    times = SAMPLERS[sampler].times(model.profile, 4)
    path = SAMPLERS[sampler].walk(
        model.denoise, model.profile, x_t, times, cond, 2.0, lambda _: torch.randn(x_t.shape, generator=generators[0])
    )
    pipe.scheduler.set_timesteps(4)
    embedding = pipe.get_guidance_scale_embedding(torch.tensor([2.0]), pipe.unet.config.time_cond_proj_dim)
    with torch.no_grad():
        *_, ours = path
        for t in pipe.scheduler.timesteps:
            asked = {"encoder_hidden_states": cond.states, "timestep_cond": embedding}
            output = pipe.unet(x_t, t, **asked, return_dict=False)[0]
            drawn = {"generator": generators[1]} if sampler == "flow_lcm" else {}
            x_t = pipe.scheduler.step(output, t, x_t, **drawn).prev_sample.float()
    torch.testing.assert_close(ours.x_t, x_t, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_an_lcm_lora_and_fine_tuning_keep_to_the_flow(tmp_path: Path, flow: Path, pictures: Path) -> None:
    file, *_ = train(config(flow, pictures, Consistency(), lora=True), tmp_path / "lora").files
    model = fewstep.load(flow, device="cpu", loras=[file])
    assert (model.profile.kind, model.profile.sampler) == ("lcm", "flow_lcm")
    (student,) = train(config(flow, pictures, Consistency(w_range=(0.0, 0.0))), tmp_path / "whole").files
    (tuned,) = train(config(student, pictures, FineTuning(), method="finetune"), tmp_path / "tuned").files
    profile = fewstep.load(tuned, device="cpu").profile
    assert (profile.is_flow, profile.sampler) == (True, "flow_lcm")
    assert profile.schedule.to_config() == model.profile.schedule.to_config()


def drawn_times(training: Any) -> torch.Tensor:
    class Nothing:
        def draw_noise(self, rows: Any, generator: Any) -> Any:
            return torch.zeros(len(rows), 1)

        def draw_captions(self, rows: Any, generator: Any, empty: float) -> Any:
            return rows

    objective, schedule = training.objective, training.networks.schedule
    drawn: Draw = objective.draw(torch.arange(500), Nothing(), schedule, torch.Generator().manual_seed(0))
    times: torch.Tensor = objective.times(drawn, schedule).t
    return times


@pytest.mark.slow
def test_times_to_train_at_lie_where_the_shift_for_that_size_puts_them(tmp_path: Path, pictures: Path) -> None:
    """At 128 pixels there are 16 x 16 tokens: half of the way lies above sigma = e^mu / (1 + e^mu)."""
    folder = write_flow(tmp_path / "sized", use_dynamic_shifting=True)
    model = fewstep.load(folder, device="cpu")
    training = training_of(config(folder, pictures, Consistency()), model, "student")
    tokens = model.traits.tokens(128, 128)
    mu = 0.5 + (1.15 - 0.5) / (4096 - 256) * (tokens - 256)
    middle = 1000 / (1 + torch.tensor(-mu).exp())
    assert float(drawn_times(training).median()) == pytest.approx(float(middle), rel=0.05)


def embedded(flow: Path) -> Model:
    """A diffusion model with guidance as an input, as FLUX.1-dev has it."""
    model = fewstep.load(flow, device="cpu")
    reader = model.network.holding(model.network.student(32).requires_grad_(False))
    guidance = dataclasses.replace(model.profile.guidance, embedded=True)
    return dataclasses.replace(model, network=reader, profile=dataclasses.replace(model.profile, guidance=guidance))


def test_a_teacher_with_guidance_as_an_input_is_asked_for_it(flow: Path, pictures: Path) -> None:
    """Once, with the w that was drawn, and never for the empty prompt; its student reads w as it does."""
    model = embedded(flow)
    training = training_of(config(flow, pictures, Consistency(w_range=(1.0, 3.0))), model, "student")
    assert training.student.profile.guidance.embedded
    asked: list[Any] = []

    def teacher(x_t: Any, t: Any, cond: Any, w: Any = None) -> Any:
        asked.append((cond, w))
        return x_t

    networks = dataclasses.replace(training.networks, teacher=teacher)  # type: ignore[arg-type]
    w = torch.tensor([1.0, 2.5])
    batch: Any = Batch(torch.zeros(2, 1), torch.zeros(2, 1), torch.tensor([5, 9]), "words", w=w)  # type: ignore[arg-type]
    networks.guided(batch)(torch.zeros(2, 1), 500.0, batch.cond, None)
    assert asked == [("words", w)]
    assert isinstance(training.networks.student, Denoiser)


@pytest.mark.slow
def test_what_a_flow_or_its_teacher_cannot_is_said_in_words(flow: Path, pictures: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"reads its guidance as an input.*leave embed_w out, or train without"):
        training_of(config(flow, pictures, Consistency(embed_w=False)), embedded(flow), "student")
    with pytest.raises(InvalidConfig, match=r"gamma=0\.3 is fresh noise in TCD's sampler"):
        training_of(config(flow, pictures, Trajectory(gamma=0.3)), fewstep.load(flow, device="cpu"), "student")


def test_a_teacher_that_follows_no_guidance_is_learnt_without(flow: Path, pictures: Path) -> None:
    """Guidance scale 1 in its card: FLUX.1-schnell, Z-Image-Turbo."""
    model = fewstep.load(flow, device="cpu")
    alone = dataclasses.replace(model.profile, guidance=dataclasses.replace(model.profile.guidance, scale=1.0))
    objective = resolved(config(flow, pictures, Consistency()), dataclasses.replace(model, profile=alone))
    assert isinstance(objective, Consistency)
    assert objective.w_range == (0.0, 0.0)
