"""The pictures of a report: one prompt across all candidates, one prompt again and again, and what may be memorised."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from PIL.Image import Image

from fewstep.evaluate.features import FeatureNetwork
from fewstep.evaluate.reference import Reference
from fewstep.evaluate.results import Results
from fewstep.evaluate.sweep import SHOWN, Sweep

STRIPS = 3  # prompts whose variety is shown
NEAREST = 8
SAMPLE = 2_000  # real pictures over which the usual distance of neighbours is taken


@dataclass(frozen=True, eq=False)
class Twin:
    """A generated picture beside the real one that it is nearest to.

    closeness  their distance over the median distance of a real picture to its nearest other: well below 1 is a copy
    """

    generated: Image
    prompt: str
    real: Image
    name: str
    closeness: float


@dataclass(frozen=True, eq=False)
class Gallery:
    """grid: by label, a picture of each of `prompts`; strips: by prompt and label, several pictures; twins: those
    nearest to real ones."""

    prompts: tuple[str, ...]
    grid: dict[str, list[Image]]
    strips: dict[str, dict[str, list[Image]]]
    twins: tuple[Twin, ...] = ()
    twins_of: str = ""
    copies: float | None = None
    """The share of the pictures that are nearer to a real one than nine in ten real ones are to each other."""

    @classmethod
    def of(cls, sweep: Sweep, network: FeatureNetwork, reference: Reference | None, results: Results) -> Gallery:
        """From the kept pictures of a sweep; the twins are generated again, from their prompts and noise."""
        each = sweep.config.per_prompt
        prompts = sweep.prompts.texts[:SHOWN]
        stores = {candidate.label: sweep.shards(candidate, network) for candidate in sweep.candidates}
        strips = {
            text: {
                row.label: [stores[row.label].picture(index * each + n) for n in range(each)]
                for row in results.rows
                if row.role in ("teacher", "model", "also")
            }
            for index, text in enumerate(prompts[: STRIPS if each > 1 else 0])
        }
        grid = {
            label: [shards.picture(index * each) for index in range(len(prompts))] for label, shards in stores.items()
        }
        twins = _twins(sweep, network, reference, results) if reference is not None and reference.pictures else None
        return cls(prompts, grid, strips, *(twins or ()))


def _twins(
    sweep: Sweep, network: FeatureNetwork, reference: Reference, results: Results
) -> tuple[tuple[Twin, ...], str, float]:
    final = results.recommendation.get("final")
    candidate = next(c for c in sweep.candidates if c.role == "model" and final in (None, c.steps))
    ours = sweep.shards(candidate, network).read(sweep.config.num_images).features.double()
    real = reference.features.double()
    nearest = torch.cat([torch.cdist(rows, real) for rows in ours.split(512)]).min(1)
    usual = _neighbours(real)
    order = nearest.values.argsort()[:NEAREST].tolist()
    images = sweep.images(candidate, sweep.load(candidate.spec), order)
    assert reference.pictures is not None
    twins = []
    for number, image in zip(order, images, strict=True):
        picture, name = reference.pictures(int(nearest.indices[number]))
        closeness = float(nearest.values[number] / usual.median())
        twins.append(Twin(image, sweep.texts([number])[0], picture, name, closeness))
    copies = float((nearest.values < usual.quantile(0.1)).double().mean())
    return tuple(twins), candidate.label, copies


def _neighbours(real: torch.Tensor) -> torch.Tensor:
    """(M',): the distances of some real pictures to their nearest other ones."""
    some = real[:: max(1, len(real) // SAMPLE)]
    far = torch.cdist(some, real)
    return far.kthvalue(2, dim=1).values  # the first is the picture itself
