"""What is recommended, and what is said about it, for numbers whose lesson is plain."""

from __future__ import annotations

import pytest

from evaluate.made_up import measure, results, row
from fewstep.evaluate.metrics import metrics
from fewstep.evaluate.recommend import recommend


def test_the_fewest_steps_that_are_as_good_and_the_fewest_that_will_do() -> None:
    rows = [
        row("model", steps, fd, hit) for steps, fd, hit in ((1, 30, 0.5), (2, 14, 0.78), (4, 10.2, 0.8), (8, 10, 0.8))
    ]
    advice = recommend(results(*rows))
    assert (advice.live, advice.final, advice.avoid) == (2, 4, (1,))
    assert advice.headline == "live preview: 2 steps; final: 4; do not ship 1"
    assert advice.reasons[0].startswith("4 steps: Fréchet distance to real pictures 10.20 (10.00 to 10.40), 80.0%")
    assert "in 50% of the time" in advice.reasons[1]
    assert advice.losses == ()


def test_a_model_whose_words_are_lost_is_not_for_preview() -> None:
    rows = [row("model", 1, 10.0, 0.6), row("model", 2, 10.1, 0.8), row("model", 4, 10.0, 0.8)]
    advice = recommend(results(*rows))
    assert (advice.live, advice.final, advice.avoid) == (2, 2, (1,))
    assert advice.headline == "live preview and final: 2 steps; do not ship 1"


def test_quality_that_falls_with_more_steps_is_called_a_fault() -> None:
    rows = [row("model", 2, 14.0), row("model", 4, 10.0), row("model", 8, 11.5)]
    advice = recommend(results(*rows))
    assert (advice.live, advice.final, advice.avoid) == (2, 4, (8,))
    assert any("falls from 4 to 8 steps (10.00 to 11.50)" in reason for reason in advice.reasons)


def test_where_a_plain_solver_is_better_is_said() -> None:
    rows = [row("model", 4, 12.0), row("solver", 4, 9.0, p50=0.08), row("solver", 2, 11.0, p50=0.03)]
    advice = recommend(results(*rows))
    assert advice.losses == (
        "At 4 steps teacher, unipc is better: 9.00 against 12.00, at 2.0 times the time.",
        "In the time of 4 steps (40 ms) teacher, unipc, 2 steps (30 ms) is better: 11.00 against 12.00.",
    )


def test_a_difference_that_may_be_chance_is_no_loss() -> None:
    rows = [row("model", 4, 10.1), row("solver", 4, 10.0, phase=1)]
    assert recommend(results(*rows)).losses == ()


def test_tameness_and_colours_are_disclosed() -> None:
    tame = row("model", 4, 10.0, diversity_ratio=0.8, saturation=0.07, agreement=0.4)
    notes = recommend(results(tame)).notes
    assert notes[0].startswith("At 4 steps its pictures of one prompt are tamer than the teacher's: 80.0%")
    assert notes[1] == "Its colours are stronger than the teacher's: +7.0%."
    assert "0.400 from the teacher's" in notes[2]
    assert "as varied as" in recommend(results(row("model", 4, 10.0, diversity_ratio=1.0))).notes[0]


def test_a_small_sample_makes_no_promises() -> None:
    """1,024 pictures are enough for 256 features."""
    rows = [row("model", 1, 30.0), row("model", 4, 10.0)]
    headline = recommend(results(*rows, conditions={"num_images": 1020})).headline
    assert headline == "a first guess, from 1020 pictures: live preview and final: 4 steps; do not ship 1"
    assert recommend(results(*rows, conditions={"num_images": 1024})).headline.startswith("live preview")
    noisy = [row("model", 1, 12.0), row("model", 4, 10.0, phase=1)]
    for each in noisy:
        each.measures["fd"] = measure(each.measures["fd"].value, 5.0, each.steps)  # type: ignore[index]
    assert recommend(results(*noisy)).final == 4  # though the difference may be chance


def test_shares_stay_within_the_whole() -> None:
    low, high = metrics()["retrieval"].interval(measure(0.99, 0.1))
    assert (low, high) == (pytest.approx(0.794, abs=0.001), 1.0)
    assert metrics()["diversity_ratio"].interval(measure(0.99, 0.1))[1] > 1.1


def test_nothing_to_measure_against() -> None:
    bare = row("model", 4, 10.0)
    bare.measures.pop("fd")  # type: ignore[attr-defined]
    advice = recommend(results(bare))
    assert (advice.live, advice.final) == (None, None)
    assert "neither a reference nor a teacher" in advice.headline
