"""`--server URL`: a server that runs already generates, and nothing is loaded here."""

from __future__ import annotations

import base64
import io
import ipaddress
import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.client import HTTPException, HTTPMessage
from typing import IO, TYPE_CHECKING, TypedDict
from urllib.error import HTTPError, URLError
from urllib.parse import parse_qs, urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, ProxyHandler, build_opener
from urllib.request import Request as HttpRequest

from fewstep.errors import FewstepError, FewstepWarning, InvalidRequest
from fewstep.files import Json
from fewstep.imaging.reading import decode_image
from fewstep.pipelines.fields import settings_of

if TYPE_CHECKING:
    from PIL.Image import Image

    from fewstep.pipelines.request import Request

PATIENCE = 120.0  # seconds without any news
AT_ONCE = 16  # pictures in one call


class News(TypedDict, total=False):
    """A line of the server's answer."""

    error: str
    advice: list[str]
    num_steps: int
    stepped: int
    painted: int
    png: str


class ServerTrouble(FewstepError):
    """The server is not there, refuses, or breaks off."""


def generated_by(
    url: str,
    request: Request,
    model: str | None,
    loras: Mapping[str, float],
    on_expected: Callable[[int], None],
    on_step: Callable[[], None],
) -> Iterator[Image]:
    """The pictures of a request, in their order, each with its parameters; the server's advice becomes warnings.

    url    as `fewstep serve` prints it; a token in it, or in FEWSTEP_TOKEN, is shown to the server
    model  the name of one of its models; None: its first

    Raises `ServerTrouble`, and `InvalidRequest` for what is no address.
    """
    fields = {"model": model, "loras": dict(loras) or None, **_fields(request)}
    for start in range(0, len(request.seeds), AT_ONCE):
        rows: dict[str, Json] = {"prompt": request.prompts[start], "seed": request.seeds[start]}
        if request.variation_seeds:
            rows |= {"variation": request.variation, "variation_seed": request.variation_seeds[start]}
        count = len(request.seeds[start : start + AT_ONCE])
        yield from _call(url, {**fields, **rows, "num_images": count}, count, on_expected, on_step)


def _call(
    url: str, body: Mapping[str, Json], count: int, on_expected: Callable[[int], None], on_step: Callable[[], None]
) -> Iterator[Image]:
    done: dict[int, Image] = {}
    given = 0
    for news in _news(url, body):
        if "error" in news:
            raise ServerTrouble(f"the server says: {news['error']}")
        if "num_steps" in news:
            on_expected(news["num_steps"])
        for advice in news.get("advice", ()):
            warnings.warn(advice, FewstepWarning, stacklevel=2)
        if "stepped" in news:
            on_step()
        if "painted" in news:
            done[news["painted"]] = decode_image(io.BytesIO(base64.b64decode(news["png"])), "the server's picture")
        while given in done:
            yield done.pop(given)
            given += 1
    if given < count:
        raise ServerTrouble(f"the server at {_shown(url)} broke off after {given} of {count} pictures")


def _fields(request: Request) -> dict[str, Json]:
    asked = settings_of(request) | {"timesteps": request.timesteps}
    fields: dict[str, Json] = {name: value for name, value in asked.items() if value is not None}
    fields |= {name: _file(image) for name in ("image", "mask") if (image := getattr(request, name)) is not None}
    controls: dict[str, Json] = {
        name: {"image": _file(each.image), "scale": each.scale} for name, each in (request.controls or {}).items()
    }
    return fields | ({"controls": controls} if controls else {})


def _file(image: Image) -> str:
    """A PNG in base64: lossless, and with what transparency and depth the picture has."""
    file = io.BytesIO()
    (image if image.mode in ("1", "L", "LA", "I;16", "P", "RGB", "RGBA") else image.convert("RGB")).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _news(url: str, body: Mapping[str, Json]) -> Iterator[News]:
    """The lines of the server's answer."""
    address, headers = _door(url)
    request = HttpRequest(address, json.dumps(body).encode(), {"content-type": "application/json", **headers})
    try:
        with _opener(address).open(request, timeout=PATIENCE) as answer:
            for line in answer:
                yield json.loads(line)
    except HTTPError as error:
        raise ServerTrouble(_refusal(url, error)) from error
    except (URLError, OSError, HTTPException, ValueError) as error:
        if isinstance(error, FewstepError):
            raise
        reason = getattr(error, "reason", None) or error
        raise ServerTrouble(
            f"no fewstep server answers at {_shown(url)} ({reason}): start one with fewstep serve"
        ) from error


def _refusal(url: str, error: HTTPError) -> str:
    if error.code == 401:
        return f"the server at {_shown(url)} wants a token: give its address as it printed it, or set FEWSTEP_TOKEN"
    try:
        said = json.loads(error.read())["detail"]
    except (OSError, HTTPException, ValueError, KeyError, TypeError):
        return f"{_shown(url)} answers {error.code} and is no fewstep server, or an older one"
    return f"the server says: {said}"


def _door(url: str) -> tuple[str, dict[str, str]]:
    """The address to send to, and what shows the token."""
    parts = urlsplit(url if "//" in url else f"http://{url}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidRequest(f"--server {url[:100]!r} is no address; give it as fewstep serve prints it")
    token = parse_qs(parts.query).get("token", [os.environ.get("FEWSTEP_TOKEN", "")])[0]
    address = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}/v1/paint"
    return address, {"authorization": f"Bearer {token}"} if token else {}


def _shown(url: str) -> str:
    """Without the token."""
    return url.partition("?")[0]


class _StaysThere(HTTPRedirectHandler):
    """The token is for the server that was named: no redirection is followed."""

    def redirect_request(
        self, req: HttpRequest, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        return None


def _opener(address: str) -> OpenerDirector:
    host = urlsplit(address).hostname or ""
    return build_opener(_StaysThere, *([ProxyHandler({})] if _is_this_machine(host) else []))


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def loras_by_name(given: Sequence[str]) -> dict[str, float]:
    """The server's adapters, by name, and how much of each: NAME or NAME:0.8; raises `InvalidRequest`."""
    weights = {}
    for text in given:
        name, colon, weight = text.rpartition(":")
        try:
            weights[name or text] = float(weight) if colon else 1.0
        except ValueError as error:
            raise InvalidRequest(
                f"--lora {text[:60]!r}: with --server give the name of its adapter, as in ink:0.8"
            ) from error
    return weights
