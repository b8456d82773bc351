"""What people write into prompts: adapters by name, other programs' syntax, and words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

import adapters
import fewstep
from fewstep.errors import InvalidRequest
from fewstep.models.model import Model
from fewstep.models.text.prompt_weights import Fragment, literal, parse
from fewstep.pipelines.prompts import A1111, LIVE, STRICT, understood, written

FOREIGN = [
    "[cat:dog:0.5]",
    "[cat:dog:10]",
    "[cat::0.5]",
    "[cat:0.5]",
    "[(red:1.2) cat:dog:.5]",
    "[cat|dog]",
    "[cat|dog|fox]",
    "[|cat]",
    "__colour__",
    "__hair/long_colours__",
    "{red|blue}",
    "{2$$red|blue|green}",
    "<random:red,blue>",
    "<wildcard:colours>",
    "<fromto[0.5]:red,blue>",
    "embedding:easynegative",
    "--ar 16:9",
    "--no dogs",
    "--s 28",
]


@pytest.mark.parametrize("foreign", FOREIGN)
def test_what_is_not_done_is_refused_by_name_or_said_and_a_backslash_makes_words_of_it(foreign: str) -> None:
    prompt = f"a cat, {foreign} hat"
    for policy in (STRICT, A1111):
        with pytest.raises(InvalidRequest, match="is what other programs read as") as refused:
            understood(prompt, policy)
        assert repr(foreign) in str(refused.value)
    with pytest.raises(InvalidRequest, match="is what other programs read as"):
        understood(prompt, negative=True)
    live = understood(prompt, LIVE)
    assert live.text == prompt
    (advice,) = live.advice
    assert advice.endswith("it is painted as words")
    words = understood(f"a cat, \\{foreign} hat")
    assert words.advice == ()
    assert parse(words.text) == [[Fragment(prompt)]] or "(" in foreign


@pytest.mark.parametrize(
    "prompt", ["a cat AND a dog", "a cat :1.2 AND a dog :0.8", "a cat AND NASA", "(a cat) AND (a dog:1.3)", "猫 AND 狗"]
)
def test_a_mixture_is_refused(prompt: str) -> None:
    with pytest.raises(InvalidRequest, match="'AND' in the prompt is what other programs read as a mixture"):
        understood(prompt)
    assert understood(prompt.replace("AND", "\\AND")).text == prompt


@pytest.mark.parametrize(
    "prompt",
    [
        "a cat and a dog",
        "a sign: SALT AND PEPPER",
        "AND",
        "BRAND new ANDROID",
        "(red:1.3) [cat] ((hat))",
        "[red]",
        "[a cat: the dog]",
        "a [red (hat|cap)] cat",
        "a :) (cat",
        "well-known, a cat -- the dog--",
        "<cat-toy> on a table",
        "a < b > c",
        "I <3 cats",
        "std::vector",
        "snake_case, ____",
        "{cat}",
        "a|b",
        "12:30",
        r"a \(red\) cat \\",
        "a cat BREAK a dog",
        "C:\\cats\\dogs",
    ],
)
def test_what_is_words_stays_as_it_is(prompt: str) -> None:
    assert understood(prompt).text == prompt
    assert understood(prompt, LIVE).advice == ()


@pytest.mark.parametrize(
    ("prompt", "text", "loras"),
    [
        ("a cat <lora:ink:0.8>", "a cat", {"ink": 0.8}),
        ("<lora:ink>a cat", "a cat", {"ink": 1.0}),
        ("red<lora:ink:-.5>fox", "red fox", {"ink": -0.5}),
        ("(a <lora:ink:1> cat:1.2), <lyco:wool:0.3>", "(a  cat:1.2),", {"ink": 1.0, "wool": 0.3}),
        ("<LORA: ink : 0.8 >", "", {"ink": 0.8}),
        ("<lora:my style.safetensors:0.8> x", "x", {"my style": 0.8}),
        ("<lora:ink:0.8:0.8> x", "x", {"ink": 0.8}),
        ("<lora:ink:te=0.8:unet=0.8> x", "x", {"ink": 0.8}),
        ("<lora:ink:1> <lora:ink:1> x", "x", {"ink": 1.0}),
        (r"\<lora:ink:0.8> x", "<lora:ink:0.8> x", {}),
    ],
)
def test_adapters_are_taken_out_of_the_words(prompt: str, text: str, loras: dict[str, float]) -> None:
    read = understood(prompt)
    assert (read.text, read.loras) == (text, loras)
    assert understood(prompt, LIVE, ["ink", "wool", "my style"]) == read


@pytest.mark.parametrize(
    ("tag", "complaint"),
    [
        ("<lora:ink:strong>", "the weight 'strong' of the LoRA 'ink' is no number"),
        ("<lora:ink:0.8:0.2>", "one weight for words and picture"),
        ("<lora:ink:te=0.8:unet=0.2>", "one weight for words and picture"),
        ("<lora:ink:0.8:lbw=OUTALL>", "cannot be given 'lbw=OUTALL'"),
        ("<lora::0.8>", "names no LoRA"),
        ("<hypernet:old:0.8>", "hypernetwork"),
        ("<lora:ink:0.5> <lora:ink:0.8>", "twice, with 0.5 and 0.8"),
        ("<lora:ink:0.8", "has no end"),
        ("<lora", "has no end"),
    ],
)
def test_an_adapter_that_cannot_be_had_so_is_never_words(tag: str, complaint: str) -> None:
    with pytest.raises(InvalidRequest, match=complaint):
        understood(f"a cat {tag}")
    for policy in (A1111, LIVE):
        read = understood(f"a cat {tag}", policy, ["ink"])
        assert (read.text.strip(), len(read.advice)) == ("a cat", 1)
        assert complaint in read.advice[0]


def test_an_adapter_that_is_not_there_or_in_the_wrong_prompt_is_said() -> None:
    read = understood("a cat <lora:gone:1>", A1111, ["ink"])
    assert (read.text, read.advice) == (
        "a cat",
        ("there is no LoRA 'gone' here (there are ink); its tag was ignored",),
    )
    with pytest.raises(InvalidRequest, match="in the negative prompt, where a LoRA means nothing"):
        understood("ugly <lora:ink:1>", negative=True)
    assert understood("ugly <lora:ink:1>", A1111, negative=True).text == "ugly"


@given(st.text(alphabet="ab <>lora:ink0.8[]()|_{}AND\\-BREAK,", max_size=50))
@settings(max_examples=400, deadline=None)
def test_any_prompt_is_read(prompt: str) -> None:
    read = understood(prompt, LIVE, ["ink"])
    assert "<lora:" not in read.text.replace("\\", "") or "\\" in prompt or bool(read.loras) or "<<" in prompt
    try:
        assert understood(prompt).text == read.text
    except InvalidRequest as error:
        assert read.advice or "weight" in str(error) or "LoRA" in str(error)


@given(st.text(max_size=40) | st.text(alphabet="ab ()[]\\:1.5BREAK", max_size=40))
@settings(max_examples=400, deadline=None)
def test_the_letter_is_the_letter(text: str) -> None:
    assert parse(literal(text)) == [[Fragment(text)] if text else []]


def test_break_with_a_backslash_is_a_word() -> None:
    assert parse(r"coffee \BREAK time BREAK tea") == [[Fragment("coffee BREAK time")], [Fragment("tea")]]


@pytest.fixture(scope="module")
def inked(miniature: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    model = fewstep.load(miniature, device="cpu")
    file = tmp_path_factory.mktemp("loras") / "ink.safetensors"
    adapters.write_kohya(file, {"lora_unet": adapters.random_layers(model.network.module, 1)}, alpha=3.0)
    return fewstep.load(miniature, device="cpu", loras=[(file, 0.0)])


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture, dtype=int)


def test_in_python_an_adapter_is_applied_where_it_is_loaded(inked: Model, student: Model) -> None:
    wanted = pixels(fewstep.text2image(inked, "a cat", seed=1, steps=1, loras={"ink": 0.8}))
    named = pixels(fewstep.text2image(inked, "a cat <lora:ink:0.8>", seed=1, steps=1))
    plain = pixels(fewstep.text2image(inked, "a cat", seed=1, steps=1))
    assert np.array_equal(named, wanted)
    assert np.abs(plain - wanted).max() > 10
    several = fewstep.text2image(inked, ["a cat", "a cat <lora:ink:0.8>", "a dog"], seed=1, steps=1)
    assert [np.abs(pixels(a) - b).max() <= 1 for a, b in zip(several[:2], (plain, wanted), strict=True)] == [True] * 2
    assert len(several) == 3
    for model, complaint in ((inked, "no LoRA 'gone' here"), (student, "'gone' was asked for")):
        with pytest.raises(InvalidRequest, match=complaint):
            fewstep.text2image(model, "a cat <lora:gone:0.8>")
    with pytest.raises(InvalidRequest, match="one weight in the prompt and another beside it"):
        fewstep.text2image(inked, "a cat <lora:ink:0.8>", loras={"ink": 0.5})
    with pytest.raises(InvalidRequest, match="name different LoRAs"):
        fewstep.travel(inked, [("a cat <lora:ink:0.8>", 1), ("a dog", 2)], 3)


def test_in_python_what_is_not_done_is_refused(student: Model) -> None:
    with pytest.raises(InvalidRequest, match=r"'\[cat\|dog\]' in the prompt"):
        fewstep.text2image(student, "a [cat|dog]")
    words = fewstep.text2image(student, r"a \[cat|dog\] \AND fox", seed=1, steps=1)
    states = student.encode_text(["a [cat|dog] AND fox"]).states
    assert np.array_equal(student.encode_prompts([r"a \[cat|dog\] AND fox"]).states, states)
    again = fewstep.text2image(student, r"a \[cat\|dog\] \AND fox", seed=1, steps=1)
    assert np.array_equal(pixels(words), pixels(again))


def test_a_random_seed_is_the_same_for_all_prompts(inked: Model) -> None:
    from fewstep.pipelines.provenance import record_of

    pictures = fewstep.text2image(inked, ["a cat", "a cat <lora:ink:0.8>"], steps=1)
    records = [record_of(picture) for picture in pictures]
    assert len({record.seed for record in records if record}) == 1


PIECES = ["a cat", "[", "]", "(", ")", ":", "0.5", "AND", "BREAK", "SALT AND PEPPER", "(so:1.2)", "\\("]
# a backslash makes words of all that follows, so of marks in it, too
PIECES += ["|", *(each for each in FOREIGN if each[0] == "[" or not set(each) & set("()[]"))]


@given(st.lists(st.sampled_from(PIECES), max_size=8))
def test_what_is_written_is_read_as_the_text_that_was_meant(parts: list[str]) -> None:
    try:
        text = understood(" ".join(parts), LIVE).text
        parse(text)
    except InvalidRequest:
        assume(False)
    read = understood(written(text), STRICT)
    assert parse(read.text) == parse(text)
    assert (read.loras, read.advice) == ({}, ())


@pytest.mark.parametrize("text", ["a <lora:ink:0.8> cat", "a <lora:ink", "[a|b|c]", "a [b:c:0.5] and [d::2]"])
def test_a_prompt_to_the_letter_can_be_written(text: str) -> None:
    assert understood(written(text), STRICT).text == text
    assert written(text) != text
