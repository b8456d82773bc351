"""Passes: what a browser shows in the place of the token, for a while and for a few applications.

A page that held the token itself could not be shown to anybody. Signed with a key that this process alone knows and
forgets; a JSON Web Token in form (RFC 7519, HS256), so that clients which look into it find what they expect.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from fewstep.errors import InvalidRequest

MAX_SECONDS = 3600
_HEADER = {"alg": "HS256", "typ": "JWT"}


@dataclass(frozen=True)
class Passes:
    """own_words  first words of the paths that are the server's own, and so no application's"""

    own_words: frozenset[str]
    key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    def grant(self, apps: Sequence[str], seconds: float) -> str:
        """A pass for these applications, each `owner/app`, or `app` alone, whoever its owner; raises `InvalidRequest`
        for what is no application's name.
        """
        for name in apps:
            words = name.split("/")
            if len(words) > 2 or "" in words or not self.own_words.isdisjoint(words):
                raise InvalidRequest(
                    f"{name[:60]!r} is no application's name; it must be `app` or `owner/app`, "
                    f"without the server's own words: {', '.join(sorted(self.own_words))}"
                )
        claims = {"apps": list(apps), "exp": time.time() + seconds}
        said = f"{_coded(json.dumps(_HEADER).encode())}.{_coded(json.dumps(claims).encode())}"
        return f"{said}.{self._signature(said)}"

    def opens(self, shown: str, path: str) -> bool:
        """Whether this is a pass of ours, still good, for the application whose door `path` is."""
        said, _, signature = shown.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._signature(said).encode()):
            return False
        claims = json.loads(_plain(said.partition(".")[2]))
        return bool(claims["exp"] > time.time() and not self._names(path).isdisjoint(claims["apps"]))

    def _names(self, path: str) -> frozenset[str]:
        """Of the application whose door a path is, those that a pass may have for it; none where it is no such door."""
        root, owner, app, *_ = [*path.split("/"), "", ""]
        if root or not (owner and app) or owner in self.own_words:
            return frozenset()
        return frozenset((app, f"{owner}/{app}"))

    def _signature(self, said: str) -> str:
        return _coded(hmac.digest(self.key, said.encode(), hashlib.sha256))


def _coded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _plain(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
