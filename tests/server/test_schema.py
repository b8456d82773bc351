"""The HTTP schema, fuzzed: whatever is sent, the answer is one of ours and the network lives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import httpx
import pytest
from hypothesis import HealthCheck, given, settings

from fewstep.models.model import Model
from fewstep.server.app import create_app
from fewstep.server.doors import doors, own_words
from fewstep.server.doors.base import Services
from fewstep.server.doors.fal.addresses import PROXY
from fewstep.server.passes import Passes
from fewstep.server.places import Places
from serving import Server, serving

if TYPE_CHECKING:
    from schemathesis import Case


@pytest.fixture(scope="module")
def small(student: Model) -> Iterator[Server]:
    """A server that paints small pictures alone, so that the fuzzing does not wait for large ones."""
    with serving(student, max_pixels=64 * 64) as running:
        yield running


def without_tail(path: str) -> str:
    """Of one of fal's: what its applications call by another name when it starts from a picture."""
    return path.replace("/image-to-image", "").replace("/inpainting", "")


def test_every_door_is_in_the_schema(small: Server) -> None:
    """What is not described is a page, or a second name of something that is."""
    described = httpx.get(f"{small.url}/openapi.json").json()["paths"]
    services = Services(small.engine, Passes(own_words()), Places(small.engine))
    routers = [door.router(services) for door in doors()]
    routes = [*create_app(small.engine).routes, *(route for router in routers for route in router.routes)]
    paths = {getattr(route, "path_format", route.path) for route in routes if hasattr(route, "path")}
    hidden = {path for path in paths if path not in described}
    again = {path for path in hidden if f"/v1{path}" in described or without_tail(path) in described}
    assert hidden - again == {
        "/",
        "/docs",
        "/openapi.json",
        "/v1/live",
        "/web/{path}",
        "/{owner}/{app}/{path}",
        PROXY,
    }
    assert {"/v1/images/edits", "/sdapi/v1/img2img", "/{owner}/{app}", "/v1/live/schema", "/metrics"} <= {*described}


def test_a_picture_beyond_the_limit_is_refused(small: Server) -> None:
    answer = httpx.post(f"{small.url}/v1/images/generations", json={"prompt": "x", "size": "128x128"})
    assert answer.status_code == 400
    assert "at most 4096 pixels" in answer.json()["error"]["message"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the fuzzer's own
def test_whatever_is_sent_the_answer_is_no_mistake_of_ours(small: Server) -> None:
    import schemathesis  # here, because it takes a second

    @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
    def fuzz(case: Case) -> None:
        assert case.call(timeout=60).status_code < 500

    schema = schemathesis.openapi.from_url(f"{small.url}/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    for operation in operations:
        given(case=operation.as_strategy())(fuzz)()
    assert len(operations) > 30
    assert httpx.get(f"{small.url}/readyz").json()["ready"]
