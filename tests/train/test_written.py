"""Configs on the disk: what a run's folder keeps, and what the folders of before kept."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fewstep.core.objectives import objectives
from fewstep.core.objectives.consistency import Consistency
from fewstep.core.objectives.path import Path
from fewstep.core.objectives.phases import Phases
from fewstep.core.settings import settings
from fewstep.train.defaults import changed, default_config
from fewstep.train.written import as_json, as_now, differences

# A distillation's folder as it was when all settings of all objectives were in one record, to the letter.
BEFORE = """
{
  "method": "distill",
  "model": "models/mini/teacher",
  "data": {
    "source": "pics",
    "size": null,
    "buckets": false,
    "min_side": 32,
    "flip": false,
    "suffix": "",
    "image_column": null,
    "caption_column": null
  },
  "fit": {
    "pictures": 24000,
    "batch_size": 16,
    "accumulate": 1,
    "optimizer": "adamw",
    "lr": 1e-05,
    "adam_lr": 0.001,
    "weight_decay": 0.0,
    "warmup": 500,
    "cooldown": 0.3,
    "clip": 1.0,
    "ema_halflife": 2000,
    "precision": "float32",
    "seed": 0,
    "checkpoint_minutes": 5.0,
    "minutes": null,
    "explosion": 1000.0
  },
  "consistency": {
    "original_inference_steps": 50,
    "k": 100,
    "solver": "ddim",
    "substeps": 1,
    "w_range": null,
    "embed_w": null,
    "empty": 0.05,
    "metric": "pseudo_huber",
    "boundary": "lcm",
    "timestep_scaling": 10.0,
    "target": "student",
    "target_decay": 0.95,
    "phases": 1,
    "trajectory": true,
    "ends": "walks",
    "gamma": 0.0
  },
  "lora": null,
  "watch": {
    "every": null,
    "prompts": [],
    "steps": [],
    "guidance_scale": null,
    "seed": 0,
    "best": null,
    "patience": null,
    "tensorboard": false
  },
  "checkpointing": false,
  "device": null,
  "name": null
}
"""


def now(**options: Any) -> dict[str, Any]:
    return as_json(default_config("distill", "models/mini/teacher", "pics", lora=False, **options))


def before(**consistency: Any) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(BEFORE)
    return values | {"consistency": values["consistency"] | consistency}


def test_the_same_command_goes_on_in_a_folder_of_before() -> None:
    assert as_now(json.loads(BEFORE)) == now()
    assert differences(json.loads(BEFORE), now()) == {}
    assert differences(before(ends="uniform"), now()) == {"objective.t_m": ("uniform", "log_uniform")}
    assert differences(before(k=50), now()) == {"objective.k": (50, 100)}
    assert differences(json.loads(BEFORE), now(phases=4))["objective.name"] == ("trajectory", "phases")


@pytest.mark.parametrize(
    ("said", "options"),
    [
        ({"trajectory": False, "phases": 4, "k": None, "metric": "huber", "ends": "uniform"}, {"phases": 4}),
        ({"trajectory": False, "phases": 1, "k": None, "metric": "huber", "ends": "uniform"}, {"phases": 1}),
        ({"phases": 2}, {"trajectory": True, "phases": 2}),
        ({"target": "ema"}, {"target": "ema"}),
    ],
)
def test_every_distillation_of_before_is_the_one_of_now(said: dict[str, Any], options: dict[str, Any]) -> None:
    assert differences(before(**said), now(**options)) == {}


def test_paths_fine_tuning_and_styles_of_before_are_those_of_now() -> None:
    walked = {"target": "path", "solver": "dpm++", "substeps": 3, "phases": 4, "k": None, "metric": "huber"}
    there = before(**walked, trajectory=False, ends="uniform")
    assert (
        as_now(there)["objective"]
        == as_json(default_config("distill", "m", "d", lora=True, target="path"))["objective"]
    )
    plain = {"k": None, "metric": "huber", "trajectory": False, "ends": "uniform"}
    for method in ("finetune", "style"):
        wanted = as_json(default_config(method, "m", "d", lora=True))  # type: ignore[arg-type]
        empty = {"empty": 0.1} if method == "style" else {}
        assert as_now(before(**plain, **empty) | {"method": method})["objective"] == wanted["objective"]


def test_a_setting_that_did_not_exist_when_a_run_began_was_as_by_default() -> None:
    there: dict[str, Any] = {"data": {"flip": True}, "consistency": {"k": 100, "trajectory": True}, "lora": None}
    begun = as_now(there)

    def asked(group: str, **values: Any) -> dict[str, tuple[Any, Any]]:
        same = {**begun, "objective": {"name": "trajectory", "k": 100, **begun["objective"]}}
        return differences(there, same | {group: (same[group] or {}) | values})

    assert asked("data", buckets=False, image_column=None) == {}
    assert asked("data", buckets=True) == {"data.buckets": (False, True)}
    assert asked("data", flip=False) == {"data.flip": (True, False)}
    assert asked("objective", t_m="uniform") == {}
    assert asked("objective", t_m="log_uniform") == {"objective.t_m": ("uniform", "log_uniform")}
    assert asked("lora", rank=64) == {"lora.rank": (None, 64)}
    assert differences(begun | {"lora": {"rank": 8}}, begun | {"lora": {"rank": 8, "alpha": None}}) == {}


def test_what_is_written_has_a_name_and_every_setting() -> None:
    for name, kind in objectives().items():
        assert {name for name, _ in settings(kind)} | {"name"} >= {"empty", "name"}
        assert kind.name == name
    written = now(target="path")["objective"]
    assert written["name"] == "path"
    assert Path(**{key: value for key, value in written.items() if key != "name"}) == Path()


def test_options_may_mean_another_objective_and_keep_what_both_have() -> None:
    base = default_config("distill", "m", "d", lora=False)
    phased = changed(base, {"objective.gamma": 0.2, "objective.trajectory": False, "objective.phases": 4})
    assert phased.objective == Phases(phases=4, gamma=0.2, k=100, metric="pseudo_huber")
    assert changed(phased, {"objective.phases": 1}).objective == Consistency(gamma=0.2, k=100, metric="pseudo_huber")
