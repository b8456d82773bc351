"""Names that a package offers, imported when they are first asked for."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module


@contextmanager
def uncollected() -> Iterator[None]:
    """Around imports of torch and the model libraries: they make a million objects that all stay, and to look through
    them again and again for garbage takes a fifth of the time.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def offered(package: str, homes: Mapping[str, str], rooms: Collection[str] = ()) -> Callable[[str], object]:
    """A `__getattr__` for a package.

    homes  the module of each name
    rooms  modules that are offered as a whole, by their last names
    """
    places = {room.rpartition(".")[2]: room for room in rooms}

    def __getattr__(name: str) -> object:
        if name not in homes and name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        with uncollected():
            value = import_module(places[name]) if name in places else getattr(import_module(homes[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return __getattr__
