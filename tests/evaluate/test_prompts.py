"""A bad line is refused with its number; the built-in prompts are good ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewstep.errors import InvalidRequest
from fewstep.evaluate.prompts import LONGEST, read_prompts


def test_the_built_in_prompts_are_500_different_drawings_in_three_styles() -> None:
    prompts = read_prompts()
    assert len(prompts.texts) == len(set(prompts.texts)) == 500
    assert {text.rpartition(", ")[2] for text in prompts.texts} == {"noto style", "twemoji style", "fluent style"}
    concepts = [text.rpartition(",")[0] for text in prompts.texts]
    assert len(set(concepts)) == 500  # so that finding a prompt again means to know its concept


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no prompts"),
        ("a cat\n\na dog\n", "line 2 is blank"),
        ("a cat\n   \n", "line 2 is blank"),
        ("a cat\n" + "a" * 10_000, f"line 2 has 10000 characters; at most {LONGEST}"),
        ("a cat\na dog\na cat\n", "line 3 repeats line 1"),
        ("a\0cat", "holds characters that are no text"),
    ],
)
def test_bad_lines(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text(text)
    with pytest.raises(InvalidRequest, match=words):
        read_prompts(path)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(InvalidRequest, match="cannot be read as text"):
        read_prompts(path)
