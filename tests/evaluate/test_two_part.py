"""The score of two-part prompts finds what is there, and nothing that is not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from evaluate.made_up import measure, results, row
from fewstep.errors import InvalidModel
from fewstep.evaluate import two_part, two_part_score
from fewstep.evaluate.candidates import Candidate, ModelSpec
from fewstep.evaluate.colours import WORDS, dominating
from fewstep.evaluate.metrics.two_parts import measures_of
from fewstep.evaluate.pieces import SIDE, alone, halves_of, ink_of, pieces_of
from fewstep.evaluate.report_two_parts import lines, two_parts
from fewstep.evaluate.results import Results
from fewstep.evaluate.two_part import Finder, real_pictures
from fewstep.evaluate.two_part_prompts import COLOUR, COUNT, PAIR, TwoPart, built_in


def canvas(*boxes: tuple[int, int, int, int], colour: tuple[float, float, float] = (-1, -1, 1)) -> Tensor:
    """White, (3, 128, 128), with boxes (left, top, right, bottom) of a colour."""
    picture = torch.ones(3, SIDE, SIDE)
    for left, top, right, bottom in boxes:
        picture[:, top:bottom, left:right] = torch.tensor(colour).view(3, 1, 1)
    return picture


def test_pieces_are_counted_the_largest_first_and_dots_are_none() -> None:
    ink = ink_of(canvas((5, 5, 45, 45), (60, 60, 120, 120), (60, 10, 64, 14))[None])[0]
    pieces = pieces_of(ink)
    assert [int(piece.sum()) for piece in pieces] == [3600, 1600]
    assert (pieces[0] & pieces[1]).sum() == 0


def test_what_touches_at_a_corner_or_winds_is_one_piece() -> None:
    ink = torch.zeros(12, 12, dtype=torch.bool)
    ink[0:4, 0:4], ink[4:8, 4:8] = True, True
    assert len(pieces_of(ink)) == 1
    spiral = torch.zeros(9, 9, dtype=torch.bool)
    spiral[0], spiral[:, 8], spiral[8], spiral[2:, 0], spiral[2, 0:7], spiral[2:7, 6] = (True,) * 6
    assert len(pieces_of(spiral)) == 1
    spiral[0, 4] = spiral[4, 8] = False
    assert len(pieces_of(spiral)) == 2


def test_blank_ink_has_no_pieces_and_no_halves() -> None:
    nothing = torch.zeros(8, 8, dtype=torch.bool)
    assert pieces_of(nothing) == []
    assert halves_of(nothing) is None


@pytest.mark.parametrize("upright", [True, False])
def test_halves_are_cut_where_there_is_least_ink(upright: bool) -> None:
    picture = canvas((10, 20, 50, 100), (58, 30, 120, 90))
    ink = ink_of(picture[None])[0]
    ink = ink if upright else ink.T.contiguous()
    halves = halves_of(ink)
    assert halves is not None
    assert [int(half.sum()) for half in halves] == [40 * 80, 62 * 60]


def test_a_part_alone_fills_a_white_square() -> None:
    picture = canvas((10, 10, 30, 50), (80, 80, 120, 120), colour=(1, -1, -1))
    part = pieces_of(ink_of(picture[None])[0])[1]
    shown = ink_of(alone(picture, part)[None])[0]
    rows, columns = shown.any(1).nonzero()[:, 0], shown.any(0).nonzero()[:, 0]
    assert abs(int(rows[-1] - rows[0]) + 1 - 0.94 * SIDE) < 4
    assert abs(int(columns[-1] - columns[0]) + 1 - 0.47 * SIDE) < 4
    assert len(pieces_of(shown)) == 1


def test_pictures_of_other_sizes_are_taken_apart_alike() -> None:
    small = canvas((10, 10, 50, 50), (70, 70, 120, 120))[None]
    large = torch.nn.functional.interpolate(small, scale_factor=4)
    assert len(pieces_of(ink_of(large)[0])) == 2


@pytest.mark.parametrize(
    ("rgb", "word"),
    [
        ((0.85, 0.1, 0.12), "red"),
        ((0.95, 0.55, 0.1), "orange"),
        ((0.98, 0.82, 0.2), "yellow"),
        ((0.2, 0.6, 0.2), "green"),
        ((0.15, 0.4, 0.85), "blue"),
        ((0.55, 0.25, 0.7), "purple"),
        ((0.97, 0.55, 0.75), "pink"),
        ((0.5, 0.33, 0.2), "brown"),
        ((0.1, 0.1, 0.12), "black"),
        ((0.6, 0.61, 0.63), "grey"),
        ((0.97, 0.97, 0.97), "white"),
    ],
)
def test_colours_that_dominate(rgb: tuple[float, float, float], word: str) -> None:
    mostly = np.concatenate([np.tile(rgb, (70, 1)), np.tile((0.1, 0.1, 0.1), (30, 1))])
    assert dominating(mostly.astype(np.float32)) == word
    assert word in WORDS


def test_nothing_has_no_colour() -> None:
    assert dominating(np.zeros((0, 3), np.float32)) == ""


def test_the_built_in_prompts_are_a_hundred_of_three_kinds() -> None:
    asked = built_in()
    assert len({each.prompt for each in asked}) == 100
    assert {kind: sum(each.kind == kind for each in asked) for kind in (COLOUR, PAIR, COUNT)} == {
        COLOUR: 34,
        PAIR: 33,
        COUNT: 33,
    }
    for each in asked:
        assert each.kind != COLOUR or each.prompt.split()[1:] == [each.first, *each.second.split()]
        assert each.kind != PAIR or (each.first in each.prompt and each.second in each.prompt)


@pytest.fixture(scope="module")
def finder() -> Finder:
    return Finder.load()


@pytest.fixture(scope="module")
def real() -> Tensor:
    return real_pictures(100)


def found_by_kind(finder: Finder, asked: list[TwoPart], pixels: Tensor) -> dict[str, float]:
    right = finder.right(asked, pixels)
    kinds = (COLOUR, PAIR, COUNT)
    return {kind: float(right[torch.tensor([each.kind == kind for each in asked])].mean()) for kind in kinds}


@pytest.mark.slow
def test_real_compositions_are_found_and_those_of_other_prompts_are_not(finder: Finder, real: Tensor) -> None:
    asked = built_in()
    assert min(found_by_kind(finder, asked, real).values()) > 0.8
    order = [i for kind in (COLOUR, PAIR, COUNT) for i, each in enumerate(asked) if each.kind == kind]
    others = [order[(place + 5) % 100] for place in range(100)]
    moved = torch.empty_like(real)
    moved[order] = real[others]
    assert max(found_by_kind(finder, asked, moved).values()) < 0.1


def test_the_colour_alone_or_the_thing_alone_is_not_enough(finder: Finder, real: Tensor) -> None:
    asked = built_in()
    number = next(i for i, each in enumerate(asked) if each.kind == COLOUR and finder.right([each], real[i : i + 1])[0])
    each, picture = asked[number], real[number : number + 1]
    other = "red" if each.first != "red" else "blue"
    assert finder.right([dataclasses.replace(each, first=other)], picture)[0] == 0
    thing = next(name for name in finder.things if name != each.second)
    assert finder.right([dataclasses.replace(each, second=thing)], picture)[0] == 0


def test_one_more_or_one_less_is_another_number(finder: Finder, real: Tensor) -> None:
    asked = built_in()
    found = [i for i, each in enumerate(asked) if each.kind == COUNT and finder.right([each], real[i : i + 1])[0]]
    for i in found[:4]:
        other = dataclasses.replace(asked[i], first="three" if asked[i].first == "two" else "two")
        assert finder.right([other], real[i : i + 1])[0] == 0


def test_white_pictures_show_nothing(finder: Finder) -> None:
    assert finder.right(built_in()[::25], torch.ones(4, 3, 64, 64)).tolist() == [0, 0, 0, 0]


def test_a_head_for_another_eye_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    save_file(load_file(two_part.HEAD), tmp_path / "head.safetensors", {"eye": "another", "things": "cat"})
    monkeypatch.setattr(two_part, "HEAD", tmp_path / "head.safetensors")
    with pytest.raises(InvalidModel, match="trained over another eye"):
        Finder.load()


class FakeSweep:
    """Candidates that give a real composition of what they are asked, or of the next prompt."""

    def __init__(self, folder: Path) -> None:
        from fewstep.evaluate.config import EvaluateConfig
        from fewstep.evaluate.sweep import Team

        self.folder, self.team = folder, Team(0, 1, lambda: None)
        self.config = EvaluateConfig(draws=20, batch_size=50)
        self.candidates = [Candidate(ModelSpec("starter"), "model", "starter", "tcd", steps) for steps in (1, 4)]
        self.candidates.append(Candidate(ModelSpec("starter-teacher"), "solver", "teacher, ddim", "ddim", 4))

    def load(self, spec: ModelSpec) -> Any:
        import fewstep

        return fewstep.load("starter", device="cpu")


@pytest.fixture
def generated(monkeypatch: pytest.MonkeyPatch, real: Tensor) -> Callable[[], int]:
    """Four steps give what is asked, one step always the same picture; returns how many pictures were generated."""
    asked = [each.prompt for each in built_in()]
    count = 0

    def generate(candidate: Candidate, model: Any, some: list[TwoPart], seeds: list[int]) -> Tensor:
        nonlocal count
        count += len(some)
        numbers = [asked.index(each.prompt) if candidate.steps == 4 else 0 for each in some]
        return real[numbers]

    monkeypatch.setattr(two_part_score, "_pixels", generate)
    return lambda: count


@pytest.mark.slow
def test_every_candidate_but_plain_solvers_is_asked_once(tmp_path: Path, generated: Callable[[], int]) -> None:
    sweep: Any = FakeSweep(tmp_path)
    two_part_score.score_two_parts(sweep, lambda *_: None)
    assert generated() == 200
    two_part_score.score_two_parts(sweep, lambda *_: None)
    assert generated() == 200
    *models, solver = (two_part_score.two_parts_found(sweep, candidate) for candidate in sweep.candidates)
    assert solver is None
    one, four = (measures_of(right, 20) for right in models if right is not None)
    ceiling = two_part_score.two_part_ceiling(20)
    assert {name: measure.value for name, measure in four.items()} == {n: m.value for n, m in ceiling.items()}
    assert one["two_part"].value <= 0.02
    assert one["two_part_number"].value == 0
    assert 0 < ceiling["two_part"].high - ceiling["two_part"].low < 0.3


def test_scores_are_in_the_report_the_lines_and_the_file(tmp_path: Path) -> None:
    scores = dict.fromkeys(("two_part", "two_part_colour", "two_part_things", "two_part_number"), 0.25)
    ceiling = {name: measure(0.9, 0.01) for name in scores}
    asked = dataclasses.replace(results(row("model", 4, 10.0, **scores), row("solver", 4, 12.0)), ceiling=ceiling)
    assert "Do words combine?" in two_parts(asked)
    assert two_parts(asked).count("<tr>") == 3  # the head, the ceiling and the model; plain solvers are not asked
    assert lines(asked)[0].startswith("real compositions (the ceiling): two-part prompts 90%")
    assert lines(asked)[1].startswith("lcm, 4 steps: two-part prompts 25%")
    asked.write(tmp_path / "results.json")
    read = Results.read(tmp_path / "results.json")
    assert {name: each.value for name, each in read.ceiling.items()} == dict.fromkeys(scores, 0.9)
    assert two_parts(results(row("model", 4, 10.0))) == ""
