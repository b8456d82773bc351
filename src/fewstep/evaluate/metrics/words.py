"""Whether a picture shows its prompt: the CLIP score, and prompts that are found again."""

from __future__ import annotations

import torch
from torch import Tensor

from fewstep.evaluate import bootstrap
from fewstep.evaluate.bootstrap import Measure
from fewstep.evaluate.metrics.base import Metric, Seen, Shown


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


def _targets(seen: Seen) -> Tensor:
    return torch.arange(len(seen.yard.words)).repeat_interleave(seen.yard.per_prompt)


def _clip_score(seen: Seen) -> Measure:
    score = cosine_score(seen.pictures.embeddings, seen.yard.words[_targets(seen)])
    return bootstrap.mean_of(seen.yard.groups(score), seen.yard.draws)


def _retrieval(seen: Seen) -> Measure:
    found = retrieved(seen.pictures.embeddings, seen.yard.words, _targets(seen))
    return bootstrap.mean_of(seen.yard.groups(found), seen.yard.draws)


RETRIEVAL = Metric(
    name="retrieval",
    title="Prompt found",
    about="The share of pictures whose own prompt is the nearest of all prompts.",
    better="higher",
    form="{:.1%}",
    rank=80,
    needs=50,
    share=True,
    by_size=True,
    shown=Shown(glance=2, column=3, short="prompt found ↑"),
    measure=_retrieval,
)
METRICS = (
    Metric(
        name="clip_score",
        title="CLIP score",
        about="How near the pictures are to their prompts: 100 cos.",
        better="higher",
        form="{:.2f}",
        rank=70,
        needs=50,
        shown=Shown(column=5, short="CLIP ↑"),
        measure=_clip_score,
    ),
    RETRIEVAL,
)
