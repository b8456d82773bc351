"""Behind a reverse proxy that shows the server under a path: every address that it tells leads back through there."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

import httpx
import openai
import pytest
import webuiapi
from PIL import Image
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from fewstep.errors import InvalidRequest
from fewstep.models.model import Model
from fewstep.server.protocol import Picture
from fewstep.server.proxy import Proxy
from fewstep.server.security import Access
from reverse_proxy import proxied
from serving import serving

pytestmark = pytest.mark.slow

TOKEN = "a-long-secret"
SHOWN = {"authorization": f"Key {TOKEN}"}
HTTP = httpx.Client(timeout=60)
URLS = ("status_url", "response_url", "cancel_url")
WAYS = {  # how the server learns of the prefix, whether the proxy cuts it off, and what the proxy says
    "stripped, --root-path": (Proxy.of("/lcm/"), True, {}),
    "left, --root-path": (Proxy.of("/lcm"), False, {}),
    "stripped, told": (Proxy.of(None, ["127.0.0.1"]), True, {"X-Forwarded-Prefix": "/lcm"}),
    "twice stripped, told": (Proxy.of("/other", ["127.0.0.0/8"]), True, {"X-Forwarded-Prefix": "/lcm/,/inner/"}),
    "stripped, another name": (
        Proxy.of("/lcm", ["127.0.0.1"]),
        True,
        {"Host": "127.0.0.1:1", "X-Forwarded-Host": "{here}"},
    ),
}


@dataclass(frozen=True)
class Outside:
    """A server as it is seen through the proxy, at `url`, whose path is `prefix`."""

    url: str
    prefix: str

    def get(self, path: str) -> httpx.Response:
        return HTTP.get(self.url + path, headers=SHOWN)

    def post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        return HTTP.post(self.url + path, json=body, headers=SHOWN)


@contextmanager
def seen(
    model: Model, proxy: Proxy, access: Access, prefix: str, says: dict[str, str], *, strips: bool = True
) -> Iterator[Outside]:
    with serving(model, access, proxy=proxy) as server, proxied(server.address, prefix, says, strips=strips) as address:
        yield Outside(f"http://{address}{prefix}", prefix)


@pytest.fixture(scope="module", params=WAYS)
def outside(request: pytest.FixtureRequest, student: Model) -> Iterator[Outside]:
    proxy, strips, says = WAYS[request.param]
    prefix = "".join(part.rstrip("/") for part in says.get("X-Forwarded-Prefix", "/lcm").split(","))
    with seen(student, proxy, Access.of("127.0.0.1", TOKEN), prefix, says, strips=strips) as one:
        yield one


def test_openai_s_client_gets_an_address_that_opens(outside: Outside) -> None:
    with openai.OpenAI(base_url=f"{outside.url}/v1", api_key=TOKEN, max_retries=0) as client:
        answer = client.images.generate(prompt="x", size="32x32", response_format="url")
    url = str(answer.data[0].url)  # type: ignore[index]
    assert url.startswith(f"{outside.url}/v1/images/files/")
    assert Image.open(io.BytesIO(HTTP.get(url).content)).size == (32, 32)


def test_fal_s_queue_tells_where_to_ask(outside: Outside) -> None:
    for path in ("/queue/fal-ai/lcm", "/fal/proxy"):
        target = {"x-fal-target-url": "https://queue.fal.run/fal-ai/lcm"}
        handed = HTTP.post(outside.url + path, json={"prompt": "x"}, headers=SHOWN | target).json()
        assert {handed[name].startswith(f"{outside.url}/queue/fal-ai/lcm/requests/") for name in URLS} == {True}
        until = time.monotonic() + 30
        while HTTP.get(handed["status_url"], headers=SHOWN).status_code == 202 and time.monotonic() < until:
            time.sleep(0.01)
        assert HTTP.get(handed["response_url"], headers=SHOWN).json()["images"]
        assert HTTP.put(handed["cancel_url"], headers=SHOWN).json()["status"] == "ALREADY_COMPLETED"


def test_the_sockets_paint(outside: Outside) -> None:
    live = outside.url.replace("http", "ws") + "/v1/live"
    with connect(live, subprotocols=["fewstep.v1.json", f"fewstep.token.{TOKEN}"]) as socket:  # type: ignore[list-item]
        assert json.loads(socket.recv())["type"] == "hello"
        socket.send(json.dumps({"type": "set", "id": 5, "parameters": {"prompt": "x", "seed": 3}}))
        while isinstance(message := socket.recv(30), str):
            assert json.loads(message)["type"] != "error"
        assert (Picture.from_binary(message).id, Picture.from_binary(message).seed) == (5, 3)
    with pytest.raises(InvalidStatus):
        connect(live)
    with connect(outside.url.replace("http", "ws") + f"/fal-ai/lcm/realtime?token={TOKEN}") as socket:
        socket.send(json.dumps({"prompt": "x"}))
        assert isinstance(socket.recv(30), bytes)


@pytest.mark.parametrize("page", ["/", "/docs"])
def test_a_page_s_own_addresses_lead_back(outside: Outside, page: str) -> None:
    """Also those in its scripts: nothing there begins with a slash."""
    here, seen_already = f"{outside.url}{page}", set()
    waiting = [here]
    while waiting:
        address = waiting.pop()
        answer = HTTP.get(address)
        assert answer.status_code == (401 if address.endswith("openapi.json") else 200), address
        seen_already.add(address)
        if answer.headers["content-type"].partition(";")[0] not in ("text/html", "text/javascript"):
            continue
        assert not re.findall(r"""(?:href|src)="/|(?:fetch|read|URL)\(["'`]/""", answer.text), address
        named = re.findall(r"""(?:href|src)="([^"#?{$]+)|from ["'](\./[^"']+)""", answer.text)
        found = {urljoin(here if tag else address, tag or module) for tag, module in named}
        waiting += [each for each in found if each.startswith(outside.url) and each not in seen_already | {*waiting}]
        assert all(each.startswith((outside.url, "https://")) for each in found), (address, found)
    assert len(seen_already) > 5


def test_the_description_says_where_the_server_is(outside: Outside) -> None:
    assert outside.get("/openapi.json").json()["servers"] == [{"url": outside.prefix}]


def test_the_guard_reads_the_path_inside(outside: Outside) -> None:
    """What is open is open, a pass opens its application and nothing else, and A1111's errors keep their form."""
    assert [HTTP.get(outside.url + path).status_code for path in ("/healthz", "/v1/models")] == [200, 401]
    shown = {"fal_jwt_token": outside.post("/tokens/", {"allowed_apps": ["fal-ai/lcm"]}).json()}
    for path, status in (("/fal-ai/lcm", 200), ("/fal-ai/other", 401), ("/sdapi/v1/txt2img", 401)):
        answer = HTTP.post(outside.url + path, params=shown, json={"prompt": "x"})
        assert answer.status_code == status
    assert outside.post("/sdapi/v1/img2img", {"init_images": ["&"]}).json()["error"] == "invalid_request_error"


def test_a1111_s_client_paints(outside: Outside) -> None:
    api = webuiapi.WebUIApi(baseurl=f"{outside.url}/sdapi/v1", sampler="LCM", steps=4)
    api.set_auth("me", TOKEN)
    assert api.txt2img(prompt="x", width=32, height=32, cfg_scale=8).image.size == (32, 32)
    api.session.close()


def test_the_path_alone_leads_to_the_page(outside: Outside) -> None:
    """As far as the proxy lets the server see it: a relative address on a page at /lcm would miss the path."""
    answer = HTTP.get(f"{outside.url}?token={TOKEN}")
    assert answer.status_code in (200, 307)
    if answer.status_code == 307:
        assert answer.headers["location"] == f"{outside.prefix}/?token={TOKEN}"
    away = outside.get("/docs/")
    assert (away.status_code, away.headers["location"]) == (307, f"{outside.url}/docs")


@pytest.mark.parametrize("proxy", [Proxy(), Proxy.of("", ["10.0.0.0/8", "::1"])])
def test_nobody_else_is_believed(student: Model, proxy: Proxy) -> None:
    says = {"X-Forwarded-Prefix": "/evil", "X-Forwarded-Host": "evil.example"}
    with seen(student, proxy, Access(), "/lcm", says) as outside:
        answer = outside.post("/v1/images/generations", {"prompt": "x", "response_format": "url"})
        assert answer.json()["data"][0]["url"].startswith(outside.url.removesuffix("/lcm") + "/v1/images/files/")


def test_a_trusted_proxy_says_by_which_scheme_it_was_asked(student: Model) -> None:
    says = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "art.example, inner:80", "X-Forwarded-Prefix": "/a/b/"}
    with seen(student, Proxy.of(None, ["127.0.0.1"]), Access(hosts=None), "/x", says) as outside:
        answer = outside.post("/v1/images/generations", {"prompt": "x", "response_format": "url"})
        assert answer.json()["data"][0]["url"].startswith("https://art.example/a/b/v1/images/files/")


@pytest.mark.parametrize("prefix", ["javascript:x", "/a b", "/../up", "/a/./b", "/v1", "/lcm?x", "//evil.example"])
def test_a_path_that_is_none_is_refused(student: Model, prefix: str) -> None:
    with pytest.raises(InvalidRequest, match="the root path is"):
        Proxy.of(prefix)
    if prefix.startswith("//"):
        return  # in a header, empty parts are nothing
    with seen(student, Proxy.of(None, ["127.0.0.1"]), Access(), "/x", {"X-Forwarded-Prefix": prefix}) as outside:
        answer = outside.get("/healthz")
        assert (answer.status_code, "x-forwarded-prefix is" in answer.json()["detail"]) == (400, True)
        with pytest.raises(InvalidStatus):
            connect(outside.url.replace("http", "ws") + "/v1/live")


def test_a_proxy_is_named_by_its_address() -> None:
    with pytest.raises(InvalidRequest, match="'nginx' is no address: give its IP address"):
        Proxy.of(None, ["nginx"])


def test_a_page_that_is_named_may_come_by_its_own_name_without_a_token(student: Model) -> None:
    """Behind a proxy that asks for the password itself; any other name stays refused (DNS rebinding)."""
    access = Access.of("127.0.0.1", None, ["https://art.example"])
    for name, status in (("art.example", 200), ("127.0.0.1", 200), ("evil.example", 403)):
        with seen(student, Proxy.of("/lcm"), access, "/lcm", {"Host": name}) as outside:
            assert outside.get("/v1/models").status_code == status
            page = {"origin": "https://art.example"}
            assert HTTP.get(f"{outside.url}/v1/models", headers=page).status_code == status
