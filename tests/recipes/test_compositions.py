"""Compositions show what is said of them, are the same everywhere, and hold nothing that is kept apart."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest
import torch

from fewstep.evaluate.colours import word_of
from fewstep.evaluate.pieces import pieces_of
from recipes.emoji import combinations, compositions, drawings, wearing
from recipes.emoji.compositions import COMBINED, KINDS, compose, compose_held_out, draw_shard, evaluation_sets
from recipes.emoji.figures import Figure
from recipes.emoji.nouns import Noun, noun, plural, with_article, without_colour
from recipes.emoji.paint import COLOURS, dominant_paint, recoloured
from recipes.emoji.world import World
from tiny_world import tiny_world


@pytest.fixture(scope="module")
def world() -> World:
    return tiny_world()


def row_of(world: World, label: str, style: str = "noto") -> int:
    return next(i for i, drawing in enumerate(world.rows) if (drawing.label, drawing.style) == (label, style))


def drawn(world: World, kind: str, count: int) -> list[compositions.Composition]:
    return [compositions.drawn(world, kind, random.Random(f"{kind} {i}"), held_out=False) for i in range(count)]


def test_the_same_seed_and_index_give_the_same_picture_in_a_world_opened_anew(world: World) -> None:
    again = tiny_world()
    for index in range(40):
        one, other = compose(world, 3, index), compose(again, 3, index)
        assert (one.pixels == other.pixels).all()
        assert (one.captions, one.kind) == (other.captions, other.kind)
    assert len({compose(world, seed, 0).pixels.tobytes() for seed in range(12)}) > 8


def test_a_shard_holds_the_row_of_its_seed(world: World) -> None:
    pixels, captions, kinds = draw_shard(world, 5, 7, 6)
    assert pixels.shape == (6, 128, 128, 3)
    assert pixels.dtype == np.uint8
    single = compose(world, 5, 9)
    assert (pixels[2] == single.pixels).all()
    assert (captions[2], kinds[2]) == (single.captions, single.kind)


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_kind_has_four_to_six_captions_all_different_and_plain(world: World, kind: str) -> None:
    for each in drawn(world, kind, 25):
        assert 4 <= len(each.captions) <= 6
        assert len(set(each.captions)) == len(each.captions)
        text = " | ".join(each.captions)
        assert not re.search(r"\b(a|an) (a|an)\b|  |\ba [aeio]|\ban [^aeiou ]|~|\bNone\b", text), text
        assert any(caption.endswith(" style") for caption in each.captions)
        assert any("style" not in caption for caption in each.captions)


def test_a_recoloured_thing_is_mostly_of_the_colour_that_is_said(world: World) -> None:
    for each in drawn(world, "recoloured", 60):
        said = next(word for word in COLOURS if word in each.captions[1].split())
        ink = each.pixels[(each.pixels < 250).any(-1)].astype(np.float32) / 255
        target = np.asarray(COLOURS[said], np.float32) / 255
        assert np.abs(np.median(ink, axis=0) - target).max() < 0.2, each.captions[0]


def test_a_recoloured_thing_loses_the_colour_of_its_label(world: World) -> None:
    apple = Figure(world, row_of(world, "red apple"), "blue")
    assert (apple.a(), apple.bare(), apple.several(3)) == ("a blue apple", "blue apple", "three blue apples")
    assert Figure(world, apple.row).a() == "a red apple"
    said = " ".join(caption for each in drawn(world, "recoloured", 80) for caption in each.captions)
    assert not re.search(r"\b(blue|pink|purple) (red|green) apple", said)
    assert "green apple" not in said  # another drawing is called so


def test_recolouring_keeps_light_and_shade_and_leaves_other_paint_alone() -> None:
    picture = np.zeros((40, 40, 4), np.uint8)
    picture[..., 3] = 255
    picture[:, :] = (200, 40, 40, 255)
    picture[:10] = (100, 20, 20, 255)  # a shadow
    picture[30:] = (20, 20, 20, 255)  # a dark line
    paint = dominant_paint(picture)
    assert paint is not None
    assert paint.word == "red"
    changed = recoloured(picture, paint, COLOURS["blue"])
    assert np.abs(changed[20, 5, :3].astype(int) - COLOURS["blue"]).max() <= 3
    assert np.abs(changed[5, 5, :3].astype(int) - np.asarray(COLOURS["blue"]) / 2).max() <= 4
    assert (changed[35, 5] == picture[35, 5]).all()


def test_no_colour_is_named_where_none_dominates() -> None:
    picture = np.full((40, 40, 4), 255, np.uint8)
    picture[:, :20, :3], picture[:, 20:, :3] = (210, 40, 40), (40, 160, 60)
    assert dominant_paint(picture) is None


@pytest.mark.parametrize("word", list(COLOURS))
def test_every_colour_word_is_read_from_its_own_colour(word: str) -> None:
    assert word_of(np.asarray(COLOURS[word], np.float32) / 255) == word


def test_counts_show_as_many_as_they_say(world: World) -> None:
    numbers = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
    whole = ("dog", "frog", "pear", "apple", "package", "grinning face")  # of one piece
    seen = set()
    for each in drawn(world, "counts", 60):
        if not any(name in each.captions[1] for name in whole):
            continue
        pieces = len(pieces_of(torch.from_numpy((each.pixels < 245).any(-1))))
        assert pieces == numbers[each.captions[1].split()[0]], each.captions[1]
        seen.add(pieces)
    assert {2, 3, 4} <= seen


def test_both_things_of_a_pair_are_there_side_by_side_or_one_above_the_other(world: World) -> None:
    for each in drawn(world, "pairs", 30):
        ink = (each.pixels < 245).any(-1)
        above = any(" above " in caption for caption in each.captions)
        halves = (ink[:62], ink[66:]) if above else (ink[:, :62], ink[:, 66:])
        assert all(half.mean() > 0.05 for half in halves), each.captions


def test_nothing_held_out_is_drawn_and_held_out_draws_show_nothing_else(world: World) -> None:
    tuples = [(colour, "pear") for colour in COLOURS]
    kept = [each for each in tuples if combinations.held_out(*each)]
    assert all(
        not any(f"{colour} pear" in caption for colour, _ in kept for caption in each.captions)
        for each in drawn(world, "recoloured", 100)
    )
    for kind in ("recoloured", "wearing", "together"):
        for each in compose_held_out(world, kind, 4, 0):
            assert (each.kind, each.held_out_combination) == (kind, True)
    with pytest.raises(ValueError, match="not in 'plain'"):
        compose_held_out(world, "plain", 1, 0)


def test_five_percent_of_the_combinations_are_held_out_whatever_their_order() -> None:
    drawn_ones = [combinations.held_out(colour, f"thing {i}") for colour in COLOURS for i in range(400)]
    assert 0.04 < sum(drawn_ones) / len(drawn_ones) < 0.06
    assert all(combinations.held_out("cat", f"t{i}") == combinations.held_out(f"t{i}", "cat") for i in range(100))


def test_held_out_drawings_are_no_part_of_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawings, "held_out", lambda label, style: label == "pear")
    world = tiny_world()
    for kind in KINDS:
        assert not any("pear" in caption for each in drawn(world, kind, 25) for caption in each.captions)
    sets = evaluation_sets(world, count=2, plain_count=4)
    assert set(sets) == {*COMBINED, "held-out drawings", "trained drawings"}
    assert {each.captions[1] for each in sets["held-out drawings"]} == {"pear"}
    assert not any("pear" in each.captions[1] for each in sets["trained drawings"])


def test_sister_styles_hold_out_the_same_and_the_old_styles_what_they_did() -> None:
    from recipes.emoji import art

    labels = [f"concept {i}" for i in range(500)]
    for style in art.STYLES:
        assert [drawings.held_out(label, style) for label in labels] == [art.held_out(label, style) for label in labels]
    for style, sister in drawings.SISTERS.items():
        assert all(drawings.held_out(label, style) == drawings.held_out(label, sister) for label in labels)


@pytest.mark.parametrize("label", ["cat face", "dog face", "grinning face"])
def test_a_hat_sits_on_the_head_and_does_not_hover(world: World, label: str) -> None:
    head = Figure(world, row_of(world, label)).sprite(100, 100, random.Random(0))
    hat = Figure(world, row_of(world, "top hat")).sprite(100, 100, random.Random(0))
    picture = np.asarray(wearing.dressed(head, hat, wearing.FROM_ART["top hat"][1]))
    middle = (picture[:, 62:66] < 245).any((1, 2))
    first, last = np.flatnonzero(middle)[[0, -1]]
    assert middle[first : last + 1].all()  # no white between the hat and the head
    assert last - first > 100


def test_glasses_lie_over_the_eyes(world: World) -> None:
    head = Figure(world, row_of(world, "cat face")).sprite(120, 120, random.Random(0))
    ink = np.asarray(head)
    dark = (ink[..., :3].max(-1) < 60) & (ink[..., 3] > 128)
    assert abs(wearing.eyes(head) - np.flatnonzero(dark.any(1)).mean()) < 3


@pytest.mark.parametrize(
    ("one", "several"),
    [
        ("glass of milk", "glasses of milk"),
        ("person walking", "people walking"),
        ("woman artist", "women artists"),
        ("strawberry", "strawberries"),
        ("kitchen knife", "kitchen knives"),
        ("computer mouse", "computer mice"),
        ("snowman", "snowmen"),
        ("face blowing a kiss", "faces blowing a kiss"),
        ("tropical fish", "tropical fish"),
        ("bus", "buses"),
        ("cup with a straw", "cups with a straw"),
        ("toy", "toys"),
    ],
)
def test_plurals(one: str, several: str) -> None:
    assert plural(one) == several


def test_articles() -> None:
    texts = [with_article(text) for text in ("pear", "orange pear", "hourglass", "unicorn", "umbrella", "ufo")]
    assert texts == ["a pear", "an orange pear", "an hourglass", "a unicorn", "an umbrella", "a ufo"]


def called(label: str) -> Noun:
    found = noun(label)
    assert found is not None
    return found


def test_what_labels_are_called() -> None:
    cat, scissors, coffee = called("cat face"), called("scissors"), called("hot beverage")
    assert (cat.a(), cat.plural, scissors.a(), scissors.plural) == ("a cat", "cats", "scissors", "")
    assert "coffee cup" in coffee.others
    assert all(
        noun(label) is None for label in ("keycap: 1", "ok button", "kiss: man, man", "two o’clock", "thumbs up")
    )
    assert [without_colour(name) for name in ("light blue heart", "police car light", "orange")] == [
        "heart",
        "police car light",
        "orange",
    ]


def test_names_of_one_thing_share_their_combinations() -> None:
    assert called("automobile").key == called("oncoming automobile").key
    assert called("cat").key == called("cat face").key
