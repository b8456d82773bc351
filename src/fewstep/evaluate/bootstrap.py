"""How certain a number is: drawn again and again from its own prompts (Efron 1979), and how two of them differ.

Whole prompts are drawn, not pictures: those of one prompt resemble each other. The draws depend on the number of
prompts alone, so that two candidates, in one run or in two, are drawn alike: their difference is that of pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

SEED = 20_231_106
Z95 = 1.959964  # of a normal distribution, two-sided


@dataclass(frozen=True)
class Measure:
    """A measured value and its values over the draws.

    The interval is `value` -+ 1.96 deviations of the draws and not their quantiles: a Fréchet distance or a coverage of
    a draw, which repeats some pictures and lacks others, is off by a bias that its deviation is free of.
    """

    value: float
    draws: tuple[float, ...] = ()

    @property
    def known(self) -> bool:
        """Whether it is a number at all, in every draw: a ratio to nothing is none."""
        return all(map(math.isfinite, (self.value, *self.draws)))

    @property
    def error(self) -> float:
        """The standard error; NaN without draws."""
        if len(self.draws) < 2:
            return math.nan
        mean = math.fsum(self.draws) / len(self.draws)
        return math.sqrt(math.fsum((draw - mean) ** 2 for draw in self.draws) / (len(self.draws) - 1))

    @property
    def low(self) -> float:
        return self.value - Z95 * self.error

    @property
    def high(self) -> float:
        return self.value + Z95 * self.error


def weights(num_groups: int, draws: int) -> Tensor:
    """(draws, num_groups) float64: how often every draw takes each group."""
    generator = torch.Generator().manual_seed(SEED)
    taken = torch.randint(num_groups, (draws, num_groups), generator=generator)
    counts = torch.zeros(draws, num_groups, dtype=torch.float64)
    return counts.scatter_add_(1, taken, torch.ones_like(taken, dtype=torch.float64))


def measure(of: Callable[[Tensor | None], float], draws: Tensor) -> Measure:
    """A statistic of re-weighed groups (None: each once), with its draws."""
    return Measure(of(None), tuple(of(row) for row in draws))


def mean_of(values: Tensor, draws: Tensor) -> Measure:
    """The mean of one value for each group, (G,)."""
    x = values.double()
    return Measure(float(x.mean()), tuple((draws @ x / draws.sum(1)).tolist()))


def ratio_of(above: Tensor, below: Tensor, draws: Tensor) -> Measure:
    """The ratio of the means of two values for each group, (G,) both."""
    x, y = above.double(), below.double()
    return Measure(float(x.mean() / y.mean()), tuple((draws @ x / (draws @ y)).tolist()))


@dataclass(frozen=True)
class Difference:
    """Between two measures of the same kind: how much, and how many standard errors that is."""

    value: float
    error: float

    @property
    def z(self) -> float:
        return self.value / self.error if self.error > 0 else math.copysign(math.inf, self.value) if self.value else 0.0

    @property
    def p(self) -> float:
        """The two-sided probability of so large a difference by chance alone, under a normal distribution; 1 where the
        error is not known."""
        if math.isnan(self.error):
            return 1.0
        return math.erfc(abs(self.z) / math.sqrt(2))

    @property
    def significant(self) -> bool:
        return self.p < 0.05


def difference(a: Measure, b: Measure, *, paired: bool) -> Difference:
    """a - b. `paired`: both are over the same prompts and seeds, so what they share cancels in every draw."""
    if paired and len(a.draws) == len(b.draws):
        error = Measure(0.0, tuple(x - y for x, y in zip(a.draws, b.draws, strict=True))).error
    else:
        error = math.hypot(a.error, b.error)
    return Difference(a.value - b.value, error)
