"""What a pass opens: the doors of the applications that it names, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest
from starlette.routing import Mount, Route, WebSocketRoute
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from fewstep.errors import InvalidRequest
from fewstep.models.model import Model
from fewstep.server.app import create_app
from fewstep.server.doors import doors, own_words
from fewstep.server.doors.base import Services
from fewstep.server.engine import Engine
from fewstep.server.passes import Passes
from fewstep.server.places import Places
from fewstep.server.security import Access
from serving import Server, serving

TOKEN = "a-long-secret"


@pytest.fixture(scope="module")
def guarded(student: Model) -> Iterator[Server]:
    with serving(student, Access.of("127.0.0.1", TOKEN)) as running:
        yield running


@pytest.mark.parametrize("name", ["lcm", "fal-ai/lcm"])
def test_a_pass_opens_every_door_of_its_application(name: str) -> None:
    passes = Passes(own_words())
    shown = passes.grant([name], 60)
    for door in ("", "/stream", "/image-to-image", "/inpainting/stream", "/realtime", "/ws"):
        assert passes.opens(shown, f"/fal-ai/lcm{door}")
    for other in ("/fal-ai/lcm2", "/fal-ai/xlcm/lcm", "/lcm", "/lcm/x", "//lcm", "//fal-ai/lcm", "fal-ai/lcm", "/", ""):
        assert not passes.opens(shown, other)
    assert passes.opens(shown, "/someone/lcm") == (name == "lcm")


@pytest.mark.parametrize(
    "name", ["live", "images", "v1", "proxy", "", "generations", "sdapi", "\n", "fal-ai", "stream"]
)
def test_no_pass_opens_a_door_of_the_server(name: str) -> None:
    """Whatever it names: it is refused, or opens none of them."""
    passes = Passes(own_words())
    try:
        shown = passes.grant([name], 60)
    except InvalidRequest:
        return
    for path in (
        "/v1/live",
        "/v1/live/schema",
        "/v1/images/generations",
        "/images/generations",
        "/models/live",
        "/sdapi/v1/options",
        "/fal/proxy",
        "/tokens/",
        "/tokens/\n",
        "/queue/fal-ai/lcm",
        "/queue/fal-ai/lcm/requests/x",
        "/metrics",
        "/openapi.json",
    ):
        assert not passes.opens(shown, path)


@pytest.mark.parametrize("name", ["", "/", "a/", "/a", "a/b/c", "v1", "v1/live", "fal/proxy", "tokens/x", "x/images"])
def test_no_pass_is_made_for_what_is_no_application(name: str) -> None:
    with pytest.raises(InvalidRequest, match="no application's name"):
        Passes(own_words()).grant(["lcm", name], 60)


def test_every_path_of_the_server_begins_with_a_word_of_its_own(student: Model) -> None:
    """So that none, not even one that is added later, is taken for an application's."""
    engine = Engine(student)
    app = create_app(engine)
    services = Services(engine, Passes(own_words()), Places(engine))
    routes = [*app.routes, *(route for door in doors() for route in door.router(services).routes)]
    paths = {route.path for route in routes if isinstance(route, Route | WebSocketRoute | Mount)}
    assert {"/v1/live", "/images/edits", "/fal/proxy", "/tokens/", "/web", "/metrics"} < paths
    for path in paths | set(app.openapi()["paths"]):
        _, first, *others = path.split("/")
        assert not others or first in own_words() or path.startswith("/{owner}/{app}")


def test_the_server_s_doors_stay_shut_to_passes(guarded: Server) -> None:
    """What once was open: by way of the proxy, whose name was an application's like any other, everything."""
    key = {"authorization": f"Key {TOKEN}"}

    def granted(*apps: str) -> httpx.Response:
        return httpx.post(f"{guarded.url}/tokens/", json={"allowed_apps": apps}, headers=key)

    refused = granted("v1")
    assert refused.status_code == 400
    assert "no application's name" in refused.json()["detail"]
    shown = {"fal_jwt_token": granted("proxy", "live", "generations", "options", "lcm").json()}
    assert httpx.post(f"{guarded.url}/a/lcm", params=shown, json={"prompt": "x"}).status_code == 200
    for path in ("/v1/images/generations", "/images/generations", "/queue/fal-ai/lcm", "/tokens/"):
        assert httpx.post(guarded.url + path, params=shown, json={"prompt": "x"}).status_code == 401
    through = {"x-fal-target-url": "https://rest.fal.ai/tokens/"}
    wish = {"allowed_apps": ["anything"]}
    assert httpx.post(f"{guarded.url}/fal/proxy", params=shown, json=wish, headers=through).status_code == 401
    assert httpx.post(f"{guarded.url}/fal/proxy", json=wish, headers=through | key).status_code == 200
    for door in (f"/v1/live?{httpx.QueryParams(shown)}", "/web/x/realtime", "/a/lcm/realtime"):
        with pytest.raises(InvalidStatus):
            connect(f"ws://{guarded.address}{door}")


@pytest.mark.parametrize("path", ["/images/typo", "/models/typo", "/tokens/typo", "/web/typo", "/web/typo/stream"])
def test_a_misspelt_address_of_a_door_is_no_application(guarded: Server, path: str) -> None:
    headers = {"authorization": f"Key {TOKEN}"}
    answer = httpx.post(guarded.url + path, json={"prompt": "x"}, headers=headers)
    assert answer.status_code in (404, 405)
    assert "images" not in json.loads(answer.text)
