"""The cache: every kind of broken picture is left out by name, and a cache of anything else is refused."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

import fewstep
from fewstep.data.building import build_cache
from fewstep.data.cache_folder import Manifest, read_cache
from fewstep.data.caching import cached, survey
from fewstep.data.config import DataConfig
from fewstep.data.latents import LatentCache, Rows
from fewstep.errors import CannotWrite, InvalidData
from fewstep.imaging.pixels import to_pixels
from fewstep.models.model import Model
from miniature import write_miniature, write_miniature_sdxl

UNUSABLE = {"zero.png", "broken.jpg", "cut.png", "thin.png"}


def write_pictures(folder: Path) -> Path:
    folder.mkdir()
    Image.new("RGB", (200, 100), "red").save(folder / "red fox.png")
    Image.new("CMYK", (64, 64), (0, 255, 255, 0)).save(folder / "cat.jpg")
    Image.new("RGBA", (64, 64), (255, 0, 0, 0)).save(folder / "blue dog.png")
    Image.new("I;16", (64, 64), 40_000).save(folder / "sixteen.png")
    Image.new("P", (64, 64)).save(folder / "robot.gif")
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    Image.new("RGB", (90, 60), "blue").save(folder / "sad robot.jpg", exif=exif)
    (folder / "zero.png").write_bytes(b"")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff" + b"no picture" * 9)
    whole = (folder / "red fox.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    Image.new("RGB", (300, 5), "red").save(folder / "thin.png")
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("data") / "pictures")


@pytest.fixture(scope="module")
def made(pictures: Path, teacher: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("caches") / "cache"
    build_cache(teacher, DataConfig(source=str(pictures), suffix=", noto style"), folder)
    return folder


def test_what_can_be_used_is_used_and_the_rest_is_named(made: Path) -> None:
    manifest = Manifest.read(made)
    assert manifest.pictures == 6
    skipped = {name for names in manifest.skipped.values() for name in names}
    assert skipped == UNUSABLE
    assert any("0 bytes" in reason for reason in manifest.skipped)
    assert "red fox, noto style" in manifest.examples


def test_what_is_filtered_is_named_like_what_is_broken(tmp_path: Path, teacher: Model) -> None:
    pictures = write_pictures(tmp_path / "pictures")
    linked = write_pictures(tmp_path / "linked")
    (pictures / "more").symlink_to(linked)
    (pictures / ".thumb.png").write_bytes((pictures / "red fox.png").read_bytes())
    (pictures / "gone.png").symlink_to(tmp_path / "nowhere")
    manifest = build_cache(teacher, DataConfig(source=str(pictures)), tmp_path / "cache")
    skipped = {name for names in manifest.skipped.values() for name in names}
    assert skipped == UNUSABLE | {f"more/{name}" for name in UNUSABLE} | {".thumb.png", "gone.png"}
    assert manifest.skipped["a link to nothing"] == ["gone.png"]
    assert (manifest.pictures, survey(DataConfig(source=str(pictures)))[0]) == (12, 12 + 2 * len(UNUSABLE))


def test_captions_that_cannot_be_read_stop_a_cache_before_anything_is_encoded(tmp_path: Path, teacher: Model) -> None:
    pictures = write_pictures(tmp_path / "pictures")
    (pictures / "robot.txt").write_bytes(b"\x81\x8d a robot")
    encoded: list[int] = []
    with pytest.raises(InvalidData, match=r"robot\.txt is no text"):
        build_cache(teacher, DataConfig(source=str(pictures)), tmp_path / "cache", encoded.append)
    assert encoded == []


def test_latents_and_states_are_those_of_the_model(made: Path, pictures: Path, teacher: Model) -> None:
    cache = read_cache(made, Manifest.read(made))
    index = sorted(path.name for path in pictures.iterdir() if path.name not in UNUSABLE)
    row = torch.tensor([index.index("red fox.png")])
    with Image.open(pictures / "red fox.png") as image:
        expected = teacher.encode_images(to_pixels(image, *teacher.traits.default_size))
    torch.testing.assert_close(cache.latents[row].float(), expected, atol=2e-3, rtol=2e-3)
    states = cache.conditioning(cache.captions[row, 0], row, "cpu").states
    torch.testing.assert_close(states, teacher.encode_text(["red fox, noto style"]).states, atol=2e-3, rtol=2e-3)
    empty = cache.states[torch.tensor([0])].float()
    torch.testing.assert_close(empty, teacher.encode_text([""]).states, atol=2e-3, rtol=2e-3)


def test_sdxl_gets_pooled_states_sizes_and_zeros_for_no_words(tmp_path: Path, pictures: Path) -> None:
    model = fewstep.load(write_miniature_sdxl(tmp_path / "sdxl"), device="cpu")
    cache, _ = cached(model, DataConfig(source=str(pictures)), tmp_path / "cache")
    cond = cache.conditioning(torch.tensor([0, 1]), torch.tensor([0, 1]), "cpu")
    assert cond.pooled is not None
    assert cond.sizes is not None
    assert float(cond.states[0].abs().max()) == float(cond.pooled[0].abs().max()) == 0.0
    assert float(cond.states[1].abs().max()) > 0.0
    height, width = model.traits.default_size
    sizes = {tuple(row) for row in cache.sizes.tolist()}  # type: ignore[union-attr]
    assert (100, 200, 0, width // 2, height, width) in sizes  # twice as wide as high, cropped in the middle


def test_flips_double_the_pictures(tmp_path: Path, pictures: Path, teacher: Model) -> None:
    manifest = build_cache(teacher, DataConfig(source=str(pictures), flip=True), tmp_path / "cache")
    assert manifest.pictures == 12


def test_a_cache_is_used_again_until_its_pictures_change(tmp_path: Path, teacher: Model) -> None:
    pictures, config = write_pictures(tmp_path / "mine"), DataConfig(source=str(tmp_path / "mine"))
    counted: list[int] = []
    cached(teacher, config, tmp_path / "cache", counted.append)
    assert counted == [6]
    cached(teacher, config, tmp_path / "cache", counted.append)
    assert counted == [6]
    (pictures / "red fox.txt").write_text("another fox")
    with pytest.raises(InvalidData, match="have changed"):
        cached(teacher, config, tmp_path / "cache")
    with pytest.raises(InvalidData, match="suffix"):
        cached(teacher, dataclasses.replace(config, suffix=", ink"), tmp_path / "cache")


def test_a_cache_of_other_encoders_or_sizes_is_refused(tmp_path: Path, made: Path, teacher: Model) -> None:
    other = fewstep.load(write_miniature(tmp_path / "other", autoencoder="kl") / "teacher", device="cpu")
    assert other.encoders_hash != teacher.encoders_hash
    with pytest.raises(InvalidData, match="fewstep cache --model"):
        cached(other, DataConfig(source=str(made)), tmp_path / "cache")
    with pytest.raises(InvalidData, match="64 x 64 are asked for"):
        cached(teacher, DataConfig(source=str(made), size=(64, 64)), tmp_path / "cache")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_encoders_are_known_again_in_another_precision(miniature: Path, teacher: Model, dtype: str) -> None:
    half = fewstep.load(miniature / "teacher", device="cpu", dtype=dtype)
    assert half.encoders_hash == teacher.encoders_hash
    weight = next(half.autoencoder.module.parameters()).data.view(-1)
    weight[0] = -weight[0]
    assert half.encoders_hash != teacher.encoders_hash


@pytest.mark.skipif(not Path("/proc/self/maps").is_file(), reason="what is mapped is read from Linux's /proc")
def test_what_was_read_of_a_cache_does_not_stay_in_memory(made: Path, teacher: Model, tmp_path: Path) -> None:
    cache, _ = cached(teacher, DataConfig(source=str(made)), tmp_path / "cache")
    every = torch.arange(len(cache))
    first = cache.conditioning(cache.captions[:, 0], every, "cpu").states, cache.latents[every]
    assert not [line for line in Path("/proc/self/maps").read_text().splitlines() if str(made) in line]
    again = cache.conditioning(cache.captions[:, 0], every, "cpu").states, cache.latents[every]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("damage", ["truncate", "remove", "miscount"])
def test_a_damaged_cache_is_an_error_in_words(tmp_path: Path, made: Path, damage: str, teacher: Model) -> None:
    folder = tmp_path / "cache"
    shutil.copytree(made, folder)
    latents = folder / "latents-00000.safetensors"
    if damage == "truncate":
        latents.write_bytes(latents.read_bytes()[:-10])
    elif damage == "remove":
        latents.unlink()
    else:
        dataclasses.replace(Manifest.read(folder), pictures=7).write(folder)
    with pytest.raises(InvalidData, match="damaged"):
        cached(teacher, DataConfig(source=str(folder)), tmp_path / "unused")


def test_nothing_usable_is_an_error_and_leaves_nothing(tmp_path: Path, teacher: Model) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "zero.png").write_bytes(b"")
    with pytest.raises(InvalidData, match=r"0 bytes.*zero\.png"):
        build_cache(teacher, DataConfig(source=str(tmp_path / "mine")), tmp_path / "cache")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_sizes_that_do_not_fit_the_network_and_folders_that_are_there_are_refused(
    tmp_path: Path, pictures: Path, teacher: Model
) -> None:
    with pytest.raises(InvalidData, match="multiples of"):
        build_cache(teacher, DataConfig(source=str(pictures), size=(100, 100)), tmp_path / "cache")
    with pytest.raises(CannotWrite, match="there already"):
        build_cache(teacher, DataConfig(source=str(pictures)), pictures)


def test_a_survey_counts_without_decoding(pictures: Path, made: Path) -> None:
    assert survey(DataConfig(source=str(pictures)))[0] == 10
    assert survey(DataConfig(source=str(made)))[0] == 6


def test_rows_of_several_tensors_are_those_of_one() -> None:
    whole = torch.arange(60.0).view(20, 3)
    rows = Rows(list(whole.split([7, 1, 12])))
    index = torch.tensor([19, 0, 6, 7, 8, 7])
    assert torch.equal(rows[index], whole[index])
    assert torch.equal(rows[5:9], whole[5:9])
    assert [group.tolist() for group in rows.by_shape()] == [list(range(20))]
    mixed = Rows([torch.zeros(3, 2), torch.ones(4, 5), torch.zeros(2, 2)])
    assert [group.tolist() for group in mixed.by_shape()] == [[0, 1, 2, 7, 8], [3, 4, 5, 6]]
    cache = LatentCache(mixed, whole, torch.zeros(9, 1, dtype=torch.int64))
    assert cache.draw_noise(torch.tensor([4, 6]), torch.Generator()).shape == (2, 5)


def test_in_buckets_pictures_keep_their_shapes(tmp_path: Path, teacher: Model) -> None:
    pictures = tmp_path / "mine"
    pictures.mkdir()
    shapes = {
        "wide": (300, 200),
        "high": (100, 170),
        "square": (90, 90),
        "panorama": (600, 100),
        "also wide": (120, 80),
    }
    for name, shape in shapes.items():
        Image.new("RGB", shape, "red").save(pictures / f"{name}.png")
    config = DataConfig(source=str(pictures), buckets=True)
    cache, manifest = cached(teacher, config, tmp_path / "cache")
    assert manifest.shapes == {"96x160": 3, "128x128": 1, "160x96": 1}
    shapes_of = {tuple(cache.latents[rows].shape[1:]): len(rows) for rows in cache.groups()}
    assert shapes_of == {(16, 6, 10): 3, (16, 8, 8): 1, (16, 10, 6): 1}
    names = sorted(path.stem for path in pictures.iterdir())
    for rows in cache.groups():  # each with its own caption
        for row in rows:
            text = cache.states[cache.captions[row, :1]].float()
            said = [name for name in names if torch.allclose(text, teacher.encode_text([name]).states, atol=2e-3)]
            height, width = (16 * side for side in cache.latents[row[None]].shape[2:])
            with Image.open(pictures / f"{said[0]}.png") as image:
                expected = teacher.encode_images(to_pixels(image, height, width))
            torch.testing.assert_close(cache.latents[row[None]].float(), expected, atol=2e-3, rtol=2e-3)
    with pytest.raises(InvalidData, match="buckets"):
        cached(teacher, dataclasses.replace(config, buckets=False), tmp_path / "cache")
