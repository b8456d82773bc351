"""Whole evaluations of the miniature: the same figures twice, in pieces, in another order, and by two processes."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from fewstep.errors import CannotWrite, FewstepWarning, InvalidRequest, ModelNotFound
from fewstep.evaluate import sweep as sweeping
from fewstep.evaluate.candidates import ModelSpec
from fewstep.evaluate.config import EvaluateConfig
from fewstep.evaluate.features import Eye
from fewstep.evaluate.prompts import read_prompts
from fewstep.evaluate.reference import check_reference, read_reference
from fewstep.evaluate.results import Results
from fewstep.evaluate.run import evaluate
from fewstep.evaluate.sweep import Sweep, Team
from miniature import write_miniature_sd1

PROMPTS = (
    "a blue cat",
    "a red dog",
    "a sad robot",
    "a fox face",
    "a cat face",
    "a red fox",
    "a blue robot",
    "a sad dog",
)


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("prompts") / "prompts.txt"
    path.write_text("\n".join(PROMPTS) + "\n")
    return str(path)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty drawings of a disc."""
    folder = tmp_path_factory.mktemp("real")
    chosen = np.random.default_rng(0)
    for number in range(20):
        image = np.full((40, 40, 3), 255, dtype=np.uint8)
        x, y, r = chosen.integers(8, 32), chosen.integers(8, 32), chosen.integers(4, 9)
        rows, columns = np.mgrid[:40, :40]
        image[(rows - y) ** 2 + (columns - x) ** 2 < r * r] = chosen.integers(0, 255, 3)
        Image.fromarray(image).save(folder / f"disc {number}.png")
    return folder


@pytest.fixture(scope="module")
def config(miniature: Path, prompts: str, real: Path) -> EvaluateConfig:
    return EvaluateConfig(
        model=str(miniature),
        teacher=str(miniature / "teacher"),
        prompts=prompts,
        reference=str(real),
        features="eye",
        steps=(1, 2),
        teacher_steps=3,
        solvers=("unipc",),
        num_images=16,
        per_prompt=2,
        draws=4,
        rounds=1,
        batch_size=4,
        device="cpu",
    )


@pytest.fixture(scope="module")
def whole(config: EvaluateConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, Path]:
    folder = tmp_path_factory.mktemp("whole")
    results = evaluate(config, folder, command="fewstep evaluate miniature")
    assert results is not None
    return results, folder


def figures(results: Results | None) -> dict[str, dict[str, Any]]:
    assert results is not None
    return {row.label: dict(row.measures) for row in results.rows}


@pytest.mark.slow
def test_every_way_to_sample_is_measured(whole: tuple[Results, Path]) -> None:
    results, folder = whole
    assert [(row.role, row.sampler, row.steps) for row in results.rows] == [
        ("teacher", "dpm++", 3),
        ("model", "lcm", 1),
        ("model", "lcm", 2),
        ("solver", "unipc", 1),
        ("solver", "unipc", 2),
    ]
    assert {"fd", "kid", "coverage", "retrieval", "vendi"} <= set(results.rows[0].measures)
    assert {"fd_teacher", "agreement", "diversity_ratio", "saturation"} <= set(results.rows[1].measures)
    assert "agreement" not in results.rows[0].measures
    assert all(row.speed is not None and 0 < row.speed.p50 <= row.speed.p95 for row in results.rows)
    assert any("few for a Fréchet distance" in warning for warning in results.warnings)
    page = (folder / "report.html").read_text()
    assert "a blue cat" in page
    assert "nearest: disc" in page
    assert "https://" not in page
    assert "http://" not in page
    assert (folder / "card.md").read_text().startswith("## Which step count to use\n")


@pytest.mark.slow
def test_the_file_holds_what_was_measured(whole: tuple[Results, Path]) -> None:
    results, folder = whole
    read = Results.read(folder / "results.json")
    assert read.conditions == results.conditions
    for ours, theirs in zip(results.rows, read.rows, strict=True):
        assert dataclasses.replace(ours, measures={}) == dataclasses.replace(theirs, measures={})
        assert {n: m.value for n, m in ours.measures.items()} == {n: m.value for n, m in theirs.measures.items()}
        for name, measure in ours.measures.items():
            assert theirs.measures[name].error == pytest.approx(measure.error, rel=1e-4, abs=1e-6)


@pytest.mark.slow
def test_two_runs_give_the_same_figures(whole: tuple[Results, Path], config: EvaluateConfig, tmp_path: Path) -> None:
    assert figures(evaluate(config, tmp_path)) == figures(whole[0])


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_figures(
    whole: tuple[Results, Path], config: EvaluateConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate = Sweep._generate_unit
    calls = 0

    def killed(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 7:
            raise KeyboardInterrupt
        generate(*arguments)

    monkeypatch.setattr(Sweep, "_generate_unit", killed)
    with pytest.raises(KeyboardInterrupt):
        evaluate(config, tmp_path)
    assert not (tmp_path / "results.json").exists()
    pieces = sorted((tmp_path / "work").rglob("*.safetensors"))
    assert len(pieces) == 7  # six of pictures, and the reference
    pieces[0].write_bytes(b"broken")  # as after a full disk
    monkeypatch.setattr(Sweep, "_generate_unit", generate)
    assert figures(evaluate(config, tmp_path)) == figures(whole[0])


@pytest.mark.slow
def test_more_pictures_go_on_from_fewer(
    whole: tuple[Results, Path], config: EvaluateConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a run first: the rest is generated, nothing again. The first prompts are the same, so are their pictures."""
    monkeypatch.setattr("fewstep.evaluate.config.FEWEST_PICTURES", 8)
    evaluate(dataclasses.replace(config, num_images=8), tmp_path)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*/*.safetensors")}
    assert figures(evaluate(config, tmp_path)) == figures(whole[0])
    assert all(path.stat().st_mtime_ns == then for path, then in before.items())


def team(rank: int, size: int) -> Team:
    return Team(rank, size, lambda: None)


@pytest.mark.slow
def test_pieces_may_be_generated_by_others_and_in_any_order(
    whole: tuple[Results, Path], config: EvaluateConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three processes, the last one first, each with its pieces in a random order."""
    missing = sweeping.Shards.missing

    def shuffled(self: Any, count: int) -> Iterator[int]:
        units = list(missing(self, count))
        random.Random(5).shuffle(units)
        return iter(units)

    monkeypatch.setattr(sweeping.Shards, "missing", shuffled)
    (tmp_path / "work").mkdir()
    eye = Eye.load()
    for rank in (2, 1):
        Sweep(config, read_prompts(config.prompts), tmp_path / "work", team(rank, 3)).generate(eye, lambda *_: None)
    share = [len(list(folder.glob("*.safetensors"))) for folder in (tmp_path / "work").iterdir()]
    assert share == [2] * 5  # pieces 1 and 2 of 4 for every candidate
    assert figures(evaluate(config, tmp_path)) == figures(whole[0])


@pytest.mark.slow
def test_a_reference_that_was_kept_is_one(whole: tuple[Results, Path], config: EvaluateConfig, tmp_path: Path) -> None:
    kept = whole[1] / "work" / "reference.safetensors"
    results = evaluate(dataclasses.replace(config, reference=str(kept)), tmp_path)
    assert figures(results) == figures(whole[0])
    assert "nearest:" not in (tmp_path / "report.html").read_text()


@pytest.mark.slow
def test_a_reference_as_an_array(
    whole: tuple[Results, Path], config: EvaluateConfig, real: Path, tmp_path: Path
) -> None:
    pixels = [np.asarray(Image.open(path)) for path in sorted(real.iterdir())]
    save_file({"pixels": torch.from_numpy(np.stack(pixels))}, tmp_path / "real.safetensors")
    results = evaluate(dataclasses.replace(config, reference=str(tmp_path / "real.safetensors")), tmp_path)
    assert figures(results) == figures(whole[0])


@pytest.mark.slow
def test_the_same_model_under_another_sampler(config: EvaluateConfig, tmp_path: Path) -> None:
    results = evaluate(dataclasses.replace(config, also=(f"{config.model}@tcd",), solvers=(), steps=(2,)), tmp_path)
    assert results is not None
    assert [(row.role, row.sampler) for row in results.rows] == [
        ("teacher", "dpm++"),
        ("model", "lcm"),
        ("also", "tcd"),
    ]
    assert results.rows[1].measures["agreement"] != results.rows[2].measures["agreement"]


def test_without_reference_and_teacher(config: EvaluateConfig, tmp_path: Path) -> None:
    results = evaluate(dataclasses.replace(config, reference="none", teacher="none"), tmp_path)
    assert results is not None
    assert set(results.rows[0].measures) == {"clip_score", "retrieval", "vendi"}
    assert "no recommendation" in results.recommendation["headline"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_images": 1}, "number of pictures is 1; it must be from 16"),
        ({"num_images": 15}, "must be from 16"),
        ({"num_images": 18, "per_prompt": 4}, "divide the number of pictures"),
        ({"num_images": 400}, "need 200 prompts, and there are 8"),
        ({"steps": ()}, "the step counts are"),
        ({"steps": (2, 2)}, "the step counts are"),
        ({"steps": (0,)}, "the step counts are"),
        ({"solvers": ("euler",)}, "unknown solver 'euler'"),
        ({"features": "vgg"}, "unknown features 'vgg'"),
        ({"reference": "gone"}, "there is no reference gone"),
        ({"prompts": "gone.txt"}, "cannot be read as text"),
        ({"model": "+x"}, "names no model"),
        ({"seed": -1}, "the seed is -1"),
        ({"draws": 1}, "the bootstrap has 1 draws"),
    ],
)
def test_mistakes_are_found_before_anything_is_loaded(
    config: EvaluateConfig, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidRequest, match=words):
        dataclasses.replace(config, **changes)


@pytest.mark.parametrize(
    ("text", "name", "loras", "sampler"),
    [
        ("starter", "starter", (), None),
        ("./a+b.safetensors:0.8+lcm-lora", "./a", ("b.safetensors:0.8", "lcm-lora"), None),
        ("starter@tcd", "starter", (), "tcd"),
        ("me@home/model", "me@home/model", (), None),
    ],
)
def test_what_is_named(text: str, name: str, loras: tuple[str, ...], sampler: str | None) -> None:
    spec = ModelSpec.of(text)
    assert (spec.name, spec.loras, spec.sampler) == (name, loras, sampler)
    assert str(spec) == text


def test_mistakes_that_only_the_models_show(config: EvaluateConfig, miniature: Path, tmp_path: Path) -> None:
    def refused(**changes: Any) -> str:
        with pytest.raises((InvalidRequest, ModelNotFound)) as caught:
            evaluate(dataclasses.replace(config, **changes), tmp_path / "out")
        assert not list((tmp_path / "out" / "work").rglob("*/*.safetensors"))
        return str(caught.value)

    other = str(write_miniature_sd1(tmp_path / "other"))
    assert "the same noise cannot be given to both" in refused(teacher=other)
    assert "is itself a consistency model" in refused(teacher=str(miniature))
    assert "no model" in refused(model="nobody-has-this")
    assert "guidance scale is 50" in refused(guidance_scale=50.0)


def test_a_report_that_cannot_be_written_is_refused_first(config: EvaluateConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWrite, match="cannot write into"):
        evaluate(config, tmp_path / "file")


@pytest.mark.slow
def test_black_pictures_are_noticed(config: EvaluateConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = Sweep.images

    def black(self: Sweep, candidate: Any, model: Any, numbers: Any) -> list[Image.Image]:
        return [Image.new("RGB", image.size) for image in images(self, candidate, model, numbers)]

    monkeypatch.setattr(Sweep, "images", black)
    with pytest.raises(InvalidRequest, match="of one colour"):
        evaluate(config, tmp_path)


def test_a_reference_may_lie_behind_links_and_says_what_it_leaves_out(real: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(real)
    (tmp_path / ".hidden.png").touch()
    check_reference(tmp_path)
    count = len(list(real.iterdir()))
    with pytest.warns(FewstepWarning, match=r"left out, hidden.*\.hidden\.png"):
        reference = read_reference(tmp_path, Eye.load(), (128, 128))
    assert len(reference.features) == count
    assert torch.equal(reference.features, read_reference(real, Eye.load(), (128, 128)).features)


def test_bad_references(config: EvaluateConfig, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    Image.new("RGB", (8, 8)).save(few / "one.png")
    with pytest.raises(InvalidRequest, match="holds 1 pictures"):
        dataclasses.replace(config, reference=str(few))
    black = tmp_path / "black"
    black.mkdir()
    for number in range(16):
        Image.new("RGB", (32, 32)).save(black / f"{number}.png")
    with pytest.raises(InvalidRequest, match=r"16 pictures of the reference .* are the same"):
        evaluate(dataclasses.replace(config, reference=str(black)), tmp_path / "out")
    save_file({"x": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(InvalidRequest, match="holds neither `pixels`"):
        dataclasses.replace(config, reference=str(tmp_path / "other.safetensors"))
    save_file({"features": torch.randn(20, 256)}, tmp_path / "kept.safetensors", {"network": "another"})
    with pytest.raises(InvalidRequest, match="made by another network"):
        evaluate(dataclasses.replace(config, reference=str(tmp_path / "kept.safetensors")), tmp_path / "out")


@pytest.mark.slow
def test_features_are_those_of_the_pictures_alone(whole: tuple[Results, Path], config: EvaluateConfig) -> None:
    """Every piece holds what the eye sees of these very prompts and seeds, generated one by one."""
    sweep = Sweep(config, read_prompts(config.prompts), whole[1] / "work", team(0, 1))
    eye, candidate = Eye.load(), sweep.candidates[2]
    kept = load_file(sweep.shards(candidate, eye).path(2))["features"]
    alone = sweep.images(candidate, sweep.load(candidate.spec), [9])
    size = sweep.load(candidate.spec).traits.default_size
    torch.testing.assert_close(sweeping.look(alone, eye, size).features[0], kept[1], rtol=0.05, atol=0.05)
