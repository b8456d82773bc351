"""The line-up of an evaluation: the teacher's solvers are such as the teacher can be sampled with."""

from __future__ import annotations

import dataclasses

from fewstep.core.prediction import Flow
from fewstep.core.profile import Kind, SamplingProfile
from fewstep.core.schedules import RectifiedFlow
from fewstep.evaluate.candidates import ModelSpec, line_up
from fewstep.models.model import Model


def test_a_flow_s_teacher_is_measured_by_euler_in_ddim_s_place(student: Model, teacher: Model) -> None:
    def flow(model: Model, kind: Kind) -> Model:
        return dataclasses.replace(model, profile=SamplingProfile.default(kind, RectifiedFlow(3.0), Flow()))

    def solvers(fast: Model, slow: Model) -> list[tuple[str, str]]:
        models = {ModelSpec("fast"): fast, ModelSpec("slow"): slow}
        found = line_up(ModelSpec("fast"), ModelSpec("slow"), (), (2,), load=models.__getitem__)
        return [(each.role, each.sampler) for each in found]

    of_flows = solvers(flow(student, "lcm"), flow(teacher, "diffusion"))
    assert of_flows == [
        ("teacher", "euler"),
        ("model", "flow_lcm"),
        ("solver", "euler"),
        ("solver", "dpm++"),
        ("solver", "unipc"),
    ]
    assert [sampler for role, sampler in solvers(student, teacher) if role == "solver"] == ["ddim", "dpm++", "unipc"]
