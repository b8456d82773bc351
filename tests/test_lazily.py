"""Imports that the collector leaves alone."""

from __future__ import annotations

import gc
from importlib import import_module

import pytest

from fewstep.lazily import uncollected


def test_the_collector_is_as_before_afterwards_also_where_an_import_fails() -> None:
    assert gc.isenabled()
    with uncollected():
        assert not gc.isenabled()
    with pytest.raises(ModuleNotFoundError), uncollected():
        import_module("fewstep.nowhere")
    assert gc.isenabled()
    gc.disable()
    try:
        with uncollected():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
