"""What every schedule promises: times, noise, transfers and configs."""

from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fewstep.core.schedule import Schedule, broadcast
from fewstep.core.schedules import DiscreteSchedule, RectifiedFlow, ShiftBySize, TrigFlow, from_config

SCHEDULES = {
    "SD": DiscreteSchedule.from_betas(),
    "zero SNR": DiscreteSchedule.from_betas("squaredcos_cap_v2", rescale_zero_terminal_snr=True),
    "a table": DiscreteSchedule.from_alphas_cumprod(torch.linspace(0.99, 0.01, 7) ** 1.1),
    "rectified flow": RectifiedFlow(),
    "shifted": RectifiedFlow(shift=3.0, time_scale=500),
    "by size": RectifiedFlow(by_size=ShiftBySize()).for_size(1024),
    "TrigFlow": TrigFlow(),
    "TrigFlow .5": TrigFlow(0.5),
}
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


@every_schedule
def test_the_first_time_is_clean_data(schedule: Schedule) -> None:
    clean = schedule.clean
    assert (float(schedule.alpha(clean)), float(schedule.sigma(clean))) == (1.0, 0.0)
    assert float(schedule.log_snr(torch.tensor(clean))) == math.inf
    assert float(schedule.time_of(math.inf)) == clean
    x_0 = torch.randn(2, 3, dtype=torch.float64)
    assert torch.equal(schedule.add_noise(x_0, torch.randn_like(x_0), clean), x_0)


@pytest.mark.parametrize("name", sorted(SCHEDULES.keys() - {"SD", "a table"}))
def test_the_last_time_is_pure_noise(name: str) -> None:
    schedule = SCHEDULES[name]
    assert float(schedule.alpha(schedule.last)) == 0.0
    assert float(schedule.log_snr(schedule.last)) == -math.inf
    assert float(schedule.time_of(-math.inf)) == pytest.approx(schedule.last, abs=1e-9)


def test_a_table_without_pure_noise_answers_with_its_last_time() -> None:
    assert float(SCHEDULES["SD"].time_of(-math.inf)) == 999.0


@every_schedule
@given(share=st.floats(0.0, 1.0))
def test_tau_and_time_of_are_inverses(schedule: Schedule, share: float) -> None:
    t = schedule.at(share)
    assert schedule.clean <= float(t) <= schedule.last + 1e-9
    assert float(schedule.tau(t)) == pytest.approx(share, abs=1e-12)
    scale = schedule.last - schedule.clean
    assert float(schedule.time_of(schedule.log_snr(t))) == pytest.approx(float(t), abs=1e-7 * scale)


@every_schedule
def test_noise_grows_with_real_times(schedule: Schedule) -> None:
    t = schedule.at(torch.linspace(0, 1, 4001, dtype=torch.float64))
    ratio = schedule.sigma(t) / schedule.alpha(t)
    assert bool((ratio.diff()[:-1] > 0).all())
    assert bool((t.diff() > 0).all())
    assert bool(((schedule.alpha(t) >= 0) & (schedule.alpha(t) <= 1)).all())


@every_schedule
def test_times_may_be_numbers_or_tensors(schedule: Schedule) -> None:
    times = schedule.at(torch.tensor([[0.0, 0.123], [0.5, 1.0]], dtype=torch.float64))
    for read in (schedule.alpha, schedule.sigma, schedule.log_snr, schedule.tau):
        values = read(times)
        assert values.shape == times.shape
        assert values.dtype == torch.float64
        assert values.flatten().tolist() == [float(read(float(t))) for t in times.flatten()]
    middle = float(times[1, 0])
    ratio = float(schedule.alpha(middle) / schedule.sigma(middle))
    assert float(schedule.log_snr(middle)) == pytest.approx(2 * math.log(ratio))


@every_schedule
def test_times_in_float32_are_near_enough(schedule: Schedule) -> None:
    """The last time in float32 may lie a little above it; coefficients are float64 all the same."""
    times = schedule.at(torch.linspace(0, 1, 11, dtype=torch.float64))
    assert schedule.alpha(times.float()).dtype == torch.float64
    torch.testing.assert_close(schedule.alpha(times.float()), schedule.alpha(times), rtol=0, atol=1e-5)
    torch.testing.assert_close(schedule.sigma(times.float()), schedule.sigma(times), rtol=0, atol=1e-5)


@every_schedule
def test_a_transfer_keeps_x0_and_the_noise(schedule: Schedule) -> None:
    """And noise is added to each sample at its own time."""
    x_0, noise = torch.randn(3, 4, 2, 2).double(), torch.randn(3, 4, 2, 2).double()
    t, s = (schedule.at(torch.tensor(shares, dtype=torch.float64)) for shares in ([0.9, 0.5, 0.7], [0.3, 0.4, 0.0]))
    x_t = schedule.add_noise(x_0, noise, t)
    for row in range(3):
        by_hand = float(schedule.alpha(t[row])) * x_0[row] + float(schedule.sigma(t[row])) * noise[row]
        torch.testing.assert_close(x_t[row], by_hand)
    torch.testing.assert_close(schedule.transfer(x_t, x_0, t, s), schedule.add_noise(x_0, noise, s))


@every_schedule
def test_drawn_times_lie_in_the_schedule_evenly(schedule: Schedule) -> None:
    times = schedule.draw_times(4000, torch.Generator().manual_seed(0))
    assert float(times.min()) > schedule.clean
    assert float(times.max()) <= schedule.last
    assert float(schedule.tau(times).mean()) == pytest.approx(0.5, abs=0.1)
    assert torch.equal(times, schedule.draw_times(4000, torch.Generator().manual_seed(0)))


@every_schedule
def test_times_outside_are_refused_in_words(schedule: Schedule) -> None:
    for wrong in (schedule.last + 1, torch.tensor([schedule.last, schedule.last + 1]), schedule.clean - 1, math.nan):
        for read in (schedule.alpha, schedule.sigma):
            with pytest.raises(ValueError, match=r"outside the schedule: \S+ \(clean data\) .. "):
                read(wrong)


@pytest.mark.parametrize(
    "schedule", [*SCHEDULES.values(), RectifiedFlow(by_size=ShiftBySize(0.4, 1.2, 100, 1000, "linear"))]
)
def test_config_survives_json_to_the_last_bit(schedule: Schedule) -> None:
    again = from_config(json.loads(json.dumps(schedule.to_config())))
    assert type(again) is type(schedule)
    assert again.to_config() == schedule.to_config()
    times = torch.linspace(schedule.clean, schedule.last, 100, dtype=torch.float64)
    assert torch.equal(again.alpha(times), schedule.alpha(times))
    assert torch.equal(again.sigma(times), schedule.sigma(times))


@pytest.mark.parametrize("config", [{"beta": 1}, {"process": "edm", "sigma_data": 0.5}])
def test_an_unknown_config_is_refused_in_words(config: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"got the keys {sorted(config)}".replace("[", r"\[")):
        from_config(config)


def test_half_precision_never_meets_the_schedule() -> None:
    """At t = 19, sigma computed from a bfloat16 alpha^2 would be 4.9 % too large."""
    zero, one = torch.zeros(1, 1, dtype=torch.bfloat16), torch.ones(1, 1, dtype=torch.bfloat16)
    x_t = SCHEDULES["SD"].add_noise(zero, one, torch.tensor([19]))
    assert x_t.dtype == torch.float32
    assert float(x_t) == pytest.approx(float(SCHEDULES["SD"].sigma(19)), rel=1e-7)


def test_broadcast_gives_rank_and_at_least_float32() -> None:
    x = torch.zeros(2, 3, 4, 5, dtype=torch.float16)
    assert broadcast(torch.tensor([1.0, 2.0], dtype=torch.float64), x).shape == (2, 1, 1, 1)
    assert broadcast(0.1, x).dtype == torch.float32
    assert broadcast(0.1, x.double()).item() == 0.1
