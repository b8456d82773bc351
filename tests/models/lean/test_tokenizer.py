"""The lean tokenizer against transformers' own, from the same folder."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewstep.models.lean.tokenizer import ClipTokenizer
from fewstep.models.locating import STARTER

pytestmark = pytest.mark.skipif(not (STARTER / "model_index.json").is_file(), reason="no weights yet")


@cache
def both() -> tuple[ClipTokenizer, Any]:
    ours = ClipTokenizer(STARTER / "tokenizer")
    return ours, ours.make_twin()


def words() -> st.SearchStrategy[list[str]]:
    known = sorted(both()[0].get_vocab())
    return st.lists(st.sampled_from([*known, "<|endoftext|>", "don't", "Ä", "猫", "🙂", "\n", "</w>"]), max_size=12)


@settings(max_examples=60)
@given(st.text(max_size=60) | st.deferred(words).map(" ".join) | st.deferred(words).map("".join))
def test_it_reads_and_says_what_transformers_does(text: str) -> None:
    ours, theirs = both()
    ids = ours(text).input_ids
    assert ids == theirs(text, truncation=False, verbose=False, add_special_tokens=False).input_ids
    assert ours.decode(ids) == theirs.decode(ids)


def test_its_marks_and_its_vocabulary() -> None:
    ours, theirs = both()
    for name in ("bos_token_id", "eos_token_id", "pad_token_id", "model_max_length"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.get_vocab() == theirs.get_vocab()
    for token in (",</w>", "<|endoftext|>", "no such token"):
        assert ours.convert_tokens_to_ids(token) == theirs.convert_tokens_to_ids(token)
