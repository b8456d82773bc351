"""The server that the tests of its doors share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fewstep.models.bundle import ModelBundle
from serving import Server, serving


@pytest.fixture(scope="package")
def server(student: ModelBundle) -> Iterator[Server]:
    with serving(student) as running:
        yield running
