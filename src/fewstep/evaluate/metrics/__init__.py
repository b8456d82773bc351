"""The metrics by name: those of the files in this folder, each of which lists its own as `METRICS`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from fewstep.evaluate.metrics.base import Metric


def metrics() -> Mapping[str, Metric]:
    """All of them, in the order in which they are listed."""
    return _in(tuple(__path__))


@cache
def _in(folders: tuple[str, ...]) -> Mapping[str, Metric]:
    modules = [import_module(f"{__name__}.{each.name}") for each in iter_modules(folders)]
    found: list[Metric] = [metric for module in modules for metric in getattr(module, "METRICS", ())]
    return {metric.name: metric for metric in sorted(found, key=lambda metric: (metric.rank, metric.name))}


def placed(place: Callable[[Metric], int]) -> list[Metric]:
    """Those that have a place somewhere, in its order: `placed(lambda metric: metric.shown.glance)`."""
    return sorted(filter(place, metrics().values()), key=place)


def qualities() -> list[Metric]:
    """Those that the recommendation goes by, the best first."""
    return placed(lambda metric: metric.shown.quality)


def led_by_quality(chosen: Iterable[Metric], measured: Callable[[Metric], bool]) -> list[Metric]:
    """Those of `chosen` that were measured, after the first quality that was."""
    leading = next(filter(measured, qualities()), None)
    others = (metric for metric in chosen if measured(metric) and metric is not leading)
    return [*(() if leading is None else (leading,)), *others]
