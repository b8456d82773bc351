"""The doors of the server, one file or folder each: whatever lies here and has a `DOOR` is included.

The modules are imported when the doors are first asked for, for some of them need what asks.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from fewstep.server.doors.base import Door

_SERVERS_OWN = frozenset(("v1", "web"))


def doors() -> tuple[Door, ...]:
    """All of them, in the order in which they are asked for a route."""
    return _in(tuple(__path__))


@cache
def _in(folders: tuple[str, ...]) -> tuple[Door, ...]:
    modules = [import_module(f"{__name__}.{each.name}") for each in iter_modules(folders)]
    found: list[Door] = [module.DOOR for module in modules if hasattr(module, "DOOR")]
    return tuple(sorted(found, key=lambda door: (door.rank, door.name)))


def door_of(path: str) -> Door | None:
    """The one that a path belongs to, by the longest of its prefixes."""
    found = [(len(prefix), door) for door in doors() for prefix in door.prefixes if f"{path}/".startswith(f"{prefix}/")]
    return max(found, key=lambda each: each[0])[1] if found else None


def own_words() -> frozenset[str]:
    """First words of the paths that are the server's own; under any other one, `/{owner}/{app}` is an application's."""
    return _SERVERS_OWN | {prefix.split("/")[1] for door in doors() for prefix in door.prefixes}
