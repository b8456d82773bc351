"""A new door is one file: that of docs/extending.md, in the folder, is answered, guarded, described and refused."""

from __future__ import annotations

import base64
import io
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from documents import blocks
from fewstep.models.model import Model
from fewstep.server import doors
from fewstep.server.security import Access
from serving import Server, serving

DOCUMENT = Path(__file__).parents[2] / "docs" / "extending.md"
TOKEN = "a-long-secret"
KEY = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def stability(tmp_path_factory: pytest.TempPathFactory, student: Model) -> Iterator[Server]:
    """A server with the document's file in the folder of doors."""
    folder = tmp_path_factory.mktemp("doors")
    (text,) = (block.text for block in blocks(DOCUMENT) if block.file == "stability.py")
    (folder / "stability.py").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(doors, "__path__", [*doors.__path__, str(folder)])
        with serving(student, Access.of("127.0.0.1", TOKEN)) as running:
            yield running
    sys.modules.pop("fewstep.server.doors.stability", None)


def asked(server: Server, name: str, key: dict[str, str] = KEY, **fields: object) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/generation/{name}/text-to-image", json=fields, headers=key, timeout=60)


def test_without_the_file_there_is_no_such_door(server: Server) -> None:
    assert asked(server, "miniature", key={}, text_prompts=[{"text": "a cat"}]).status_code == 404


def test_it_paints_what_the_other_doors_paint(stability: Server) -> None:
    name = stability.engine.model.name
    answer = asked(stability, name, text_prompts=[{"text": "a cat"}], seed=7, steps=1)
    assert answer.status_code == 200, answer.text
    (first,) = answer.json()["artifacts"]
    assert (first["seed"], first["finishReason"]) == (7, "SUCCESS")
    fields = {"prompt": "a cat", "seed": 7, "steps": 1}
    same = httpx.post(f"{stability.url}/v1/images/generations", json=fields, headers=KEY, timeout=60).json()["data"][0]
    pictures = [Image.open(io.BytesIO(base64.b64decode(each))) for each in (first["base64"], same["b64_json"])]
    assert pictures[0].tobytes() == pictures[1].tobytes()


def test_it_is_guarded_and_its_errors_have_its_shape(stability: Server) -> None:
    prompt = [{"text": "a cat"}]
    assert asked(stability, "miniature", key={}, text_prompts=prompt).status_code == 401
    name = stability.engine.model.name
    for answer, status, message in (
        (asked(stability, "nobody", text_prompts=prompt), 404, "nobody"),
        (asked(stability, name, text_prompts=prompt, steps=5000), 422, "steps"),
        (asked(stability, name), 422, "text_prompts"),
        (httpx.get(f"{stability.url}/v1/generation/typo", headers=KEY), 404, "Not Found"),
    ):
        assert answer.status_code == status
        assert set(answer.json()) == {"id", "name", "message"}
        assert message in answer.json()["message"]
    elsewhere = httpx.get(f"{stability.url}/v1/typo", headers=KEY)
    assert "detail" in elsewhere.json()


def test_it_has_a_section_of_the_docs_page(stability: Server) -> None:
    described = httpx.get(f"{stability.url}/openapi.json", headers=KEY).json()
    assert [tag["name"] for tag in described["tags"]] == [
        "fewstep",
        "OpenAI Images",
        "AUTOMATIC1111",
        "Stability",
        "fal",
    ]
    assert described["paths"]["/v1/generation/{name}/text-to-image"]["post"]["tags"] == ["Stability"]
