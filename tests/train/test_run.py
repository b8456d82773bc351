"""Whole runs on miniature models: they learn, stop, go on, and what they write loads in fewstep and in diffusers."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import fewstep
from fewstep.core.objectives.consistency import Consistency
from fewstep.core.objectives.ends import AnyEarlierTime, CleanData, PhaseEnds
from fewstep.core.objectives.fine_tuning import FineTuning
from fewstep.core.objectives.guided import Distillation
from fewstep.core.objectives.phases import Phases
from fewstep.core.objectives.trajectory import Trajectory
from fewstep.data.building import build_cache
from fewstep.data.config import DataConfig
from fewstep.errors import CannotWrite, FewstepWarning, InUse, InvalidConfig
from fewstep.models.adapters.lora.file import LoraFile
from fewstep.models.model import Model
from fewstep.train.config import LoraConfig, RunConfig, WatchConfig
from fewstep.train.defaults import changed, default_config
from fewstep.train.measures import TeacherGap
from fewstep.train.method import training_of
from fewstep.train.run import Hooks, train
from miniature import write_miniature_sd1, write_miniature_sdxl

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:.*is deprecated")

WATCH = WatchConfig(prompts=("a red fox",), steps=(1,), every=4)


@pytest.fixture(autouse=True)
def short_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    """The teacher's paths are measured against; two steps are enough for random weights."""
    monkeypatch.setattr("fewstep.train.measures.PATH_STEPS", 2)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "pictures"
    folder.mkdir()
    for index, colour in enumerate(("red", "blue", "green", "white", "black", "gray")):
        Image.new("RGB", (140, 130), colour).save(folder / f"a_{colour}_cat_{index}.png")
    return folder


@pytest.fixture(scope="module")
def sd1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_miniature_sd1(tmp_path_factory.mktemp("models") / "sd1", layers_per_block=1)


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "sdxl"
    return write_miniature_sdxl(folder, layers_per_block=1, transformers=(1, 1, 2))


def config(
    method: Any, model: Path, pictures: Path, *, lora: bool, target: str | None = None, **values: Any
) -> RunConfig:
    short = {"fit.pictures": 4, "fit.batch_size": 2, "fit.lr": 1e-3, "fit.warmup": 1, "device": "cpu", "watch": WATCH}
    settings = default_config(method, str(model), str(pictures), lora=lora, target=target)
    return changed(settings, short | ({"lora.rank": 4} if lora else {}) | values)


def test_a_distilled_model_is_a_folder_that_reads_back_what_it_was_made_for(
    tmp_path: Path, miniature: Path, pictures: Path
) -> None:
    times = {"original_inference_steps": 25, "timestep_scaling": 8.0, "k": 80, "substeps": 2}
    objective = Consistency(w_range=(1.0, 5.0), **times)  # type: ignore[arg-type]
    asked = config("distill", miniature / "teacher", pictures, lora=False, objective=objective)
    outcome = train(asked, tmp_path / "run")
    assert outcome.files == (tmp_path / "run" / "model",)
    model = fewstep.load(outcome.files[0], device="cpu")
    assert (model.profile.kind, model.profile.sampler, model.profile.guidance.w_range) == ("lcm", "lcm", (1.0, 5.0))
    assert (model.profile.grid.original_inference_steps, model.profile.grid.timestep_scaling) == (25, 8.0)
    assert model.profile.prediction.name == "v_prediction"
    assert model.profile.guidance.embedded
    assert model.card.measured["teacher_gap"] > 0
    assert fewstep.text2image(model, "a red fox", steps=3, seed=0).size == (128, 128)
    pipe: Any = diffusers.DiffusionPipeline.from_pretrained(outcome.files[0], torch_dtype=torch.float32)
    assert isinstance(pipe, diffusers.LatentConsistencyModelPipeline)
    assert pipe.scheduler.config.original_inference_steps == 25
    pipe.set_progress_bar_config(disable=True)
    assert pipe("a red fox", num_inference_steps=2, guidance_scale=3.0).images[0].size == (128, 128)


def test_the_run_s_folder_tells_everything(tmp_path: Path, miniature: Path, pictures: Path) -> None:
    run = tmp_path / "run"
    watch = WatchConfig(prompts=("a red fox", "a blue cat", "a dog"), steps=(1, 2), every=4)
    train(config("distill", miniature / "teacher", pictures, lora=True, watch=watch), run)
    about = json.loads((run / "run.json").read_text())
    assert about["fewstep"] == fewstep.__version__
    assert {"torch", "diffusers"} <= set(about["packages"])
    assert json.loads((run / "config.json").read_text())["lora"]["rank"] == 4
    assert json.loads((run / "data.json").read_text())["pictures"] == 6
    measured = [json.loads(line) for line in (run / "measures.jsonl").read_text().splitlines()]
    assert [row["seen"] for row in measured] == [0, 4]
    with Image.open(run / "sheets" / "00000004.png") as sheet:
        assert sheet.size == (3 * 128 + 2 * 4, 2 * 128 + 4)
    report = (run / "report.html").read_text()
    assert "data:image/webp;base64," in report
    assert "teacher_gap" in report
    assert "http://" not in report.replace("http://www.w3.org", "")


@pytest.mark.parametrize(("gaps", "told"), [((0.7, 1.3), True), ((0.7, 0.9), False), ((1.4, 1.3), False)])
def test_a_student_that_falls_apart_is_told(
    tmp_path: Path,
    miniature: Path,
    pictures: Path,
    monkeypatch: pytest.MonkeyPatch,
    gaps: tuple[float, float],
    told: bool,
) -> None:
    rest = list(gaps)
    monkeypatch.setattr(TeacherGap, "__call__", lambda self, model: {self.name: rest.pop(0)})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", FewstepWarning)
        train(config("distill", miniature / "teacher", pictures, lora=True), tmp_path / "run")
    assert any("fell apart" in str(warning.message) for warning in caught) == told


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_a_precision_learns_from_the_same_cache_what_float32_learns(
    tmp_path: Path, miniature: Path, pictures: Path, precision: str
) -> None:
    teacher, data = miniature / "teacher", tmp_path / "cache"
    build_cache(fewstep.load(teacher, device="cpu"), DataConfig(source=str(pictures)), data)
    steps: dict[str, list[dict[str, float]]] = {"float32": [], precision: []}
    for each, told in steps.items():
        hooks = Hooks(step=lambda seen, scalars, told=told: told.append(scalars))  # type: ignore[misc]
        train(config("distill", teacher, data, lora=True, **{"fit.precision": each}), tmp_path / each, hooks=hooks)
    for name in ("loss", "grad_norm"):
        assert [step[name] for step in steps[precision]] == pytest.approx(
            [step[name] for step in steps["float32"]], 0.05
        )


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "target"), [("sdxl", "student"), ("sd1", "path")])
def test_aspect_buckets_are_trained_on_and_a_stopped_run_goes_on_with_them(
    tmp_path: Path, request: pytest.FixtureRequest, kind: str, target: str
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for index, shape in enumerate(((200, 100), (180, 90), (100, 210), (90, 90))):
        Image.new("RGB", shape, "red").save(pictures / f"a_cat_{index}.png")
    values: dict[str, Any] = {"data.buckets": True, "fit.pictures": 4, "fit.accumulate": 2}
    values |= {"objective.phases": 2, "objective.substeps": 2} if target == "path" else {}
    asked = config("distill", request.getfixturevalue(kind), pictures, lora=True, target=target, **values)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(asked, whole)
    shapes = json.loads((whole / "data.json").read_text())["shapes"]
    assert sorted(shapes.values()) == [1, 1, 2]
    train(changed(asked, {"fit.pictures": 2}), parts)
    train(asked, parts)
    one, two = (load_file(run / "checkpoint.safetensors") for run in (whole, parts))
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())


def test_the_gap_to_the_teacher_is_measured_of_one_caption_too(tmp_path: Path, miniature: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for index in range(3):
        Image.new("RGB", (128, 128), "red").save(pictures / f"a_cat_{index}.png")
    train(config("distill", miniature / "teacher", pictures, lora=True), tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "measures.jsonl").read_text().splitlines()]
    assert all(0 < row["teacher_gap"] < 10 for row in rows)


@pytest.mark.slow
def test_a_student_and_a_lora_begin_as_their_teacher(tmp_path: Path, sd1: Path, pictures: Path) -> None:
    """With a rate of nearly nothing the result paints the teacher's own pictures."""
    teacher = fewstep.load(sd1, device="cpu")
    x = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    expected = teacher.denoise(x, 499, teacher.encode_text(["a red fox"])).detach()
    for lora in (False, True):
        asked = config("distill", sd1, pictures, lora=lora, **{"fit.lr": 1e-12})
        file, *_ = train(asked, tmp_path / f"run-{lora}").files
        student = fewstep.load(sd1, device="cpu", loras=[file]) if lora else fewstep.load(file, device="cpu")
        assert student.profile.kind == "lcm"
        w = torch.tensor([3.0]) if student.profile.guidance.embedded else None
        found = student.denoise(x, 499, student.encode_text(["a red fox"]), w).detach()
        torch.testing.assert_close(found, expected, atol=2e-3, rtol=2e-3)  # it was saved in float16


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:an LCM-LoRA on SDXL")
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_an_lcm_lora_loads_in_diffusers_and_in_both_spellings_paints_the_same(
    tmp_path: Path, family: str, request: pytest.FixtureRequest, pictures: Path
) -> None:
    base: Path = request.getfixturevalue(family)
    outcome = train(config("distill", base, pictures, lora=True, **{"fit.lr": 0.05}), tmp_path / "run")
    ours, kohya = outcome.files
    assert [LoraFile.read(file).spelling for file in outcome.files] == ["diffusers", "kohya"]
    images = [
        fewstep.text2image(fewstep.load(base, device="cpu", loras=[file]), "a red fox", seed=1, steps=2)
        for file in (ours, kohya)
    ]
    assert images[0].tobytes() == images[1].tobytes()
    without = fewstep.load(base, device="cpu")
    plain = fewstep.text2image(without, "a red fox", seed=1, steps=2, sampler="lcm", guidance_scale=1)
    assert plain.tobytes() != images[0].tobytes()
    pipe: Any = diffusers.DiffusionPipeline.from_pretrained(base)
    pipe.load_lora_weights(tmp_path / "run")
    loaded = pipe.unet.state_dict()
    name = next(name for name in loaded if name.endswith("lora_B.default_0.weight"))
    assert float(loaded[name].abs().max()) > 0
    pipe.scheduler = diffusers.LCMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    assert pipe("a red fox", num_inference_steps=2, guidance_scale=1.0, height=128, width=128).images


@pytest.mark.slow
@pytest.mark.parametrize(
    ("objective", "sampler", "gamma"),
    [
        (Trajectory(), "tcd", 0.0),
        (Trajectory(gamma=0.3), "tcd", 0.3),
        (Phases(phases=2), "tcd", 0.0),
        (Phases(phases=2, gamma=0.1), "tcd", 0.1),
    ],
)
def test_phases_and_trajectories_travel_with_the_weights(
    tmp_path: Path, miniature: Path, pictures: Path, objective: Distillation, sampler: str, gamma: float
) -> None:
    lora = isinstance(objective, Phases)
    asked = config("distill", miniature / "teacher", pictures, lora=lora, objective=objective)
    file, *_ = train(asked, tmp_path / "run").files
    model = (
        fewstep.load(miniature / "teacher", device="cpu", loras=[file]) if lora else fewstep.load(file, device="cpu")
    )
    profile = model.profile
    assert (profile.sampler, profile.gamma, profile.phases) == (sampler, gamma, objective.num_phases)
    image = fewstep.text2image(model, "a red fox", seed=0)
    assert json.loads(image.info["fewstep"])["sampler"] == "tcd"
    if not lora:
        pipe: Any = diffusers.DiffusionPipeline.from_pretrained(file, torch_dtype=torch.float32)
        assert isinstance(pipe.scheduler, diffusers.TCDScheduler)
        pipe.set_progress_bar_config(disable=True)
        asked_of = {"num_inference_steps": 3, "guidance_scale": 3.0, "eta": gamma}
        theirs = pipe("a red fox", **asked_of, generator=torch.Generator().manual_seed(0)).images[0]
        ours = fewstep.text2image(model, "a red fox", seed=0, steps=3, guidance_scale=3.0)
        assert np.abs(np.asarray(theirs, int) - np.asarray(ours, int)).max() <= 1


def test_what_is_written_names_no_folder_of_whoever_made_it(tmp_path: Path, miniature: Path, pictures: Path) -> None:
    file, *_ = train(config("distill", miniature / "teacher", pictures, lora=False), tmp_path / "run").files
    assert not [path for path in file.rglob("*.json") if str(miniature) in path.read_text()]


@pytest.mark.parametrize("lora", [False, True])
def test_fine_tuning_needs_no_teacher_and_stays_a_model_of_few_steps(
    tmp_path: Path, miniature: Path, pictures: Path, lora: bool
) -> None:
    asked = config("finetune", miniature, pictures, lora=lora, **{"objective.target": "ema"})
    file, *_ = train(asked, tmp_path / "run").files
    model = fewstep.load(miniature, device="cpu", loras=[file]) if lora else fewstep.load(file, device="cpu")
    assert (model.profile.kind, model.profile.guidance.w_range) == ("lcm", (2.0, 14.0))
    assert fewstep.text2image(model, "a red fox", seed=0, steps=2)


def test_fine_tuning_keeps_the_phases_or_trajectories_that_a_model_walks(miniature: Path, pictures: Path) -> None:
    plain = fewstep.load(miniature, device="cpu")
    asked = config("finetune", miniature, pictures, lora=False)

    def made(**facts: Any) -> Model:
        return dataclasses.replace(plain, profile=plain.profile.updated(facts))  # type: ignore[arg-type]

    for sampler, phases, gamma, expected in (
        ("tcd", 4, 0.0, (PhaseEnds(4), 1000)),
        ("tcd", 4, 0.3, (AnyEarlierTime(4), 1000)),
        ("tcd", 1, 0.0, (AnyEarlierTime(1), 1000)),
        ("lcm", 1, 0.0, (CleanData(), None)),
    ):
        model = made(sampler=sampler, phases=phases, gamma=gamma, original_inference_steps=25)
        objective = training_of(asked, model, "new").objective
        assert isinstance(objective, FineTuning)
        assert (objective.distilled, objective.k) == expected
        assert objective.original_inference_steps == 25
    with pytest.raises(InvalidConfig, match="phases is what the model was made with, and fine-tuning keeps it"):
        changed(asked, {"objective.phases": 2})
    with pytest.raises(InvalidConfig, match="original_inference_steps=30, but miniature was made with 50"):
        training_of(changed(asked, {"objective.original_inference_steps": 30}), plain, "new")
    with pytest.raises(InvalidConfig, match="which are known: leave target out"):
        training_of(changed(asked, {"objective.target": "ema"}), made(sampler="tcd", phases=4, gamma=0.0), "new")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, (True, 1, 100, "pseudo_huber")),
        ({"target": "ema"}, (True, 1, 100, "pseudo_huber")),
        ({"phases": 1}, (False, 1, None, "huber")),
        ({"phases": 2}, (False, 2, None, "huber")),
        ({"trajectory": False}, (False, 4, None, "huber")),
        ({"trajectory": True, "phases": 4}, (True, 4, 100, "pseudo_huber")),
        ({"target": "path"}, (False, 4, None, "huber")),
        ({"target": "path", "phases": 2}, (False, 2, None, "huber")),
    ],
)
def test_what_is_said_of_how_a_student_walks_decides_the_rest(asked: Mapping[str, Any], expected: Any) -> None:
    found = default_config("distill", "m", "d", lora=True, **asked).objective
    assert isinstance(found, Distillation)
    assert (found.trajectory, found.num_phases, getattr(found, "k", None), found.metric) == expected
    assert not isinstance(found, Trajectory) or found.t_m == "log_uniform"


@pytest.mark.slow
def test_paths_of_the_teacher_make_a_phased_adapter(tmp_path: Path, miniature: Path, pictures: Path) -> None:
    base = default_config("distill", str(miniature / "teacher"), str(pictures), lora=True, target="path")
    short = {"fit.pictures": 4, "fit.batch_size": 2, "fit.warmup": 1, "device": "cpu", "watch": WATCH, "lora.rank": 4}
    file, *_ = train(changed(base, short), tmp_path / "run").files
    profile = fewstep.load(miniature / "teacher", device="cpu", loras=[file]).profile
    assert (profile.sampler, profile.phases, profile.gamma, profile.steps) == ("tcd", 4, 0.0, 4)


@pytest.mark.slow
def test_a_style_stacks_with_an_lcm_lora(tmp_path: Path, sd1: Path, pictures: Path) -> None:
    style, *_ = train(config("style", sd1, pictures, lora=True), tmp_path / "style").files
    fast, *_ = train(config("distill", sd1, pictures, lora=True), tmp_path / "fast").files
    alone = fewstep.load(sd1, device="cpu", loras=[style])
    assert alone.profile.kind == "diffusion"
    both = fewstep.load(sd1, device="cpu", loras=[style, fast])
    assert both.profile.kind == "lcm"
    assert both.loras is not None
    assert both.loras.names == ("style", "fast")
    assert fewstep.text2image(both, "a red fox", seed=0, steps=2)


@pytest.mark.slow
def test_a_student_without_guidance_of_its_own_can_be_guided_and_takes_negative_prompts(
    tmp_path: Path, sd1: Path, pictures: Path
) -> None:
    asked = config("distill", sd1, pictures, lora=True, **{"objective.w_range": (0.0, 0.0)})
    file, *_ = train(asked, tmp_path / "run").files
    model = fewstep.load(sd1, device="cpu", loras=[file])
    assert model.profile.guidance.scale == 7.5
    images = [
        fewstep.text2image(model, "a red fox", seed=0, steps=2, guidance_scale=7.5, negative_prompt=words)
        for words in ("", "a blue cat")
    ]
    assert images[0].tobytes() != images[1].tobytes()


@pytest.mark.slow
def test_stopped_and_repeated_it_ends_with_the_same_weights(tmp_path: Path, miniature: Path, pictures: Path) -> None:
    asked = config("distill", miniature / "teacher", pictures, lora=True, **{"fit.pictures": 8})
    train(asked, tmp_path / "whole")
    calls = iter([False, True])
    stopped = train(asked, tmp_path / "parts", hooks=Hooks(stop=lambda: next(calls, True)))
    assert (stopped.finished, stopped.seen) == (False, 4)
    outcome = train(asked, tmp_path / "parts")
    assert outcome.finished
    names = ("pytorch_lora_weights.safetensors", "checkpoint.safetensors")
    for name in names:
        whole, parts = (load_file(tmp_path / run / name) for run in ("whole", "parts"))
        assert all(torch.equal(tensor, parts[key]) for key, tensor in whole.items())
    with pytest.raises(InvalidConfig, match=r"fit\.lr = 0\.001, and now it is 0\.1"):
        train(changed(asked, {"fit.lr": 0.1}), tmp_path / "parts")
    assert train(changed(asked, {"fit.pictures": 12}), tmp_path / "parts").seen == 12


@pytest.mark.slow
def test_the_best_by_a_measure_is_shipped_and_patience_ends_the_run(
    tmp_path: Path, miniature: Path, pictures: Path
) -> None:
    values = iter([5.0, 1.0, 3.0, 4.0, 6.0, 7.0])
    kept: list[dict[str, torch.Tensor]] = []

    def measure(model: Model) -> Mapping[str, float]:
        kept.append(
            {name: w.detach().clone() for name, w in model.network.module.named_parameters() if "lora_" in name}
        )
        return {"badness": next(values)}

    watch = dataclasses.replace(WATCH, every=4, best="badness", patience=2)
    asked = config("finetune", miniature, pictures, lora=True, watch=watch, **{"fit.pictures": 400})
    outcome = train(asked, tmp_path / "run", measures=[measure])
    assert outcome.best is not None
    assert outcome.best["badness"] == 1.0
    assert outcome.seen < 30
    layers = LoraFile.read(outcome.files[0]).layers["unet"]
    name, layer = next(iter(layers.items()))
    torch.testing.assert_close(layer.down.float(), kept[1][f"{name}.lora_A.trained.weight"], atol=1e-3, rtol=1e-3)
    with pytest.raises(InvalidConfig, match="'beauty', and measured are badness"):
        train(changed(asked, {"watch.best": "beauty"}), tmp_path / "other", measures=[lambda _: {"badness": 1.0}])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["epsilon", "sample"])
def test_teachers_of_every_prediction_type(tmp_path: Path, pictures: Path, kind: str) -> None:
    from miniature import write_miniature

    folder = write_miniature(tmp_path / "model", prediction_type=kind)
    file, *_ = train(config("distill", folder / "teacher", pictures, lora=False), tmp_path / "run").files
    assert fewstep.load(file, device="cpu").profile.prediction.name == kind


def test_the_wrong_kind_and_foreign_folders_are_refused(tmp_path: Path, miniature: Path, pictures: Path) -> None:
    with pytest.raises(InvalidConfig, match="use fewstep finetune"):
        train(config("distill", miniature, pictures, lora=True), tmp_path / "a")
    with pytest.raises(InvalidConfig, match="distil it first"):
        train(config("finetune", miniature / "teacher", pictures, lora=True), tmp_path / "b")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "thesis.txt").write_text("mine")
    with pytest.raises(CannotWrite, match="no run of fewstep"):
        train(config("distill", miniature / "teacher", pictures, lora=True), tmp_path / "c")


def test_a_run_that_goes_on_elsewhere_is_left_alone(tmp_path: Path, miniature: Path, pictures: Path) -> None:
    asked, run = config("distill", miniature / "teacher", pictures, lora=True), tmp_path / "run"

    def again(*_: object) -> None:
        files = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
        with pytest.raises(InUse, match=f"the run {run} is in use"):
            train(asked, run)
        assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == files

    assert train(asked, run, hooks=Hooks(step=again)).finished


def test_settings_that_cannot_work_are_refused_by_name() -> None:
    base = default_config("distill", "m", "d", lora=False)
    wrong = [{"solver": "euler"}, {"phases": 0}, {"w_range": (3.0, 1.0)}, {"metric": "l3"}, {"gamma": 2.0}, {"k": 0}]
    wrong += [{"target": "picture"}, {"original_inference_steps": 0}, {"empty": 1.0}, {"phases": 51}, {"shift": 3}]
    for values in wrong:
        name, value = next(iter(values.items()))
        with pytest.raises(InvalidConfig, match=name):
            changed(base, {f"objective.{name}": value})
    with pytest.raises(InvalidConfig, match="rank"):
        LoraConfig(rank=0)
    with pytest.raises(InvalidConfig, match="size"):
        DataConfig(source="x", size=(0, 8))
    with pytest.raises(InvalidConfig, match="add --lora"):
        changed(base, {"lora.rank": 4})
    with pytest.raises(InvalidConfig, match="leave k out"):
        changed(default_config("distill", "m", "d", lora=False, target="path"), {"objective.k": 20})
    with pytest.raises(InvalidConfig, match="no trajectory"):
        default_config("distill", "m", "d", lora=False, target="path", trajectory=True)
    with pytest.raises(InvalidConfig, match="needs a teacher"):
        changed(default_config("finetune", "m", "d", lora=False), {"objective.target": "path"})
