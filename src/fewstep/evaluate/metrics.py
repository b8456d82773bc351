"""The measures that are formulae over features: kernel distance, neighbourhoods, variety, words.

All take features as rows (N, D) and compute in float64. What is summed over pairs is first summed within groups of
pictures (the prompts), because the bootstrap draws whole prompts: `bootstrap.py` re-weighs the groups in no time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

NEIGHBOURS = 5  # k of the neighbourhoods, as Naeem et al. have it
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


@dataclass(frozen=True, eq=False)
class Neighbourhoods:
    """Who lies among whom: precision and recall (Kynkäänniemi et al. 2019, 1904.06991), density and coverage (Naeem
    et al. 2020, 2002.09797), over balls that reach to the `NEIGHBOURS`-th nearest neighbour in a picture's own set.

    precise  (N,): 1 where a picture lies in some ball of the reference
    dense    (N,): in how many of them, over k
    recalls  (G, M): whether any picture of the group has the reference's picture in its ball
    covers   (G, M): whether any picture of the group lies in its ball
    nearest  (N,) int64: the reference's picture that is nearest, and `nearest_distance` (N,) to it
    """

    precise: Tensor
    dense: Tensor
    recalls: Tensor
    covers: Tensor
    nearest: Tensor
    nearest_distance: Tensor

    @classmethod
    def of(cls, features: Tensor, reference: Tensor, group_size: int, radii: Tensor | None = None) -> Neighbourhoods:
        """Of pictures, whose neighbours in rows of `group_size` are groups; `radii` of the reference where known."""
        x, y = features.double(), reference.double()
        theirs = neighbourhood_radii(y) if radii is None else radii
        ours = neighbourhood_radii(x)
        step = max(1, ROWS_AT_ONCE // group_size) * group_size
        parts = []
        for start in range(0, len(x), step):
            rows = slice(start, start + step)
            far = torch.cdist(x[rows], y, compute_mode="donot_use_mm_for_euclid_dist")
            within = far < theirs
            nearest = far.min(1)
            parts.append(
                (
                    within.any(1).double(),
                    within.sum(1).double() / NEIGHBOURS,
                    (far < ours[rows, None]).view(-1, group_size, len(y)).any(1),
                    within.view(-1, group_size, len(y)).any(1),
                    nearest.indices,
                    nearest.values,
                )
            )
        return cls(*(torch.cat(part) for part in zip(*parts, strict=True)))

    def recall(self, weights: Tensor | None = None) -> float:
        """The share of the reference that lies in a ball of some picture; groups of weight 0 are not there."""
        return _share_reached(self.recalls, weights)

    def coverage(self, weights: Tensor | None = None) -> float:
        """The share of the reference's balls that hold some picture; groups of weight 0 are not there."""
        return _share_reached(self.covers, weights)


def _share_reached(reached: Tensor, weights: Tensor | None) -> float:
    return float((reached if weights is None else reached[weights > 0]).any(0).double().mean())


def neighbourhood_radii(x: Tensor) -> Tensor:
    """(N,): how far each row's `NEIGHBOURS`-th nearest other row is (the last one's, where there are fewer)."""
    k = min(NEIGHBOURS, len(x) - 1) + 1  # the first is the row itself
    blocks = (torch.cdist(rows, x, compute_mode="donot_use_mm_for_euclid_dist") for rows in x.split(ROWS_AT_ONCE))
    return torch.cat([far.kthvalue(k, dim=1).values for far in blocks])


def vendi_score(features: Tensor) -> Tensor:
    """exp(entropy of the eigenvalues of K / n), K the cosine similarities (Friedman & Dieng 2022, 2210.02410): how many
    different pictures a set is worth, from 1 (all the same) to n (nothing in common).

    features: (..., n, D); returns (...).
    """
    x = torch.nn.functional.normalize(features.double(), dim=-1)
    values = torch.linalg.eigvalsh(x @ x.mT / x.shape[-2]).clamp(min=0)
    return torch.special.entr(values).sum(-1).exp()


def mean_pairwise_distance(features: Tensor) -> Tensor:
    """The mean Euclidean distance over the pairs of a set: (..., n, D), n of at least 2, to (...)."""
    x, n = features.double(), features.shape[-2]
    return torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").sum((-2, -1)) / (n * (n - 1))


def cosine_score(pictures: Tensor, words: Tensor) -> Tensor:
    """100 cos for each picture and its words, negative values as 0 (CLIP score: Hessel et al. 2021, 2104.08718; as in
    torchmetrics, with a factor of 100). Both (N, E)."""
    return 100.0 * torch.nn.functional.cosine_similarity(pictures.double(), words.double(), dim=1).clamp(min=0)


def retrieved(pictures: Tensor, words: Tensor, targets: Tensor) -> Tensor:
    """(N,): 1 where no other words (P, E) are as near to the picture (N, E) as its own, words[targets]."""
    near = (
        torch.nn.functional.normalize(pictures.double(), dim=1) @ torch.nn.functional.normalize(words.double(), dim=1).T
    )
    own = near.gather(1, targets[:, None])
    return ((near >= own).sum(1) == 1).double()
