"""A request is valid or refused in one line; nothing in between, whatever comes in."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fewstep.core.samplers import SAMPLERS
from fewstep.errors import InvalidRequest
from fewstep.pipelines.fields import MAX_SEED
from fewstep.pipelines.request import Request

PICTURE = Image.new("RGB", (8, 8))
ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.just(10**5000),
    st.floats(),
    st.text(max_size=20),
    st.binary(max_size=5),
    st.lists(st.integers(), max_size=2),
)
FIELDS = {
    "negative_prompt": st.one_of(st.text(), ANYTHING),
    "steps": st.one_of(st.integers(1, 50), ANYTHING),
    "guidance_scale": st.one_of(st.floats(1, 20), ANYTHING),
    "height": st.one_of(st.integers(8, 4096), ANYTHING),
    "width": st.one_of(st.integers(8, 4096), ANYTHING),
    "sampler": st.one_of(st.sampled_from(list(SAMPLERS)), ANYTHING),
    "image": st.one_of(st.just(PICTURE), st.none()),
    "strength": st.one_of(st.floats(0, 1), ANYTHING),
}


@given(
    prompt=st.one_of(st.text(), st.lists(st.text(), max_size=3), ANYTHING),
    seed=st.one_of(st.integers(0, MAX_SEED), ANYTHING),
    num_images=st.one_of(st.integers(1, 5), ANYTHING),
    options=st.fixed_dictionaries({}, optional=FIELDS),
)
def test_anything_is_either_a_request_within_bounds_or_one_line(
    prompt: Any, seed: Any, num_images: Any, options: dict[str, Any]
) -> None:
    try:
        request = Request.of(prompt, seed, num_images, **options)
    except InvalidRequest as error:
        assert len(str(error).splitlines()) == 1
        assert len(str(error)) < 300
        return
    assert 1 <= len(request.prompts) == len(request.seeds) <= 1_000
    assert all(0 <= seed <= MAX_SEED for seed in request.seeds)
    for text in (*request.prompts, request.negative_prompt):
        text.encode("utf-8")
        assert "\0" not in text
    assert request.steps is None or 1 <= request.steps <= 1000
    assert request.guidance_scale is None or 1 <= request.guidance_scale <= 100
    assert request.strength is None or (0 < request.strength <= 1 and request.image is not None)
    assert request.sampler in (None, *SAMPLERS)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"steps": 0}, "the number of steps is 0; it must be a whole number from 1 to 1000"),
        ({"steps": 2.5}, "the number of steps is 2.5; it must be a whole number"),
        ({"steps": True}, "the number of steps is True; it must be a whole number"),
        ({"guidance_scale": math.nan}, "the guidance scale is nan; it must be a number from 1 to 100"),
        ({"guidance_scale": math.inf}, "the guidance scale is inf; it must be a number"),
        ({"guidance_scale": True}, "the guidance scale is True; it must be a number"),
        ({"guidance_scale": 0.5}, "the guidance scale is 0.5"),
        ({"strength": 1.5, "image": PICTURE}, "the strength is 1.5; it must be a number from 0 to 1"),
        ({"strength": math.nan, "image": PICTURE}, "the strength is nan"),
        ({"strength": 0, "image": PICTURE}, "the strength is 0, which leaves the picture as it is"),
        ({"strength": 0.5}, "a strength was given without a picture"),
        ({"height": 7}, "the height is 7"),
        ({"width": 10**9}, "the width is 1000000000"),
        ({"sampler": "plms"}, "unknown sampler 'plms'; choose one of dpm[+][+], unipc, euler, ddim, heun, lcm, tcd"),
        ({"seed": -1}, "the seed is -1; it must be a whole number from 0"),
        ({"seed": 2**63}, "the seed is 9223372036854775808"),
        ({"num_images": 0}, "the number of pictures is 0"),
        ({"num_images": 10**9}, "the number of pictures is 1000000000"),
        ({"steps": 10**5000}, "the number of steps is a number of thousands of digits"),
        ({"prompt": "x" * 10_001}, "a prompt has 10001 characters; at most 10000"),
        ({"prompt": "a\0b"}, "holds characters that are no text"),
        ({"prompt": "\udcff"}, "holds characters that are no text"),
        ({"prompt": 7}, "a prompt must be text"),
        ({"prompt": []}, "the number of pictures is 0"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidRequest, match=complaint):
        Request.of(**{"prompt": "a cat", **options})


def test_an_empty_prompt_is_allowed() -> None:
    assert Request.of("").prompts == ("",)


def test_seeds_count_up_and_start_anew_for_each_prompt() -> None:
    request = Request.of(["a", "b"], seed=7, num_images=3)
    assert request.prompts == ("a", "a", "a", "b", "b", "b")
    assert request.seeds == (7, 8, 9, 7, 8, 9)


def test_without_a_seed_every_request_gets_its_own() -> None:
    assert len({Request.of("a").seeds for _ in range(5)}) == 5
