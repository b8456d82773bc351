"""Weights and long prompts: the marks are read as A1111 reads them, the states are those that compel makes."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from compel import Compel, ReturnedEmbeddingsType, SplitLongTextMode
from hypothesis import given, settings
from hypothesis import strategies as st

import fewstep
from fewstep.errors import FewstepWarning, InvalidRequest
from fewstep.models.model import Model
from fewstep.models.text.clip import MAX_WINDOWS, TextReader
from fewstep.models.text.prompt_weights import Fragment, parse
from fewstep.pipelines.plan import complete
from fewstep.pipelines.request import Request
from miniature import TOKENS, write_miniature_sd1, write_miniature_sdxl

ROOM = TOKENS - 2
NEAR = {"atol": 1e-6, "rtol": 0}


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a cat", [("a cat", 1)]),
        ("a (red) cat", [("a ", 1), ("red", 1.1), (" cat", 1)]),
        ("((red))", [("red", 1.21)]),
        ("[red]", [("red", 1 / 1.1)]),
        ("(red:1.3)", [("red", 1.3)]),
        ("( red : .5 )", [(" red", 0.5)]),
        ("(red:-1)", [("red", -1)]),
        ("([red])", [("red", 1)]),
        ("(a (blue:1.5) cat:2)", [("a ", 2), ("blue", 3), (" cat", 2)]),
        (r"a \(red\) \[cat\] \\", [(r"a (red) [cat] \ ".strip(), 1)]),
        (r"a\b", [(r"a\b", 1)]),
        ("a :) (cat", [("a :) (cat", 1)]),
        ("([red)", [("[red", 1.1)]),
        ("(red:very)", [("red:very", 1.1)]),
        ("[red:1.3]", [("red:1.3", 1 / 1.1)]),
        ("", []),
    ],
)
def test_marks(prompt: str, expected: list[tuple[str, float]]) -> None:
    (section,) = parse(prompt)
    assert [fragment.text for fragment in section] == [text for text, _ in expected]
    assert [fragment.weight for fragment in section] == pytest.approx([weight for _, weight in expected])


def test_break_begins_another_section() -> None:
    assert parse("a cat BREAK (a dog BREAK blue:1.2)") == [
        [Fragment("a cat")],
        [Fragment("a dog", 1.2)],
        [Fragment("blue", 1.2)],
    ]
    assert parse("BREAK a BREAKfast BREAK") == [[Fragment("a BREAKfast")]]


@given(st.text(alphabet="ab:1.5()[]\\ ,BREAK", max_size=60))
@settings(max_examples=500, deadline=None)
def test_nothing_is_lost_but_marks(prompt: str) -> None:
    try:
        sections = parse(prompt)
    except InvalidRequest:
        return
    letters = [letter for section in sections for fragment in section for letter in fragment.text if letter in "ab,"]
    assert letters == [letter for letter in prompt if letter in "ab,"]
    escaped = "".join(f"\\{letter}" if letter in "()[]\\" else letter for letter in prompt.replace("BREAK", ""))
    assert "".join(fragment.text for fragment in parse(escaped)[0]) == prompt.replace("BREAK", "")


@pytest.mark.parametrize("prompt", ["(a:11)", "(" * 30 + "a" + ")" * 30, "(a:-10.5)", "((a:9):2)"])
def test_a_weight_out_of_range_is_refused(prompt: str) -> None:
    with pytest.raises(InvalidRequest, match=r"a part of the prompt has the weight .* from -10 to 10"):
        Request.of(prompt)


@pytest.fixture(scope="module", params=["sd1", "sdxl"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    write = {"sd1": write_miniature_sd1, "sdxl": write_miniature_sdxl}[request.param]
    return fewstep.load(write(tmp_path_factory.mktemp(request.param)), device="cpu")


def compel_of(reader: TextReader, *, sdxl: bool) -> Compel:
    kind = ReturnedEmbeddingsType
    return Compel(
        reader.tokenizer,
        reader.encoder,
        truncate_long_prompts=False,
        returned_embeddings_type=kind.PENULTIMATE_HIDDEN_STATES_NON_NORMALIZED
        if sdxl
        else kind.LAST_HIDDEN_STATES_NORMALIZED,
        split_long_text_mode=SplitLongTextMode.BRUTAL,
    )


def by_compel(model: Model, prompt: str) -> torch.Tensor:
    """What compel makes of the fragments; its own way with weights below 1 is another, so only the mixing is taken."""
    parts = []
    for reader in model.text.readers:
        provider = compel_of(reader, sdxl=len(model.text.readers) > 1).conditioning_provider
        (section,) = parse(prompt)
        tokens, weights, mask = provider.get_token_ids_and_expand_weights(
            [fragment.text for fragment in section], [fragment.weight for fragment in section], device="cpu"
        )
        parts.append(provider.build_weighted_embedding_tensor(tokens, weights, mask, device="cpu").detach())
    return torch.cat(parts, dim=-1)


@pytest.mark.parametrize(
    "prompt",
    [
        "a red cat",
        "a (red:1.4) cat",
        "a ((red)) [cat] face",
        "a (red:0) cat, (robot:-0.5)",
        "red cat " * 20,
        "red cat " * 10 + "(blue dog:1.5) " + "sad robot " * 9,
    ],
)
def test_states_are_those_of_compel(model: Model, prompt: str) -> None:
    ours = model.encode_prompts([prompt])
    torch.testing.assert_close(ours.states, by_compel(model, prompt), **NEAR)
    assert ours.states.shape[1] == TOKENS * model.num_windows(prompt)


def test_pooled_states_are_those_of_the_first_window(model: Model) -> None:
    first = "red cat " * (ROOM // 2)
    pooled = [model.encode_prompts([prompt]).pooled for prompt in (first, first + "blue dog", f"({first}:1.5) (fox:0)")]
    torch.testing.assert_close(pooled[1:], pooled[:1] * 2, **NEAR)


def test_plain_prompts_are_read_to_the_bit_as_before(model: Model) -> None:
    prompts = ["", "a red cat", "sad robot, noto style!", "ünïcödé  spaced", "cat " * ROOM]
    theirs, ours = model.encode_text(prompts), model.encode_prompts(prompts)
    assert torch.equal(theirs.states, ours.states)
    assert torch.equal(theirs.pooled, ours.pooled)  # type: ignore[arg-type]


@given(text=st.text(max_size=30))
@settings(max_examples=60, deadline=None)
def test_any_text_is_read_to_the_bit_as_before(student: Model, text: str) -> None:
    plain = "".join(letter for letter in text if letter not in "()[]\\" and letter.isprintable())
    if student.num_windows(plain) == 1:
        assert torch.equal(student.encode_text([plain]).states, student.encode_prompts([plain]).states)


def test_a_full_window_ends_at_a_comma_near_its_end(student: Model) -> None:
    reader = student.text.readers[0]
    words = lambda prompt: [reader.words([window]) for window in reader.windows(prompt)]  # noqa: E731
    near, far = "cat " * (ROOM - 3) + ", dog face fox", "cat, " + "dog " * ROOM
    assert [len(w.tokens) for w in reader.windows(near)] == [ROOM - 2, 3]
    assert words(near)[1].split() == ["dog", "face", "fox"]
    assert [len(w.tokens) for w in reader.windows(far)] == [ROOM, 2]
    assert [len(w.tokens) for w in reader.windows("cat dog BREAK fox")] == [2, 1]


def test_prompts_of_other_lengths_give_the_pictures_made_alone(model: Model) -> None:
    prompts = ["a cat", "sad robot " * 15, "a (blue:1.3) fox", "red dog " * 14]
    options = {"steps": 2, "seed": 5, "negative_prompt": "red " * 30, "guidance_scale": 3.0}
    together = fewstep.text2image(model, prompts, **options)  # type: ignore[call-overload]
    assert len(list(complete(Request.of(prompts, 5), model).batches())) == 4
    for prompt, image in zip(prompts, together, strict=True):
        alone = fewstep.text2image(model, prompt, **options)  # type: ignore[call-overload]
        assert np.array_equal(np.asarray(image), np.asarray(alone))


def test_weights_change_the_picture_and_a_weight_of_1_does_not(student: Model) -> None:
    plain, one, more = (
        np.asarray(fewstep.text2image(student, prompt, seed=1), dtype=int)
        for prompt in ("a red cat", "a (red:1) cat", "a (red:1.6) cat")
    )
    assert np.array_equal(plain, one)
    assert np.abs(plain - more).max() > 2


def test_what_even_several_windows_do_not_hold_is_said(student: Model) -> None:
    long = "cat " * (ROOM * MAX_WINDOWS) + "blue dog"
    assert student.encode_prompts([long]).states.shape[1] == TOKENS * MAX_WINDOWS
    with pytest.warns(FewstepWarning, match="miniature does not see: 'blue dog'"):
        fewstep.text2image(student, long, steps=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fewstep.text2image(student, long.removesuffix("blue dog"), steps=1)


def test_a_way_between_long_and_short_prompts_begins_and_ends_where_they_are(tmp_path: Path) -> None:
    model = fewstep.load(write_miniature_sd1(tmp_path), device="cpu")
    stops = [("a cat", 1), ("sad robot " * 15, 2)]
    frames = fewstep.travel(model, stops, 3, steps=2)
    for (prompt, seed), frame in zip(stops, (frames[0], frames[-1]), strict=True):
        alone = np.asarray(fewstep.text2image(model, prompt, steps=2, seed=seed), dtype=int)
        assert np.abs(alone - np.asarray(frame, dtype=int)).max() <= 1
