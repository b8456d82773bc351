"""A run that was stopped anywhere and called again ends with the very weights of the run that never stopped."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fewstep.errors import CannotWrite, FewstepWarning, InvalidConfig
from fewstep.train.config import FitConfig
from fewstep.train.log import LOG, RunLog, read_log
from fewstep.train.loop import TrainingDiverged, fit
from fewstep.train.processes import Processes
from fewstep.train.state import CHECKPOINT, PREVIOUS, AveragedTarget, ForeignCheckpoint, TrainState, exchanged, newest
from fewstep.train.task import Undivided
from full_disk import files_of_at_most


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
    whole = fit(a := model(), Undivided(Regression(a)), 50, config(optimizer), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(b := model(), Undivided(Regression(b, stop_at)), 50, config(optimizer), tmp_path / "parts")
    resumed = fit(c := model(), Undivided(Regression(c)), 50, config(optimizer), tmp_path / "parts")
    for name, weight in a.state_dict().items():
        assert torch.equal(weight, c.state_dict()[name])
        assert torch.equal(whole.ema[name], resumed.ema[name])


def test_training_learns_and_the_average_is_taken_and_put_back(tmp_path: Path) -> None:
    net = model()
    regression = Regression(net)
    with torch.no_grad():
        before = float((net(regression.x) - regression.y).square().mean())
    state = fit(net, Undivided(regression), 50, config(pictures=4000), tmp_path)
    live = {name: weight.clone() for name, weight in net.state_dict().items()}
    with state.averaged(), torch.no_grad():
        after = float((net(regression.x) - regression.y).square().mean())
        assert not torch.equal(net.state_dict()["0.weight"], live["0.weight"])
    assert after < before / 10
    assert all(torch.equal(weight, live[name]) for name, weight in net.state_dict().items())
    assert net.training


def test_a_truncated_checkpoint_falls_back_to_the_one_before(tmp_path: Path) -> None:
    fit(a := model(), Undivided(Regression(a)), 50, config(pictures=80), tmp_path)
    newest = (tmp_path / CHECKPOINT).read_bytes()
    (tmp_path / CHECKPOINT).write_bytes(newest[: len(newest) // 2])
    state = TrainState(b := model(), torch.optim.SGD(b.parameters(), 0.1))
    state.optimizer = fit(c := model(), Undivided(Regression(c)), 50, config(pictures=8), tmp_path / "other").optimizer
    state.model = c
    with pytest.warns(FewstepWarning, match="damaged"):
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
        fit(net, Undivided(Exploding(net)), 50, config(), tmp_path)
    found = newest(tmp_path, "ema/")
    assert found is not None
    assert all(bool(weight.isfinite().all()) for weight in found[0].values())


def test_a_limit_in_minutes_stops_with_a_checkpoint(tmp_path: Path) -> None:
    state = fit(a := model(), Undivided(Regression(a)), 50, config(minutes=0.0), tmp_path)
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


LONG = 40_000  # more than any of the killed ever reach


def forked(work: Callable[[], object]) -> int:
    """Do `work` in a process of its own; returns its id."""
    child = os.fork()
    if child:
        return child
    try:  # and never let the tests run on in a second process
        work()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def killed_again_and_again(folder: Path, kills: int, seed: int) -> list[int]:
    """Run in processes that are killed at random moments, some checkpoints later; where each had got to."""
    dice, places = random.Random(seed), []
    for _ in range(kills):
        child = forked(
            lambda: fit(net := model(), Undivided(Regression(net)), 50, config(pictures=LONG, cooldown=0.0), folder)
        )
        for _ in range(dice.randint(1, 4)):
            await_another_checkpoint(folder)
        time.sleep(dice.uniform(0.0, 0.004))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        found = newest(folder, "none of them")
        places.append(0 if found is None else int(found[1]["seen"]))
    return places


def await_another_checkpoint(folder: Path) -> None:
    def number() -> int:
        with contextlib.suppress(FileNotFoundError):
            return (folder / CHECKPOINT).stat().st_ino
        return 0

    before, patience = number(), time.monotonic() + 60
    while number() == before and time.monotonic() < patience:
        time.sleep(0.0005)


@pytest.mark.slow
def test_killed_at_random_moments_a_run_ends_with_the_same_weights(tmp_path: Path) -> None:
    places = killed_again_and_again(tmp_path / "parts", kills=20, seed=3)
    assert places == sorted(places)
    assert 0 < places[0] < places[-1] < LONG
    end = config(pictures=places[-1] + 80, cooldown=0.0, checkpoint_minutes=9.0)
    whole = fit(a := model(), Undivided(Regression(a)), 50, end, tmp_path / "whole")
    resumed = fit(b := model(), Undivided(Regression(b)), 50, end, tmp_path / "parts")
    for name, weight in a.state_dict().items():
        assert torch.equal(weight, b.state_dict()[name])
        assert torch.equal(whole.ema[name], resumed.ema[name])


def test_a_full_disk_is_a_clear_error_and_the_last_checkpoint_stays(tmp_path: Path) -> None:
    fit(a := model(), Undivided(Regression(a)), 50, config(pictures=80), tmp_path)
    good = (tmp_path / CHECKPOINT).read_bytes()
    with files_of_at_most(1000), pytest.raises(CannotWrite, match=r"File too large .* the same command goes on"):
        fit(b := model(), Undivided(Regression(b)), 50, config(pictures=160), tmp_path)
    assert (tmp_path / CHECKPOINT).read_bytes() == good
    assert sorted(path.name for path in tmp_path.iterdir()) == [PREVIOUS, CHECKPOINT, LOG]
    state = fit(c := model(), Undivided(Regression(c)), 50, config(pictures=160), tmp_path)
    assert state.seen == 160


def test_a_checkpoint_of_another_network_is_refused_in_words(tmp_path: Path) -> None:
    fit(a := model(), Undivided(Regression(a)), 50, config(pictures=16), tmp_path)
    other = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 3))
    with pytest.raises(ForeignCheckpoint, match=r"0\.weight is \(9, 6\) here"):
        fit(other, Undivided(Regression(other)), 50, config(pictures=32), tmp_path)


def test_frozen_weights_are_neither_trained_nor_written(tmp_path: Path) -> None:
    net = model()
    net[0].requires_grad_(False)
    before = net[0].weight.clone()
    fit(net, Undivided(Regression(net)), 50, config(pictures=80), tmp_path)
    assert torch.equal(net[0].weight, before)
    assert [name for name in load_file(tmp_path / CHECKPOINT) if "0.weight" in name] == []


def test_an_averaged_target_follows_slowly_and_is_resumed(tmp_path: Path) -> None:
    def run(folder: Path, pictures: int) -> AveragedTarget:
        net = model()
        target = AveragedTarget(net, 0.9)
        fit(net, Undivided(Regression(net)), 50, config(pictures=pictures, cooldown=0.0), folder, target=target)
        return target

    whole = run(tmp_path / "whole", 400)
    run(tmp_path / "parts", 160)
    parts = run(tmp_path / "parts", 400)
    assert all(torch.equal(weight, parts.weights[name]) for name, weight in whole.weights.items())
    live = load_file(tmp_path / "whole" / CHECKPOINT)
    assert not torch.equal(whole.weights["0.weight"], live["model/0.weight"])


def test_the_target_s_weights_are_in_place_for_its_own_calls_only() -> None:
    net = nn.Linear(2, 2, bias=False)
    target = AveragedTarget(net, 0.5)
    with torch.no_grad():
        target.weights["weight"].fill_(7.0)
    live = net.weight.detach().clone()
    f = target.wrap(lambda x_t, t, cond, w=None: net(x_t))
    assert torch.equal(f(torch.ones(1, 2), 0, None), torch.full((1, 2), 14.0))
    assert torch.equal(net.weight, live)
    with exchanged(net, {"weight": torch.zeros(2, 2)}):
        assert float(net.weight.detach().abs().max()) == 0.0
    assert torch.equal(net.weight, live)


class Divisible(Regression):
    """The same, drawn first and computed afterwards."""

    def draw(self, rows: Tensor, generator: torch.Generator) -> Batch:
        return Batch(rows, torch.randn(len(rows), 6, generator=generator))

    def loss(self, draw: Batch) -> dict[str, Tensor]:
        x = self.x[draw.rows] + 0.1 * draw.noise
        return {"loss": (self.model(x) - self.y[draw.rows]).square().mean()}


class Batch:
    def __init__(self, rows: Tensor, noise: Tensor) -> None:
        self.rows, self.noise = rows, noise

    def __getitem__(self, part: slice) -> Batch:
        return Batch(self.rows[part], self.noise[part])

    def tensors(self) -> dict[str, Tensor]:
        return {"rows": self.rows, "noise": self.noise}


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_a_batch_in_parts_is_the_batch_in_one(tmp_path: Path, optimizer: str) -> None:
    fit(a := model(), Divisible(a), 50, config(optimizer, pictures=160), tmp_path / "one")
    fit(b := model(), Divisible(b), 50, config(optimizer, pictures=160, accumulate=4), tmp_path / "four")
    for name, weight in a.state_dict().items():
        torch.testing.assert_close(weight, b.state_dict()[name], rtol=1e-3, atol=1e-5)
    with pytest.raises(InvalidConfig, match="cannot be divided"):
        fit(c := model(), Undivided(Regression(c)), 50, config(accumulate=2), tmp_path / "not")


def test_two_processes_compute_what_one_computes(tmp_path: Path) -> None:
    """Two real processes, averaging over gloo; then again, stopped half way and resumed."""
    fit(a := model(), Divisible(a), 50, config("adamw", pictures=160, cooldown=0.0), tmp_path / "one")
    expected = load_file(tmp_path / "one" / CHECKPOINT)
    for pictures in (80, 160):
        together(tmp_path, pictures)
    losses = [json.loads((tmp_path / f"losses-{rank}.json").read_text()) for rank in (0, 1)]
    assert losses[0] == losses[1]
    found = load_file(tmp_path / "two" / CHECKPOINT)
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_two_processes_killed_at_random_moments_end_with_the_same_weights(tmp_path: Path) -> None:
    dice, places = random.Random(5), []
    for _ in range(4):
        children = two_processes(tmp_path, LONG)
        for _ in range(dice.randint(1, 3)):
            await_another_checkpoint(tmp_path / "two")
        for child in dice.sample(children, 2):
            os.kill(child, signal.SIGKILL)
            time.sleep(dice.uniform(0.0, 0.01))
        for child in children:
            os.waitpid(child, 0)
        places.append(int(newest(tmp_path / "two", "none of them")[1]["seen"]))  # type: ignore[index]
    assert 0 < places[0] < places[-1] < LONG
    together(tmp_path, places[-1] + 160)
    (tmp_path / "two").rename(tmp_path / "killed")
    together(tmp_path, places[-1] + 160)
    killed, whole = (load_file(tmp_path / name / CHECKPOINT) for name in ("killed", "two"))
    assert all(torch.equal(weight, killed[name]) for name, weight in whole.items())


def together(home: Path, pictures: int) -> None:
    """Run two processes that train together in `home`/two, to the end."""
    assert [os.waitpid(child, 0)[1] for child in two_processes(home, pictures)] == [0, 0]


def two_processes(home: Path, pictures: int) -> list[int]:
    """Start them; returns their ids."""
    port = 20000 + random.Random().randrange(20000)

    def work(rank: int) -> None:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2")
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), OMP_NUM_THREADS="1")  # as launchers set it
        processes = Processes.here("cpu")
        assert (processes.rank, processes.count) == (rank, 2)
        losses: list[float] = []
        settings = config("adamw", pictures=pictures, cooldown=0.0)
        note = lambda seen, scalars: losses.append(scalars["loss"])  # noqa: E731
        fit(net := model(), Divisible(net), 50, settings, home / "two", processes=processes, on_step=note)
        (home / f"losses-{rank}.json").write_text(json.dumps(losses))
        processes.wait()

    return [forked(lambda rank=rank: work(rank)) for rank in (0, 1)]  # type: ignore[misc]


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_learns_and_resumes_to_the_bit(tmp_path: Path, precision: str) -> None:
    settings = config("adamw", pictures=240, precision=precision, cooldown=0.0)
    fit(a := model(), Undivided(Regression(a)), 50, settings, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(b := model(), Undivided(Regression(b, 11)), 50, settings, tmp_path / "parts")
    fit(c := model(), Undivided(Regression(c)), 50, settings, tmp_path / "parts")
    assert all(torch.equal(weight, c.state_dict()[name]) for name, weight in a.state_dict().items())
    assert all(weight.dtype == torch.float32 for weight in a.state_dict().values())


def test_an_exploding_loss_stops_with_the_batch_and_the_settings(tmp_path: Path) -> None:
    net = model()

    class Exploding(Divisible):
        def loss(self, draw: Batch) -> dict[str, Tensor]:
            self.calls += 1
            return {"loss": super().loss(draw)["loss"] * (1e9 if self.calls > 70 else 1.0)}

    with pytest.raises(TrainingDiverged, match="times the lowest"):
        fit(net, Exploding(net), 50, config(pictures=4000, explosion=1000.0, checkpoint_minutes=9.0), tmp_path)
    batch = load_file(tmp_path / "diverged.safetensors")
    assert set(batch) == {"rows", "noise"}
    assert json.loads((tmp_path / "diverged.json").read_text())["config"]["explosion"] == 1000.0


def test_the_log_of_what_was_lost_is_taken_back(tmp_path: Path) -> None:
    with RunLog(tmp_path, 0, every=1) as log:
        for seen in (8, 16, 24):
            log.write(seen, {"loss": 1.0})
    with (tmp_path / LOG).open("a") as file:
        file.write('{"seen": 32, "lo')
    with RunLog(tmp_path, 16, every=1) as log:
        log.write(24, {"loss": 2.0})
    assert [(row["seen"], row["loss"]) for row in read_log(tmp_path)] == [(8, 1.0), (16, 1.0), (24, 2.0)]


def test_a_checkpoint_that_named_the_optimizer_s_weights_by_their_place_goes_on(tmp_path: Path) -> None:
    """As all did before they bore the network's own names."""

    def run(folder: Path, pictures: int) -> dict[str, Tensor]:
        net = model()
        fit(net, Undivided(Regression(net)), 50, config(pictures=pictures, cooldown=0.0), folder)
        return load_file(folder / CHECKPOINT)

    whole = run(tmp_path / "whole", 64)
    run(tmp_path / "parts", 32)
    with safe_open(tmp_path / "parts" / CHECKPOINT, framework="pt") as file:
        metadata, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    slots = [key for key in tensors if key.startswith("optimizer/")]
    assert {key.removeprefix("optimizer/").rpartition(".")[0] for key in slots} == dict(
        model().named_parameters()
    ).keys()
    matrices = [name for name, weight in model().named_parameters() if weight.ndim > 1]
    others = [name for name, weight in model().named_parameters() if weight.ndim < 2]
    places = {name: place for place, name in enumerate([*matrices, *others])}
    for key in slots:
        name, _, slot = key.removeprefix("optimizer/").rpartition(".")
        tensors[f"optimizer/{places[name]}.{slot}"] = tensors.pop(key)
    save_file(tensors, tmp_path / "parts" / CHECKPOINT, metadata)
    parts = run(tmp_path / "parts", 64)
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
