"""The metrics by name: what each is called, which way it is better, how it is written, and what it says."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from fewstep.evaluate.bootstrap import Measure

Better = Literal["lower", "higher", "near zero", "near one"]


@dataclass(frozen=True)
class Metric:
    """A metric: its name for people, its direction, how it is written, and what it says."""

    title: str
    better: Better
    form: str
    about: str
    needs: int = 0
    """Pictures below which it says little; for the Fréchet distances: for each feature."""
    share: bool = False
    """Whether it is a part of a whole, which no interval leaves."""

    def interval(self, measure: Measure) -> tuple[float, float]:
        """Of 95 %; NaN twice where it is not known."""
        if not self.share or math.isnan(measure.error):
            return measure.low, measure.high
        return max(measure.low, 0.0), min(measure.high, 1.0)

    @property
    def percent(self) -> bool:
        return self.form.endswith("%}")

    def written(self, value: float) -> str:
        return self.form.format(value)


METRICS: dict[str, Metric] = {
    "fd": Metric(
        "Fréchet distance to real pictures",
        "lower",
        "{:.2f}",
        "How far the whole set of pictures is from the reference, by mean and covariance of the features.",
        4,
    ),
    "kid": Metric(
        "Kernel distance to real pictures (KID)",
        "lower",
        "{:.4f}",
        "The same question by an unbiased kernel estimate, which may be asked of small samples, too.",
        100,
    ),
    "precision": Metric(
        "Precision",
        "higher",
        "{:.1%}",
        "The share of the pictures that lie among real ones: are they plausible?",
        200,
        share=True,
    ),
    "recall": Metric(
        "Recall",
        "higher",
        "{:.1%}",
        "The share of the real pictures that lie among these: is everything there?",
        200,
        share=True,
    ),
    "density": Metric(
        "Density", "higher", "{:.2f}", "How many real pictures' neighbourhoods a picture lies in, over five.", 200
    ),
    "coverage": Metric(
        "Coverage",
        "higher",
        "{:.1%}",
        "The share of real pictures that have one of these in their neighbourhood.",
        200,
        share=True,
    ),
    "clip_score": Metric("CLIP score", "higher", "{:.2f}", "How near the pictures are to their prompts: 100 cos.", 50),
    "retrieval": Metric(
        "Prompt found",
        "higher",
        "{:.1%}",
        "The share of pictures whose own prompt is the nearest of all prompts.",
        50,
        share=True,
    ),
    "two_part": Metric(
        "Two-part prompts",
        "higher",
        "{:.1%}",
        "The share of a hundred prompts of two parts whose picture shows both.",
        share=True,
    ),
    "two_part_colour": Metric(
        "A colour and a thing",
        "higher",
        "{:.1%}",
        "Of these: that colour dominates, and the picture shows that thing.",
        share=True,
    ),
    "two_part_things": Metric(
        "Two things", "higher", "{:.1%}", "Of these: each half shows one of the two.", share=True
    ),
    "two_part_number": Metric(
        "Two or three of a thing",
        "higher",
        "{:.1%}",
        "Of these: there are so many pieces, and most of them show it.",
        share=True,
    ),
    "fd_teacher": Metric(
        "Fréchet distance to the teacher",
        "lower",
        "{:.2f}",
        "How far the whole set is from the teacher's pictures for the same prompts and noise.",
        4,
    ),
    "kid_teacher": Metric(
        "Kernel distance to the teacher", "lower", "{:.4f}", "The same question by the unbiased kernel estimate.", 100
    ),
    "agreement": Metric(
        "Distance to the teacher's picture",
        "lower",
        "{:.3f}",
        "Between pictures from equal noise, in units of the distance between unrelated ones: 0 the same, 1 unrelated.",
        50,
    ),
    "diversity": Metric(
        "Variety within a prompt",
        "higher",
        "{:.3f}",
        "The mean distance of two pictures for one prompt, in units of the distance between unrelated ones.",
        50,
    ),
    "vendi": Metric(
        "Vendi score within a prompt",
        "higher",
        "{:.2f}",
        "How many different pictures those of one prompt are worth.",
        50,
    ),
    "diversity_ratio": Metric(
        "Variety against the teacher's", "higher", "{:.1%}", "Below 100 % the model is tamer than its teacher.", 50
    ),
    "vendi_ratio": Metric(
        "Vendi score against the teacher's",
        "higher",
        "{:.1%}",
        "The same by the Vendi score, less 1 on both sides.",
        50,
    ),
    "saturation": Metric(
        "Saturation against the teacher's",
        "near zero",
        "{:+.1%}",
        "More or less colour than the teacher's pictures: guidance that is baked in twice burns.",
        50,
    ),
    "contrast": Metric(
        "Contrast against the teacher's",
        "near zero",
        "{:+.1%}",
        "More or less contrast than the teacher's pictures.",
        50,
    ),
}
