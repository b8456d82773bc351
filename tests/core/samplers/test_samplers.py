"""The registry of samplers, and what every sampler in it does for a profile."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fewstep.core import samplers
from fewstep.core.guidance import ClassifierFreeGuidance
from fewstep.core.prediction import Flow, Velocity
from fewstep.core.profile import Grid, SamplingProfile, Spacing
from fewstep.core.samplers import SAMPLERS, SOLVERS, checked, entries, samplers_of
from fewstep.core.samplers.ode import ODESampler
from fewstep.core.schedules import DiscreteSchedule, RectifiedFlow
from oracle import GaussianWorld

ZERO_SNR = DiscreteSchedule.from_betas(rescale_zero_terminal_snr=True)
FEW_STEP = SamplingProfile.default("lcm", ZERO_SNR, Velocity(), Grid(timestep_scaling=10.0))
DIFFUSION = SamplingProfile.default("diffusion", ZERO_SNR, Velocity(), spacing=Spacing("trailing"))
FLOW = SamplingProfile.default("diffusion", RectifiedFlow(3.0), Flow(), spacing=Spacing("linspace"))
FEW_STEP_FLOW = SamplingProfile.default("lcm", RectifiedFlow(3.0), Flow(), spacing=Spacing("linspace"))
ANOTHER = """
from dataclasses import replace
from fewstep.core.samplers.ddim import DDIM
from fewstep.core.samplers.ode import ODESampler

SAMPLER = ODESampler(name="another", about="one more", rank=25, scheduler="DDIMScheduler", solver=DDIM, calls=3)
"""


def profile_for(name: str) -> SamplingProfile:
    return next(profile for profile in (DIFFUSION, FEW_STEP, FEW_STEP_FLOW, FLOW) if SAMPLERS[name].accepts(profile))


def noise(seed: int, count: int = 20_000) -> Tensor:
    return torch.randn(count, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_model_s_own_sampler_comes_first() -> None:
    assert samplers_of(DIFFUSION) == ("dpm++", "unipc", "ddim", "heun", "lcm")
    assert samplers_of(FEW_STEP) == ("lcm", "tcd")
    assert samplers_of(replace(FEW_STEP, sampler="tcd")) == ("tcd", "lcm")
    assert samplers_of(FLOW) == ("euler", "dpm++", "unipc", "heun", "flow_lcm")
    assert samplers_of(FEW_STEP_FLOW) == ("flow_lcm", "flow_map")


def test_what_is_read_from_the_files_is_what_the_samplers_are() -> None:
    for name, sampler in SAMPLERS.items():
        entry = entries()[name]
        assert (sampler.name, sampler.rank) == (name, entry.rank)
        assert isinstance(sampler, ODESampler) == entry.follows_ode == (name in SOLVERS)
        if isinstance(sampler, ODESampler):
            assert (SOLVERS[name], sampler.calls) == (sampler.solver, entry.calls)


def test_names_are_known_without_torch() -> None:
    script = "from fewstep.core.samplers import SAMPLERS, SOLVERS; print(*(n for n in SAMPLERS if n not in SOLVERS))"
    script += "; import sys; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["euler", "lcm", "tcd", "flow_lcm", "flow_map", "False"]


def test_a_new_file_is_a_new_sampler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one_more.py").write_text(ANOTHER, encoding="utf-8")
    (tmp_path / "machinery.py").write_text("SAMPLERS = 3\n", encoding="utf-8")
    monkeypatch.setattr(samplers, "__path__", [*samplers.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "fewstep.core.samplers.one_more", raising=False)
    assert samplers_of(DIFFUSION) == ("dpm++", "unipc", "ddim", "another", "heun", "lcm")
    assert entries()["another"].calls == SAMPLERS["another"].calls == 3  # type: ignore[attr-defined]
    assert "another" in SOLVERS


def test_unknown_names_are_not_there() -> None:
    assert "plms" not in SAMPLERS
    assert ["lcm"] not in SAMPLERS
    with pytest.raises(KeyError):
        _ = SAMPLERS["plms"]
    with pytest.raises(KeyError):
        _ = SOLVERS["lcm"]
    assert "lcm" not in SOLVERS


@pytest.mark.parametrize("name", SAMPLERS)
def test_times_begin_at_the_last_one_and_lower_for_less_strength(name: str) -> None:
    sampler, profile = SAMPLERS[name], profile_for(name)
    times = sampler.times(profile, 4).tolist()
    assert len(times) == 4
    assert times[0] == profile.schedule.last
    weaker = sampler.times(profile, sampler.least_steps(0.25), 0.25).tolist()
    assert len(weaker) == 1
    if sampler.least_steps(0.25) > 1 or not profile.is_flow:
        assert weaker[0] < 500
    with pytest.raises(ValueError, match="steps"):
        sampler.times(profile, 0)


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_walk_reaches_the_data(name: str) -> None:
    """With the exact denoiser of a model of its kind: f for a consistency model, guided for a diffusion model."""
    mu, w = 0.5, 1.0
    sampler, profile = SAMPLERS[name], profile_for(name)
    world = GaussianWorld(profile.schedule)
    if name == "tcd":
        profile = replace(profile, gamma=0.0)
    one_call = profile.kind == "lcm" or name == "lcm"
    denoise = world.f if one_call else ClassifierFreeGuidance(world.denoise, world.uncond, w)
    times = sampler.times(profile, 1 if name in ("tcd", "flow_map") else 4 if one_call else 50)
    drawn: list[int] = []

    def draw(index: int) -> Tensor:
        drawn.append(index)
        return noise(1 + index)

    walk = sampler.walk(denoise, profile, noise(0), times, mu, w if one_call else None, draw)
    *_, last = walk
    assert last.num_steps == len(times)
    assert float(last.x_t.mean()) == pytest.approx(float(world.guided_mu(mu, w)), abs=0.03)
    assert float(last.x_t.std()) == pytest.approx(0.7, abs=0.04)
    assert drawn == ([0, 1, 2] if name in ("lcm", "flow_lcm") else [])


def test_ddim_ends_where_the_model_s_own_does_and_others_on_clean_data() -> None:
    world = GaussianWorld(ZERO_SNR)
    profile = replace(DIFFUSION, spacing=Spacing("trailing", final_timestep=0))
    for name in SOLVERS:
        sampler = SAMPLERS[name]
        times = sampler.times(profile, 2)
        *_, last = sampler.walk(world.denoise, profile, noise(0, 4), times, 0.5, None, noise)
        assert last.t == (0 if name == "ddim" else -1)


def test_a_phased_model_begins_its_steps_where_phases_do() -> None:
    phased = replace(FEW_STEP, sampler="tcd", phases=4)
    assert SAMPLERS["tcd"].times(phased, 4).tolist() == [999, 739, 499, 239]
    assert SAMPLERS["tcd"].times(phased, 4, 0.5).tolist() == SAMPLERS["lcm"].times(phased, 4, 0.5).tolist()


def test_a_model_whose_own_sampler_is_not_for_it_is_refused() -> None:
    assert checked(FEW_STEP) is FEW_STEP
    with pytest.raises(ValueError, match="kind 'lcm' is 'plms'; it must be one of lcm, tcd"):
        checked(replace(FEW_STEP, sampler="plms"))
    with pytest.raises(ValueError, match="kind 'lcm' is 'lcm'; it must be one of flow_lcm, flow_map"):
        checked(replace(FEW_STEP_FLOW, sampler="lcm"))
    with pytest.raises(ValueError, match=r"kind 'diffusion' is 'tcd'; it must be one of dpm\+\+"):
        checked(replace(DIFFUSION, sampler="tcd"))
