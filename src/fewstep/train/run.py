"""`train`: a whole run, from a model's name and a folder of pictures to a result that fewstep and diffusers load."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import torch

from fewstep.core.guidance import w_from_guidance_scale
from fewstep.data.building import OnPicture
from fewstep.data.cache_folder import Manifest
from fewstep.data.caching import cached
from fewstep.data.latents import LatentCache
from fewstep.files import Json
from fewstep.models.loading import load
from fewstep.models.model import Model
from fewstep.models.placement import choose_device
from fewstep.models.student import Unadapted
from fewstep.train.config import RunConfig
from fewstep.train.folder import open_folder, write_records
from fewstep.train.loop import batches_of, fit
from fewstep.train.measures import TeacherGap
from fewstep.train.method import Training, training_of
from fewstep.train.processes import Processes
from fewstep.train.resting import resting
from fewstep.train.state import TrainState, exchanged, newest
from fewstep.train.watching import Measure, Watch, joined, watch_of

CACHE = "cache"
PATHS_SEEN = 8  # of the teacher, to measure against


@dataclass(frozen=True)
class Hooks:
    """What a caller may look at: all optional, all called in the main process only.

    picture  with the number of pictures encoded so far, while the cache is built
    began    with what trains, what it trains on, and where it goes on from
    step     with the pictures seen and the step's scalars
    look     with the pictures seen and what was measured, after every sheet
    stop     asked before every step; True ends the run with a checkpoint
    """

    picture: OnPicture | None = None
    began: Callable[[Training, Manifest, int], None] | None = None
    step: Callable[[int, dict[str, float]], None] | None = None
    look: Callable[[int, Mapping[str, float]], None] | None = None
    stop: Callable[[], bool] | None = None


@dataclass(frozen=True)
class Outcome:
    """seen, wanted  pictures, so far and in all
    files        what was exported; none where the run was stopped early
    best         the measures of what was exported, where the best was kept
    manifest     the data, and what was left out of it
    main         whether this is the process that writes files and speaks
    """

    seen: int
    wanted: int
    files: tuple[Path, ...]
    best: Mapping[str, float] | None
    manifest: Manifest
    main: bool = True

    @property
    def finished(self) -> bool:
        return bool(self.files)


def train(config: RunConfig, folder: Path, *, measures: Sequence[Measure] = (), hooks: Hooks | None = None) -> Outcome:
    """Run `config` in `folder`, or go on with the run that is there; export the result when it is at its end.

    measures  called with the model in training at every sheet; each returns numbers by name

    Raises `InvalidConfig`, `InvalidData`, `InUse`, `TrainingDiverged`, `CannotWrite`, and what `load` raises.
    """
    processes = Processes.here(config.device)
    with open_folder(folder, config) if processes.is_main else nullcontext():
        processes.wait()
        return _train(config, folder, measures, hooks or Hooks(), processes)


def _train(config: RunConfig, folder: Path, measures: Sequence[Measure], hooks: Hooks, processes: Processes) -> Outcome:
    model = load_for_training(config, processes)
    cache, manifest = _cached(config, model, folder, processes, hooks.picture)
    training = training_of(config, model, config.name or folder.resolve().name, processes)
    looks = processes.is_main or processes.shards
    watch = _watch(config, training, folder, manifest, measures, hooks) if looks else None
    if processes.is_main:
        facts: dict[str, Json] = {"parameters": training.parameters, "batch": dict(batches_of(config.fit, processes))}
        write_records(folder, config, manifest, facts)
    seen = _seen(folder)
    if watch is not None:
        watch.begin(seen)
        if processes.is_main and hooks.began is not None:
            hooks.began(training, manifest, seen)
    with resting(model, folder, processes.rank) as encoders:
        if watch is not None:
            watch.awake = encoders.awake
        state = fit(
            training.network,
            training.task(cache),
            len(cache),
            config.fit,
            folder,
            on_step=_on_step(watch, hooks),
            target=training.target,
            processes=processes,
            before_step=_before_step(watch, hooks),
            groups=cache.groups(),
        )
        files, best = _finish(training, watch, state, folder)
    return Outcome(state.seen, config.fit.pictures, files, best, manifest, processes.is_main)


def _finish(
    training: Training, watch: Watch | None, state: TrainState, folder: Path
) -> tuple[tuple[Path, ...], Mapping[str, float] | None]:
    """The last look and the export, where the run is at its end: (files, measures of what they hold)."""
    if watch is None or not (state.seen >= training.config.fit.pictures or watch.finished):
        return (), None
    watch.look_now(state)
    return _export(training, watch, state, folder)


def load_for_training(config: RunConfig, processes: Processes | None = None) -> Model:
    """The model that a run begins with: frozen weights in the run's precision."""
    device = choose_device((processes or Processes()).device(config.device))
    return load(config.model, device=device, dtype=config.fit.precision, memory="full")


def _cached(
    config: RunConfig, model: Model, folder: Path, processes: Processes, on_picture: OnPicture | None
) -> tuple[LatentCache, Manifest]:
    """The main process builds the cache, the others wait for it."""
    if not processes.is_main:
        processes.wait()
        return cached(model, config.data, folder / CACHE)
    result = cached(model, config.data, folder / CACHE, on_picture)
    processes.wait()
    return result


def _watch(
    config: RunConfig, training: Training, folder: Path, manifest: Manifest, measures: Sequence[Measure], hooks: Hooks
) -> Watch:
    own = [_teacher_gap(training, manifest, config)] if config.method == "distill" else []
    every = joined([*own, *measures])
    watch = watch_of(
        config.watch, training.student, folder, config.fit.pictures, manifest.examples, every, training.processes
    )
    watch.on_look = hooks.look
    return watch


def _teacher_gap(training: Training, manifest: Manifest, config: RunConfig) -> Measure:
    model = training.student
    teacher = training.teacher.denoise if training.teacher else Unadapted(model.denoise, training.network)
    low, high = training.w_range
    scale = config.watch.guidance_scale
    w = (low + high) / 2 if scale is None or not model.profile.guidance.embedded else w_from_guidance_scale(scale)
    examples = manifest.examples or ("",)
    prompts = tuple(islice(cycle(examples), PATHS_SEEN))  # of one caption, too: the gap is measured by their spread
    return TeacherGap(teacher, model, prompts, w, config.watch.seed, reads_w=training.networks.reads_w)


def _on_step(watch: Watch | None, hooks: Hooks) -> Callable[[int, dict[str, float]], None] | None:
    if watch is None or not watch.processes.is_main:
        return None

    def on_step(seen: int, scalars: dict[str, float]) -> None:
        watch.step(seen, scalars)
        if hooks.step is not None:
            hooks.step(seen, scalars)

    return on_step


def _before_step(watch: Watch | None, hooks: Hooks) -> Callable[[TrainState], bool]:
    def before_step(state: TrainState) -> bool:
        if watch is not None:
            watch.look(state)
        return (watch is not None and watch.finished) or (hooks.stop is not None and hooks.stop())

    return before_step


def _seen(folder: Path) -> int:
    found = newest(folder, prefix="none of them")
    return 0 if found is None else int(found[1]["seen"])


def _export(
    training: Training, watch: Watch, state: TrainState, folder: Path
) -> tuple[tuple[Path, ...], Mapping[str, float] | None]:
    """Write the best weights where they were kept, otherwise the average of the last ones."""
    kept = watch.best_weights()
    row = watch.best_row() if kept is not None else (watch.rows[-1] if watch.rows else None)
    weights = state.ema
    if kept is not None:
        weights = {name: tensor.to(weights[name].device) for name, tensor in kept.items()}
    measured = {name: value for name, value in (row or {}).items() if name != "seen"}
    card = dataclasses.replace(
        training.student.card,
        data=(training.config.data.source,),
        measured={name: round(value, 5) for name, value in measured.items()},
    )
    result = dataclasses.replace(training, student=dataclasses.replace(training.student, card=card))
    with exchanged(training.network, weights), torch.no_grad():
        return tuple(result.export(folder)), row
