"""The pictures of all candidates, from the same prompts and noise, in pieces, by any number of processes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import torch
from PIL.Image import Image
from torch import Tensor

from fewstep.errors import InvalidRequest
from fewstep.evaluate.candidates import Candidate, ModelSpec, check_comparable, line_up
from fewstep.evaluate.config import AUTO, NONE, EvaluateConfig
from fewstep.evaluate.features import FeatureNetwork
from fewstep.evaluate.prompts import Prompts
from fewstep.evaluate.shards import PictureFeatures, Shards
from fewstep.evaluate.speed import Speed, measure_speed
from fewstep.files import replacing
from fewstep.imaging.pixels import to_pixels
from fewstep.models.latent_model import LatentModel
from fewstep.models.loading import load
from fewstep.models.locating import BUILT_IN as BUILT_IN_MODELS
from fewstep.pipelines.generate import generate_plan

SHOWN = 8  # prompts whose pictures the report shows
LUMA = (0.299, 0.587, 0.114)
WIDEST_VARIATION = 1e-6  # of a picture that is all of one colour


class Progress(Protocol):
    """Told what is being done and how far it is."""

    def __call__(self, what: str, done: int, total: int) -> None: ...


@dataclass(frozen=True)
class Team:
    """The processes that share a run, as `accelerate launch` starts them; alone without it."""

    rank: int
    size: int
    wait: Callable[[], None]
    device: str | None = None

    @classmethod
    def of_environment(cls) -> Team:
        import os

        if int(os.environ.get("WORLD_SIZE", "1")) < 2:
            return cls(0, 1, lambda: None)
        from accelerate import PartialState

        state = PartialState()
        return cls(state.process_index, state.num_processes, state.wait_for_everyone, str(state.device))


class Sweep:
    """One evaluation's candidates, with the pieces of their pictures under `folder`."""

    def __init__(self, config: EvaluateConfig, prompts: Prompts, folder: Path, team: Team) -> None:
        self.config, self.folder, self.team = config, folder, team
        self.all_prompts, self.prompts = prompts, prompts.first(config.num_prompts)
        self._loaded = lru_cache(maxsize=2)(self._load)
        self.model = ModelSpec.of(config.model)
        self.teacher = self._teacher()
        check_comparable([self.load(spec) for spec in self.specs])
        self.candidates = line_up(
            self.model,
            self.teacher,
            [ModelSpec.of(text) for text in config.also],
            config.steps,
            teacher_steps=config.teacher_steps,
            guidance_scale=config.guidance_scale,
            solvers=config.solvers,
            load=self.load,
        )
        for candidate in self.candidates:
            candidate.plan(self.load(candidate.spec), self.prompts.texts[:1], (0,), 1)

    @property
    def specs(self) -> list[ModelSpec]:
        """What is loaded, each once."""
        wanted = (self.model, *(() if self.teacher is None else (self.teacher,)), *map(ModelSpec.of, self.config.also))
        return list(dict.fromkeys(wanted))

    def load(self, spec: ModelSpec) -> LatentModel:
        """Once for all ways to sample it; the last two stay in memory."""
        return self._loaded(replace(spec, sampler=None))

    def _load(self, spec: ModelSpec) -> LatentModel:
        device = self.config.device or self.team.device
        return load(spec.name, device=device, dtype=self.config.dtype, loras=spec.loras)

    def _teacher(self) -> ModelSpec | None:
        if self.config.teacher == NONE:
            return None
        if self.config.teacher != AUTO:
            return ModelSpec.of(self.config.teacher)
        named = self.load(self.model).card.teacher
        return ModelSpec(named) if named in BUILT_IN_MODELS else None

    def seeds(self, numbers: Sequence[int]) -> list[int]:
        """Every picture has its own noise, and picture number i of every candidate the same."""
        return [self.config.seed + number for number in numbers]

    def texts(self, numbers: Sequence[int]) -> list[str]:
        return [self.all_prompts.texts[number // self.config.per_prompt] for number in numbers]

    def shards(self, candidate: Candidate, network: FeatureNetwork) -> Shards:
        """Where the pieces of a candidate are, whatever number of pictures is asked for."""
        model = self.load(candidate.spec)
        size = candidate.plan(model, ("-",), (0,), self.config.batch_size).batch_size
        text = "\n".join(self.all_prompts.texts)
        key = candidate.key(model, network.identity, text, self.config.seed, self.config.per_prompt, size)
        return Shards(self.folder / key, size)

    def generate(
        self,
        network: FeatureNetwork,
        on_progress: Progress,
        candidates: Sequence[Candidate] | None = None,
        count: int | None = None,
    ) -> None:
        """All pieces that are missing, this process's share of them; returns when every process has finished.

        candidates, count  others than all, and another number of pictures than the configuration's
        """
        count = count or self.config.num_images
        order = self.specs
        chosen = sorted(candidates or self.candidates, key=lambda candidate: order.index(candidate.spec))
        stores = [(candidate, self.shards(candidate, network)) for candidate in chosen]
        if self.team.rank == 0:
            for _, shards in stores:
                shards.drop_damaged(count)
        self.team.wait()
        for candidate, shards in stores:
            model = self.load(candidate.spec)
            on_progress(candidate.label, 0, count)
            for unit in shards.missing(count):
                if unit % self.team.size == self.team.rank:
                    self._generate_unit(candidate, model, shards, unit, network)
                    on_progress(candidate.label, min((unit + 1) * shards.size, count), count)
            on_progress(candidate.label, count, count)
        self.team.wait()

    def _generate_unit(
        self, candidate: Candidate, model: LatentModel, shards: Shards, unit: int, network: FeatureNetwork
    ) -> None:
        last = len(self.all_prompts.texts) * self.config.per_prompt
        numbers = range(unit * shards.size, min((unit + 1) * shards.size, last))
        images = self.images(candidate, model, numbers)
        shown = {n: image for n, image in zip(numbers, images, strict=True) if n < SHOWN * self.config.per_prompt}
        shards.write(unit, look(images, network, model.traits.default_size), shown)

    def images(self, candidate: Candidate, model: LatentModel, numbers: Sequence[int]) -> list[Image]:
        """The pictures of these numbers, in one batch."""
        plan = candidate.plan(model, self.texts(numbers), self.seeds(numbers), len(numbers))
        return generate_plan(model, plan)

    def speeds(self, on_progress: Progress) -> list[Speed]:
        """Of all candidates; measured once, by the first process alone, and kept."""
        file = self.folder / f"speed-{self._speed_key()}.json"
        if self.team.rank == 0 and not file.is_file():
            self._measure_speeds(file, on_progress)
        self.team.wait()
        return [Speed(**row) for row in json.loads(file.read_text())]

    def _measure_speeds(self, file: Path, on_progress: Progress) -> None:
        found: dict[Candidate, Speed] = {}
        for spec in self.specs:
            model = self.load(spec)
            group = [candidate for candidate in self.candidates if candidate.spec == spec]
            if not group:
                continue

            def timed(done: int, total: int, what: str = f"timing {spec}") -> None:
                on_progress(what, done, total)

            size = group[0].plan(model, ("-",), (0,), self.config.batch_size).batch_size
            found |= dict(
                zip(
                    group, measure_speed(group, model, self.prompts.texts, size, self.config.rounds, timed), strict=True
                )
            )
        with replacing(file) as partial:
            partial.write_text(json.dumps([asdict(found[candidate]) for candidate in self.candidates]))

    def _speed_key(self) -> str:
        import hashlib

        keys = [
            c.key(self.load(c.spec), self.config.batch_size, self.config.rounds, torch.get_num_threads())
            for c in self.candidates
        ]
        return hashlib.sha256(" ".join(keys).encode()).hexdigest()[:16]

    def features(self, network: FeatureNetwork) -> Iterator[tuple[Candidate, PictureFeatures]]:
        """What was seen of every candidate, one at a time."""
        for candidate in self.candidates:
            yield candidate, self.shards(candidate, network).read(self.config.num_images)


def look(images: Sequence[Image], network: FeatureNetwork, size: tuple[int, int]) -> PictureFeatures:
    """What is kept of generated pictures: they are looked at as they would be saved, in 8 bits."""
    pixels = torch.cat([to_pixels(image, *size) for image in images])
    seen = network.look(pixels)
    levels = pixels / 2 + 0.5
    chroma = (levels.amax(1) - levels.amin(1)).mean((1, 2))
    luma = (levels * torch.tensor(LUMA).view(1, 3, 1, 1)).sum(1).flatten(1)
    flat = luma.std(1) < WIDEST_VARIATION
    return PictureFeatures(
        seen.features, seen.embeddings, chroma, luma.std(1), flat & (_spread(levels) < WIDEST_VARIATION)
    )


def _spread(levels: Tensor) -> Tensor:
    """(B,): the widest difference between a picture's pixels in one channel."""
    flat = levels.flatten(2)
    return (flat.amax(2) - flat.amin(2)).amax(1)


def check_not_blank(pictures: PictureFeatures, candidate: Candidate) -> None:
    """Raises `InvalidRequest` where a candidate draws a blank: all black, all white, all one colour."""
    if bool(pictures.flat.all()):
        raise InvalidRequest(
            f"every picture of {candidate.label} is of one colour (all black?): the model is broken, or overflows in "
            "its precision; try --dtype float32"
        )
