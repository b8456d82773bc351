"""From what was seen of the pictures to measures of every candidate, each with its uncertainty."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from fewstep.evaluate import bootstrap
from fewstep.evaluate.bootstrap import Measure
from fewstep.evaluate.metric_table import METRICS
from fewstep.evaluate.metrics import (
    KernelSums,
    Neighbourhoods,
    cosine_score,
    mean_over_pairs,
    mean_pairwise_distance,
    neighbourhood_radii,
    retrieved,
    vendi_score,
)
from fewstep.evaluate.moments import Moments, frechet_distance
from fewstep.evaluate.shards import PictureFeatures

MOST_AT_ONCE = 512  # features above which a Fréchet distance takes seconds, so that fewer draws must do
FEW_DRAWS = 20


@dataclass(frozen=True, eq=False)
class Yardstick:
    """What candidates are measured against, computed once.

    reference  features (M, D) of real pictures, or None
    teacher    what was seen of the teacher's pictures, or None
    words      embeddings (P, E) of the prompts
    """

    reference: Tensor | None
    teacher: PictureFeatures | None
    words: Tensor
    per_prompt: int
    num_draws: int

    @cached_property
    def draws(self) -> Tensor:
        return bootstrap.weights(len(self.words), self.num_draws)

    @cached_property
    def radii(self) -> Tensor:
        assert self.reference is not None
        return neighbourhood_radii(self.reference.double())

    @cached_property
    def real(self) -> Moments:
        assert self.reference is not None
        return Moments.of(self.reference)

    @cached_property
    def real_kernel(self) -> float:
        assert self.reference is not None
        return mean_over_pairs(self.reference.double())

    @cached_property
    def teachers(self) -> list[Moments]:
        """Of the teacher's pictures: all of them, then every draw; drawn like the candidates'."""
        assert self.teacher is not None
        return [self.moments(self.teacher, None), *(self.moments(self.teacher, row) for row in self.few_draws)]

    @property
    def few_draws(self) -> Tensor:
        """The draws that Fréchet distances are given."""
        sample = (
            self.reference if self.reference is not None else None if self.teacher is None else self.teacher.features
        )
        wide = sample is not None and sample.shape[1] > MOST_AT_ONCE
        return self.draws[:FEW_DRAWS] if wide else self.draws

    @cached_property
    def unrelated(self) -> float:
        """The mean distance between pictures of different prompts: of the teacher, or of the reference."""
        x = self.teacher.features[:: self.per_prompt] if self.teacher is not None else self.reference
        assert x is not None
        return float(mean_pairwise_distance(x[:2048]))

    def moments(self, pictures: PictureFeatures, weights: Tensor | None) -> Moments:
        return Moments.of(pictures.features, None if weights is None else weights.repeat_interleave(self.per_prompt))

    def groups(self, values: Tensor) -> Tensor:
        """One value a picture (N,) to the means for each prompt (P,)."""
        return values.double().view(-1, self.per_prompt).mean(1)


def measures_of(pictures: PictureFeatures, yard: Yardstick, *, is_teacher: bool = False) -> dict[str, Measure]:
    """All measures of a candidate that `yard` allows, by their names in `METRICS`; the teacher is not compared with
    itself."""
    found = dict(_words(pictures, yard))
    if yard.reference is not None:
        found |= _against_reference(pictures, yard, yard.reference)
    if yard.teacher is not None and not is_teacher:
        found |= _against_teacher(pictures, yard, yard.teacher)
    if yard.per_prompt > 1:
        found |= _variety(pictures, yard, is_teacher=is_teacher)
    return {name: found[name] for name in METRICS if name in found and found[name].known}


def _words(pictures: PictureFeatures, yard: Yardstick) -> Iterator[tuple[str, Measure]]:
    targets = torch.arange(len(yard.words)).repeat_interleave(yard.per_prompt)
    score = cosine_score(pictures.embeddings, yard.words[targets])
    yield "clip_score", bootstrap.mean_of(yard.groups(score), yard.draws)
    yield "retrieval", bootstrap.mean_of(yard.groups(retrieved(pictures.embeddings, yard.words, targets)), yard.draws)


def _against_reference(pictures: PictureFeatures, yard: Yardstick, reference: Tensor) -> dict[str, Measure]:
    def fd(weights: Tensor | None) -> float:
        return frechet_distance(yard.real, yard.moments(pictures, weights))

    kernel = KernelSums.of(pictures.features, reference, yard.per_prompt, fixed_mean=yard.real_kernel)
    near = Neighbourhoods.of(pictures.features, reference, yard.per_prompt, yard.radii)
    return {
        "fd": bootstrap.measure(fd, yard.few_draws),
        "kid": bootstrap.measure(kernel.distance, yard.draws),
        "precision": bootstrap.mean_of(yard.groups(near.precise), yard.draws),
        "recall": bootstrap.measure(near.recall, yard.draws),
        "density": bootstrap.mean_of(yard.groups(near.dense), yard.draws),
        "coverage": bootstrap.measure(near.coverage, yard.draws),
    }


def _against_teacher(pictures: PictureFeatures, yard: Yardstick, teacher: PictureFeatures) -> dict[str, Measure]:
    apart = (pictures.features.double() - teacher.features.double()).norm(dim=1) / yard.unrelated
    pairs = zip([None, *yard.few_draws], yard.teachers, strict=True)
    fd = [frechet_distance(theirs, yard.moments(pictures, weights)) for weights, theirs in pairs]
    kernel = KernelSums.of(pictures.features, teacher.features, yard.per_prompt, paired=True)
    return {
        "fd_teacher": Measure(fd[0], tuple(fd[1:])),
        "kid_teacher": bootstrap.measure(kernel.distance, yard.draws),
        "agreement": bootstrap.mean_of(yard.groups(apart), yard.draws),
        "saturation": _drift(pictures.chroma, teacher.chroma, yard),
        "contrast": _drift(pictures.contrast, teacher.contrast, yard),
    }


def _drift(ours: Tensor, theirs: Tensor, yard: Yardstick) -> Measure:
    ratio = bootstrap.ratio_of(yard.groups(ours), yard.groups(theirs), yard.draws)
    return Measure(ratio.value - 1, tuple(draw - 1 for draw in ratio.draws))


def _variety(pictures: PictureFeatures, yard: Yardstick, *, is_teacher: bool) -> dict[str, Measure]:
    def by_prompt(of: Callable[[Tensor], Tensor], seen: PictureFeatures) -> Tensor:
        return of(seen.features.view(-1, yard.per_prompt, seen.features.shape[1]))

    vendi = by_prompt(vendi_score, pictures)
    found = {"vendi": bootstrap.mean_of(vendi, yard.draws)}
    if yard.teacher is None and yard.reference is None:
        return found
    apart = by_prompt(mean_pairwise_distance, pictures) / yard.unrelated
    found["diversity"] = bootstrap.mean_of(apart, yard.draws)
    if yard.teacher is not None and not is_teacher:
        theirs = by_prompt(mean_pairwise_distance, yard.teacher) / yard.unrelated
        found["diversity_ratio"] = bootstrap.ratio_of(apart, theirs, yard.draws)
        theirs = by_prompt(vendi_score, yard.teacher)
        found["vendi_ratio"] = bootstrap.ratio_of(vendi - 1, theirs - 1, yard.draws)
    return found


def warnings_for(num_images: int, num_features: int, per_prompt: int, names: list[str]) -> list[str]:
    """What the sample is too small for, a sentence each."""
    found = []
    frechet = [METRICS[name].title for name in ("fd", "fd_teacher") if name in names]
    enough = METRICS["fd"].needs * num_features
    if frechet and num_images < enough:
        found.append(
            f"{num_images} pictures are few for a Fréchet distance over {num_features} features (below {enough}): it "
            "is too large by a bias that falls with the number of pictures, so compare it at equal numbers only; the "
            "kernel distance has no such bias"
        )
    few = [METRICS[name].title for name in names if not name.startswith("fd") and num_images < METRICS[name].needs]
    if few:
        more = f", and {len(few) - 3} more" if len(few) > 4 else ""
        found.append(f"{num_images} pictures are few for: {', '.join(few[: 3 if more else None])}{more}")
    if per_prompt < 2:
        found.append("one picture of each prompt says nothing about variety: use --per-prompt 4")
    return found
