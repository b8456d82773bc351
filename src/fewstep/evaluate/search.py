"""Better times for a few steps: each moved to where the pictures come nearest to the real ones, in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from torch import Tensor

from fewstep.errors import InvalidRequest
from fewstep.evaluate import bootstrap
from fewstep.evaluate.bootstrap import Difference, Measure, difference
from fewstep.evaluate.candidates import Candidate
from fewstep.evaluate.features import FeatureNetwork
from fewstep.evaluate.moments import Moments, frechet_distance
from fewstep.evaluate.shards import PictureFeatures
from fewstep.evaluate.sweep import Progress, Sweep

ROUNDS = 2


@dataclass(frozen=True)
class Found:
    """Times for one step count. `gain` is the fall of the Fréchet distance on pictures that the search did not use."""

    steps: int
    usual: tuple[float, ...]
    times: tuple[float, ...]
    searched: tuple[float, float]
    usual_distance: Measure
    distance: Measure
    gain: Difference
    asked: int

    @property
    def better(self) -> bool:
        return self.times != self.usual and self.gain.value > 0 and self.gain.significant


def search_timesteps(
    sweep: Sweep, network: FeatureNetwork, target: Moments, on_progress: Progress = lambda *_: None
) -> list[Found]:
    """For each step count of the model above 1, by the Fréchet distance to `target`.

    The first half of the configuration's pictures is searched on, the second half says whether the gain is real.
    Raises `InvalidRequest` where there is nothing to search, or too few pictures for two halves.
    """
    candidates = [c for c in sweep.candidates if c.role == "model" and c.steps > 1]
    if sweep.config.num_images < 32 or sweep.config.num_images % (2 * sweep.config.per_prompt):
        raise InvalidRequest(
            f"a search wants two halves of whole prompts, of 16 pictures or more: {sweep.config.num_images} pictures "
            f"at {sweep.config.per_prompt} a prompt are none; use --num-images {64 * sweep.config.per_prompt}"
        )
    if not candidates:
        raise InvalidRequest("one step has a single time, the last: there is nothing to search; use --steps 2,4")
    return [_search(sweep, network, target, candidate, on_progress) for candidate in candidates]


def _search(
    sweep: Sweep, network: FeatureNetwork, target: Moments, candidate: Candidate, on_progress: Progress
) -> Found:
    model = sweep.load(candidate.spec)
    usual = tuple(candidate.plan(model, ("-",), (0,), 1).timesteps.tolist())
    half = sweep.config.num_images // 2
    known: dict[tuple[float, ...], float] = {}

    def seen(times: tuple[float, ...], count: int) -> PictureFeatures:
        moved = candidate if times == usual else replace(candidate, timesteps=times)
        sweep.generate(network, on_progress, [moved], count)
        return sweep.shards(moved, network).read(count)

    def distance(times: tuple[float, ...]) -> float:
        if times not in known:
            known[times] = frechet_distance(target, Moments.of(seen(times, half).features))
        return known[times]

    grid = model.profile.schedule.grid(model.profile.grid.original_inference_steps).tolist()
    times = descend(usual, grid, distance)
    fresh = [seen(which, sweep.config.num_images).features[half:] for which in (usual, times)]
    draws = bootstrap.weights(half // sweep.config.per_prompt, sweep.config.draws)

    def confirmed(features: Tensor) -> Measure:
        def of(weights: Tensor | None) -> float:
            each = None if weights is None else weights.repeat_interleave(sweep.config.per_prompt)
            return frechet_distance(target, Moments.of(features, each))

        return bootstrap.measure(of, draws)

    before, after = (confirmed(features) for features in fresh)
    gain = difference(before, after, paired=True)
    return Found(candidate.steps, usual, times, (known[usual], known[times]), before, after, gain, len(known))


def descend(
    start: Sequence[float], grid: Sequence[float], cost: Callable[[tuple[float, ...]], float], rounds: int = ROUNDS
) -> tuple[float, ...]:
    """Every time but the first moved in turn to the best point of `grid` between its neighbours, until none moves.

    Each is sought by thirds (as consistency models' authors do it, 2303.01469, appendix C): a cost that falls and then
    rises along the grid is asked at a logarithm of its points.
    """
    best = tuple(start)
    cost(best)
    for _ in range(rounds):
        before = best
        for place in range(1, len(best)):
            upper, lower = best[place - 1], best[place + 1] if place + 1 < len(best) else -1
            points = [t for t in grid if lower < t < upper]

            def moved_to(t: float, place: int = place, times: tuple[float, ...] = best) -> float:
                return cost((*times[:place], t, *times[place + 1 :]))

            found = _by_thirds(points, moved_to)
            moved = (*best[:place], found, *best[place + 1 :])
            if cost(moved) < cost(best):
                best = moved
        if best == before:
            break
    assert all(t > s for t, s in pairwise(best))
    return best


def _by_thirds(points: Sequence[float], cost: Callable[[float], float]) -> float:
    low, high = 0, len(points) - 1
    while high - low > 2:
        third = (high - low) // 3
        left, right = low + third, high - third
        if cost(points[left]) <= cost(points[right]):
            high = right - (right > left + 1)
        else:
            low = left + (right > left + 1)
    return min((points[i] for i in range(low, high + 1)), key=cost)
