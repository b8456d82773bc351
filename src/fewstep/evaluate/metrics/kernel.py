"""The kernel distance (KID) to real pictures and to the teacher's.

What is summed over pairs is first summed within groups of pictures (the prompts), because the bootstrap draws whole
prompts: `bootstrap.py` re-weighs the groups in no time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fewstep.evaluate import bootstrap
from fewstep.evaluate.bootstrap import Measure
from fewstep.evaluate.metrics.base import Metric, Seen, Shown, Yardstick

ROWS_AT_ONCE = 1024


@dataclass(frozen=True, eq=False)
class KernelSums:
    """What an unbiased MMD^2 of grouped pictures to a fixed set is made of (KID: Bińkowski et al. 2018, 1801.01401).

    pairs    (G, G): the kernel summed over the pairs of two groups, a picture with itself left out
    counts   (G, G): how many pairs those are
    across   (G,): the kernel summed over a group's pictures and all of the fixed set, over the set's size
    sizes    (G,): pictures in each group
    fixed    the kernel's mean over the pairs of the fixed set
    """

    pairs: Tensor
    counts: Tensor
    across: Tensor
    sizes: Tensor
    fixed: float

    @classmethod
    def of(
        cls,
        features: Tensor,
        fixed: Tensor,
        group_size: int,
        *,
        paired: bool = False,
        fixed_mean: float | None = None,
    ) -> KernelSums:
        """Of `features`, whose neighbours in rows of `group_size` are groups, against the rows of `fixed`.

        paired      row i of both is from the same noise; such pairs, alike by design, are left out
        fixed_mean  `mean_over_pairs(fixed)`, where it is known
        """
        x, y = features.double(), fixed.double()
        groups = len(x) // group_size
        pairs = torch.empty(groups, groups, dtype=torch.float64)
        across = torch.empty(groups, dtype=torch.float64)
        step = max(1, ROWS_AT_ONCE // group_size)
        for start in range(0, groups, step):
            rows = slice(start * group_size, (start + step) * group_size)
            block = polynomial_kernel(x[rows], x)
            own = torch.arange(len(block))
            block[own, rows.start + own] = 0.0
            pairs[start : start + step] = block.view(-1, group_size, groups, group_size).sum((1, 3))
            other = polynomial_kernel(x[rows], y)
            if paired:
                other[own, rows.start + own] = 0.0
            across[start : start + step] = (other.sum(1) / (len(y) - paired)).view(-1, group_size).sum(1)
        counts = torch.full((groups, groups), float(group_size**2), dtype=torch.float64)
        counts.fill_diagonal_(group_size**2 - group_size)
        return cls(
            pairs,
            counts,
            across,
            torch.full((groups,), float(group_size)).double(),
            mean_over_pairs(y) if fixed_mean is None else fixed_mean,
        )

    def distance(self, weights: Tensor | None = None) -> float:
        """MMD^2 with each group counted `weights` (G,) times, by default once."""
        w = torch.ones_like(self.sizes) if weights is None else weights.double()
        within = (w @ self.pairs @ w) / (w @ self.counts @ w)
        return float(within + self.fixed - 2 * (w @ self.across) / (w @ self.sizes))


def polynomial_kernel(x: Tensor, y: Tensor) -> Tensor:
    """(x . y / D + 1)^3 for all pairs of rows: (N, M)."""
    return (x @ y.T / x.shape[1] + 1.0) ** 3


def mean_over_pairs(y: Tensor) -> float:
    """The kernel's mean over the pairs of different rows of (M, D)."""
    total = sum(float(polynomial_kernel(rows, y).sum()) for rows in y.split(ROWS_AT_ONCE))
    own = float(((y.square().sum(1) / y.shape[1] + 1.0) ** 3).sum())
    return (total - own) / (len(y) * (len(y) - 1))


def _real_mean(yard: Yardstick) -> float:
    assert yard.reference is not None
    return mean_over_pairs(yard.reference.double())


def _to_real(seen: Seen) -> Measure | None:
    if seen.yard.reference is None:
        return None
    fixed_mean = seen.yard.once(_real_mean)
    sums = KernelSums.of(seen.pictures.features, seen.yard.reference, seen.yard.per_prompt, fixed_mean=fixed_mean)
    return bootstrap.measure(sums.distance, seen.yard.draws)


def _to_teacher(seen: Seen) -> Measure | None:
    if seen.teacher is None:
        return None
    sums = KernelSums.of(seen.pictures.features, seen.teacher.features, seen.yard.per_prompt, paired=True)
    return bootstrap.measure(sums.distance, seen.yard.draws)


METRICS = (
    Metric(
        name="kid",
        title="Kernel distance to real pictures (KID)",
        about="The same question by an unbiased kernel estimate, which may be asked of small samples, too.",
        better="lower",
        form="{:.4f}",
        rank=20,
        needs=100,
        against="reference",
        shown=Shown(column=2, short="KID ↓"),
        measure=_to_real,
    ),
    Metric(
        name="kid_teacher",
        title="Kernel distance to the teacher",
        about="The same question by the unbiased kernel estimate.",
        better="lower",
        form="{:.4f}",
        rank=110,
        needs=100,
        against="teacher",
        measure=_to_teacher,
    ),
)
