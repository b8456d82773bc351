"""Which of two evaluations is better, and what must not be compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evaluate.made_up import results, row
from fewstep.cli.main import main
from fewstep.errors import InvalidRequest
from fewstep.evaluate.compare import as_markdown, compare
from fewstep.evaluate.results import Results


def test_better_in_pairs_where_it_is_better() -> None:
    a = results(row("model", 2, 10.0), row("model", 4, 9.0, 0.70))
    b = results(row("model", 2, 10.05), row("model", 4, 9.0, 0.80))
    found = {(one.a.steps, one.name): one.better for one in compare(a, b).rows}
    assert found == {(2, "fd"): "A", (2, "retrieval"): "", (4, "fd"): "", (4, "retrieval"): "B"}
    assert compare(a, b).verdict == "A is better in 1 of 4 comparisons, B in 1; 2 may be chance"
    assert "| lcm, 4 steps | Prompt found | 70.0% | 80.0% |" in as_markdown(compare(a, b))


def test_strangers_need_larger_differences() -> None:
    a, b = results(row("model", 2, 10.0)), results(row("model", 2, 10.05), conditions={"seed": 7})
    comparison = compare(a, b)
    assert [one.better for one in comparison.rows] == ["", ""]
    assert "the prompts, seeds or numbers of pictures differ" in comparison.remarks[0]


def test_many_comparisons_need_smaller_chances() -> None:
    """p = 0.01 once is significant; once among twenty it is not."""
    one = results(row("model", 2, 10.0))
    other = results(row("model", 2, 10.0 + 0.1 * 2.576 * 2**0.5, phase=1), conditions={"seed": 1})
    assert compare(one, other).rows[0].difference.p == pytest.approx(0.01, rel=0.05)
    assert compare(one, other).rows[0].better == "A"
    crowd = [row("model", steps, 10.0) for steps in range(3, 22)]
    many = compare(results(*one.rows, *crowd), results(*other.rows, *crowd, conditions={"seed": 1}))
    assert many.rows[0].better == ""


@pytest.mark.parametrize(
    ("changes", "gone", "words"),
    [
        ({"reference_identity": "r2"}, "fd", "the real pictures differ"),
        ({"teacher_hash": "t2"}, "diversity_ratio", "the teachers differ"),
        ({"num_images": 1000}, "fd", "A has 2000 pictures and B 1000"),
    ],
)
def test_what_means_something_else_is_left_out(changes: dict[str, Any], gone: str, words: str) -> None:
    rows = [row("model", 2, 10.0, diversity_ratio=0.9, clip_score=30.0)]
    comparison = compare(results(*rows), results(*rows, conditions=changes))
    names = {one.name for one in comparison.rows}
    assert gone not in names
    assert "clip_score" in names
    assert any(words in remark for remark in comparison.remarks)


def test_other_networks_and_nothing_in_common_are_refused() -> None:
    rows = [row("model", 2, 10.0)]
    with pytest.raises(InvalidRequest, match="numbers of different networks"):
        compare(results(*rows), results(*rows, conditions={"features_identity": "clip 2"}))
    with pytest.raises(InvalidRequest, match="no step count"):
        compare(results(*rows), results(row("model", 4, 10.0)))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, fd in (("a", 10.0), ("b", 11.0)):
        results(row("model", 2, fd)).write(tmp_path / f"{name}.json")
    files = [str(tmp_path / name) for name in ("a.json", "b.json")]
    assert main(["compare", *files, "-o", str(tmp_path / "c.md")]) == 0
    assert "A is better in 1 of 2 comparisons" in capsys.readouterr().out
    assert (tmp_path / "c.md").read_text().startswith("| | measure |")
    assert Results.read(tmp_path / "a.json").rows[0].measures["fd"].value == 10.0


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "other"}', '{"format": "fewstep evaluation 1"}', "\xff"])
def test_files_that_are_no_results(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.json").write_bytes(text.encode("latin-1"))
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "gone.json")]) == 2
    assert "a.json" in capsys.readouterr().err


def test_a_damaged_number_is_noticed(tmp_path: Path) -> None:
    results(row("model", 2, 1.0)).write(tmp_path / "a.json")
    content = json.loads((tmp_path / "a.json").read_text())
    del content["rows"][0]["measures"]["fd"]["value"]
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(InvalidRequest, match="is no results"):
        Results.read(tmp_path / "a.json")
