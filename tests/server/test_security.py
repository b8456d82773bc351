"""Who is let in, and who is not."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from fewstep.errors import InvalidRequest
from fewstep.models.model import Model
from fewstep.server.addresses import is_loopback
from fewstep.server.security import Access
from serving import Server, serving

TOKEN = "a-long-secret"


@pytest.fixture(scope="module")
def guarded(student: Model) -> Iterator[Server]:
    with serving(student, Access.of("0.0.0.0", TOKEN, ["https://friend.example"])) as running:
        yield running


def test_a_public_address_needs_a_token() -> None:
    for host in ("0.0.0.0", "192.168.1.5", "::", "example.org"):
        with pytest.raises(InvalidRequest, match="set --token"):
            Access.of(host, None)
    with pytest.raises(InvalidRequest, match="too short"):
        Access.of("127.0.0.1", "abc")
    assert all(is_loopback(host) for host in ("localhost", "127.0.0.1", "127.8.8.8", "::1", "[::1]"))


@pytest.mark.parametrize("path", ["/v1/models", "/models", "/sdapi/v1/options", "/metrics", "/openapi.json"])
def test_without_the_token_nothing_is_told(guarded: Server, path: str) -> None:
    assert httpx.get(guarded.url + path).status_code == 401
    assert httpx.get(guarded.url + path, headers={"authorization": "Bearer wrong-secret"}).status_code == 401
    assert httpx.get(guarded.url + path, headers={"authorization": "Basic &&&"}).status_code == 401


def test_every_way_to_show_the_token(guarded: Server) -> None:
    url = f"{guarded.url}/v1/models"
    basic = base64.b64encode(f"me:{TOKEN}".encode()).decode()
    for value in (f"Bearer {TOKEN}", f"Key {TOKEN}", f"Basic {basic}"):
        assert httpx.get(url, headers={"authorization": value}).status_code == 200
    assert httpx.get(url, params={"token": TOKEN}).status_code == 200


def test_the_page_and_the_health_are_open(guarded: Server) -> None:
    for path in ("/", "/docs", "/web/docs.js", "/healthz", "/readyz"):
        assert httpx.get(guarded.url + path).status_code == 200


def test_a_socket_needs_the_token_too(guarded: Server) -> None:
    with pytest.raises(InvalidStatus):
        connect(guarded.live)
    with connect(f"{guarded.live}?token={TOKEN}") as socket:
        assert "hello" in str(socket.recv())
    with connect(guarded.live, subprotocols=["fewstep.v1.json", f"fewstep.token.{TOKEN}"]) as socket:  # type: ignore[list-item]
        assert socket.subprotocol == "fewstep.v1.json"


def test_pages_from_elsewhere_are_kept_out(server: Server, guarded: Server) -> None:
    foreign = {"origin": "https://evil.example"}
    assert httpx.post(f"{server.url}/v1/images/generations", json={"prompt": "x"}, headers=foreign).status_code == 403
    with pytest.raises(InvalidStatus):
        connect(server.live, origin="https://evil.example")  # type: ignore[arg-type]
    assert httpx.get(f"{server.url}/v1/models", headers={"origin": server.url}).status_code == 200
    friend = {"origin": "https://friend.example", "authorization": f"Bearer {TOKEN}"}
    assert httpx.get(f"{guarded.url}/v1/models", headers=friend).status_code == 200


def test_a_page_that_is_allowed_is_let_through_by_its_browser(guarded: Server) -> None:
    """CORS: the preflight, which never shows the token, and the header without which the answer is kept from it."""
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}
    url = f"{guarded.url}/v1/images/generations"
    friend = {"origin": "https://friend.example"}
    preflight = httpx.options(url, headers=friend | asks)
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == "https://friend.example"
    assert preflight.headers["access-control-allow-headers"] == "authorization,content-type"
    assert "POST" in preflight.headers["access-control-allow-methods"]
    answer = httpx.get(f"{guarded.url}/v1/models", headers=friend | {"authorization": f"Bearer {TOKEN}"})
    assert answer.headers["access-control-allow-origin"] == "https://friend.example"
    assert httpx.get(f"{guarded.url}/v1/models", headers=friend).status_code == 401
    foreign = httpx.options(url, headers={"origin": "https://evil.example"} | asks)
    assert foreign.status_code == 403
    assert "access-control-allow-origin" not in foreign.headers


def test_another_name_for_this_machine_is_refused(server: Server) -> None:
    """DNS rebinding: a foreign page whose own name was made to point here."""
    assert httpx.get(f"{server.url}/v1/models", headers={"host": "evil.example"}).status_code == 403
    assert httpx.get(f"{server.url}/v1/models", headers={"host": "localhost:7860"}).status_code == 200


def test_a_body_beyond_the_limit_is_refused(server: Server) -> None:
    url = f"{server.url}/v1/images/generations"
    assert httpx.post(url, content=b"x" * (33 * 2**20)).status_code == 413

    def endless() -> Iterator[bytes]:
        for _ in range(40):
            yield b"x" * 2**20

    with pytest.raises(httpx.HTTPError):  # no length announced: cut off on the way
        httpx.post(url, content=endless()).raise_for_status()


def test_the_page_may_run_nothing_but_its_own(server: Server) -> None:
    for path in ("", "/docs", "/openapi.json"):
        headers = httpx.get(server.url + path).headers
        assert "script-src 'self';" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


def test_readiness_and_metrics(server: Server) -> None:
    assert httpx.get(f"{server.url}/readyz").json()["ready"]
    httpx.post(f"{server.url}/v1/images/generations", json={"prompt": "x"}).raise_for_status()
    text = httpx.get(f"{server.url}/metrics").text
    assert "fewstep_pictures_total" in text
    assert 'fewstep_batch_rows_count{call="denoise"}' in text
    assert httpx.get(f"{server.url}/v1/live/schema").json()["version"] == 1
