"""A run that was stopped anywhere and called again ends with the very weights of the run that never stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fewstep.train.config import FitConfig, InvalidConfig
from fewstep.train.loop import TrainingDiverged, fit
from fewstep.train.state import CHECKPOINT, PREVIOUS, TrainState


class Regression:
    """Fit a random linear map through noisy inputs: every step draws from the generator."""

    def __init__(self, model: nn.Module, stop_at: int | None = None) -> None:
        self.model, self.stop_at, self.calls = model, stop_at, 0
        self.x = torch.randn(50, 6, generator=torch.Generator().manual_seed(1))
        self.y = self.x @ torch.randn(6, 3, generator=torch.Generator().manual_seed(2))

    def __call__(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        if self.calls == self.stop_at:
            raise KeyboardInterrupt
        self.calls += 1
        x = self.x[rows] + 0.1 * torch.randn(len(rows), 6, generator=generator)
        return {"loss": (self.model(x) - self.y[rows]).square().mean()}


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def config(optimizer: str = "muon", **changes: object) -> FitConfig:
    values = {"pictures": 400, "batch_size": 8, "lr": 0.05, "warmup": 40, "cooldown": 0.5, "checkpoint_minutes": 0.0}
    return FitConfig(optimizer=optimizer, **{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("stop_at", [1, 7, 33])
def test_resumed_run_equals_the_uninterrupted_one_to_the_bit(tmp_path: Path, optimizer: str, stop_at: int) -> None:
    whole = fit(a := model(), Regression(a), 50, config(optimizer), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(b := model(), Regression(b, stop_at), 50, config(optimizer), tmp_path / "parts")
    resumed = fit(c := model(), Regression(c), 50, config(optimizer), tmp_path / "parts")
    for name, weight in a.state_dict().items():
        assert torch.equal(weight, c.state_dict()[name])
        assert torch.equal(whole.ema[name], resumed.ema[name])


def test_training_learns_and_the_average_is_taken_and_put_back(tmp_path: Path) -> None:
    net = model()
    regression = Regression(net)
    with torch.no_grad():
        before = float((net(regression.x) - regression.y).square().mean())
    state = fit(net, regression, 50, config(pictures=4000), tmp_path)
    live = {name: weight.clone() for name, weight in net.state_dict().items()}
    with state.averaged(), torch.no_grad():
        after = float((net(regression.x) - regression.y).square().mean())
        assert not torch.equal(net.state_dict()["0.weight"], live["0.weight"])
    assert after < before / 10
    assert all(torch.equal(weight, live[name]) for name, weight in net.state_dict().items())
    assert net.training


def test_a_truncated_checkpoint_falls_back_to_the_one_before(tmp_path: Path) -> None:
    fit(a := model(), Regression(a), 50, config(pictures=80), tmp_path)
    newest = (tmp_path / CHECKPOINT).read_bytes()
    (tmp_path / CHECKPOINT).write_bytes(newest[: len(newest) // 2])
    state = TrainState(b := model(), torch.optim.SGD(b.parameters(), 0.1))
    state.optimizer = fit(c := model(), Regression(c), 50, config(pictures=8), tmp_path / "other").optimizer
    state.model = c
    assert state.resume(tmp_path)
    assert state.seen == 72
    assert (tmp_path / PREVIOUS).exists()


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    net = model()

    class Exploding(Regression):
        def __call__(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
            scalars = super().__call__(rows, generator)
            return {"loss": scalars["loss"] * (float("nan") if self.calls > 5 else 1.0)}

    with pytest.raises(TrainingDiverged, match="after 40 pictures"):
        fit(net, Exploding(net), 50, config(), tmp_path)
    assert all(bool(weight.isfinite().all()) for weight in TrainState.average_of(tmp_path).values())


def test_a_limit_in_minutes_stops_with_a_checkpoint(tmp_path: Path) -> None:
    state = fit(a := model(), Regression(a), 50, config(minutes=0.0), tmp_path)
    assert state.seen == 8
    assert (tmp_path / CHECKPOINT).is_file()


@pytest.mark.parametrize(
    ("name", "value"),
    [("pictures", 0), ("batch_size", 0), ("optimizer", "sgd"), ("cooldown", 1.5), ("lr", 0.0), ("lr", float("nan"))],
)
def test_a_config_that_cannot_work_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(InvalidConfig, match=name):
        config(**{name: value})


def test_rates_rise_stay_and_fall() -> None:
    plan = config(pictures=1000, batch_size=10, warmup=100, cooldown=0.5)
    assert plan.rate(0) == pytest.approx(0.1)
    assert plan.rate(90) == plan.rate(500) == 1.0
    assert plan.rate(750) == pytest.approx(0.5)
    assert plan.rate(1000) == 0.0
    assert config(cooldown=0.0).rate(399) == 1.0
