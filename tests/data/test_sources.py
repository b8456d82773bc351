"""Where pictures come from: folders, datasets and tars give the same examples, and say what is wrong."""

from __future__ import annotations

import io
import json
import os
import tarfile
import warnings
from pathlib import Path

import pytest
from PIL import Image

from fewstep.data.folder import Folder, caption_of_name
from fewstep.data.sources import HuggingFace, Tars, open_source
from fewstep.errors import FewstepWarning, InvalidData


def png(colour: str = "red") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 40), colour).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "deep").mkdir()
    for name in ("deep/b_fox-02.png", "a.png", "c.webp"):
        (tmp_path / name).write_bytes(png())
    (tmp_path / "c.txt").write_text("a sleepy cat\n\nthe same cat, asleep\n")
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": "a.png", "text": "an apple"}) + "\n")
    (tmp_path / ".hidden.png").write_bytes(png())
    (tmp_path / "notes.md").write_text("no picture")
    return tmp_path


def test_captions_come_from_the_listing_then_from_beside_then_from_the_name(folder: Path) -> None:
    with pytest.warns(FewstepWarning, match=r"1 of 3 pictures have no caption.*: deep/b_fox-02\.png"):
        examples = {each.name: each.captions for each in open_source(folder) if each.problem is None}
    assert examples == {
        "a.png": ("an apple",),
        "c.webp": ("a sleepy cat", "the same cat, asleep"),
        "deep/b_fox-02.png": ("b fox",),
    }


@pytest.mark.parametrize(
    ("stem", "caption"),
    [("red_fox-02", "red fox"), ("owl (3)", "owl"), ("cat12", "cat"), ("a.blue.bird", "a blue bird"), ("0017", "0017")],
)
def test_a_name_says_what_it_shows_without_its_number(stem: str, caption: str) -> None:
    assert caption_of_name(stem) == caption


def test_the_digest_changes_with_a_picture_and_with_a_caption(folder: Path) -> None:
    before = open_source(folder).digest
    assert open_source(folder).digest == before
    (folder / "c.txt").write_text("another cat")
    changed = open_source(folder).digest
    os.utime(folder / "a.png", (1, 1))
    assert len({before, changed, open_source(folder).digest}) == 3


def test_a_listing_that_cannot_be_read_names_its_line(folder: Path) -> None:
    (folder / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "x"}\n{"text": 3}\n')
    with pytest.raises(InvalidData, match="line 2"):
        list(open_source(folder))


@pytest.mark.parametrize("where", ["nowhere/at/all", "./nothing-here", "/no/such.tar"])
def test_nothing_there_is_an_error_at_once(where: str) -> None:
    with pytest.raises(InvalidData):
        list(open_source(where))


def test_a_folder_without_pictures_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="holds no pictures"):
        list(open_source(tmp_path))


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


@pytest.mark.filterwarnings("ignore")
def test_tars_are_read_in_order_with_captions_from_text_or_json(tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    write_tar(tmp_path / "s-00.tar", {"a.jpg": png(), "a.txt": b"an apple", "x.txt": b"no picture"})
    write_tar(tmp_path / "s-01.tar", {"b.png": png(), "b.json": json.dumps({"caption": "a boat"}).encode()})
    for where in (tmp_path, tmp_path / "s-{00..01}.tar"):
        source = open_source(where)
        assert isinstance(source, Tars)
        assert [(example.name.split("/")[-1], example.captions) for example in source] == [
            ("a", ("an apple",)),
            ("b", ("a boat",)),
        ]
    with pytest.raises(InvalidData, match=r"s-02\.tar"):
        list(open_source(tmp_path / "s-{01..02}.tar"))


@pytest.mark.filterwarnings("ignore")
def test_datasets_on_the_disk_and_parquet_are_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    pictures = [{"bytes": content, "path": None} for content in (png(), b"broken")]
    rows = datasets.Dataset.from_dict({"picture": pictures, "text": ["an apple", "a boat"]}).cast_column(
        "picture", datasets.Image()
    )
    rows.save_to_disk(str(tmp_path / "saved"))
    (tmp_path / "parquet").mkdir()
    rows.to_parquet(str(tmp_path / "parquet" / "part.parquet"))
    for home in ("saved", "parquet"):
        source = open_source(tmp_path / home)
        assert isinstance(source, HuggingFace)
        assert [example.captions for example in source] == [("an apple",), ("a boat",)]
        assert [bool(example.picture) for example in source] == [True, True]
        assert source.digest == open_source(tmp_path / home).digest
    with pytest.raises(InvalidData, match="--caption-column"):
        list(open_source(tmp_path / "saved", caption_column="words"))


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_captions_in_tars_are_decoded_or_left_out_by_name(tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    members = {
        "a.png": png(), "a.txt": "Köln".encode("cp1252"), "b.png": png(), "b.txt": "Köln".encode("utf-16"),
        "c.png": png(), "c.json": b"{no", "d.png": png(), "d.json": b'{"caption": 3}', "e.png": png(),
    }  # fmt: skip
    write_tar(tmp_path / "s.tar", members)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", FewstepWarning)
        examples = {each.name: each for each in open_source(tmp_path / "s.tar")}
    said = " | ".join(str(each.message) for each in caught)
    assert "not in UTF-8, and read as cp1252 (Windows): the .txt of a" in said
    assert "1 of 5 pictures have no caption: e" in said
    assert {name: each.captions for name, each in examples.items() if each.problem is None} == {
        "a": ("Köln",),
        "b": ("Köln",),
        "e": ("",),
    }
    assert examples["c"].problem == "the .json of c is no JSON"
    assert examples["d"].problem == "the .json of d: its caption is 3, which is no text"
    with pytest.warns(FewstepWarning):
        asked = {each.name: each.problem for each in open_source(tmp_path / "s.tar", caption_column="said")}
    assert asked["d"] == "the .json of d is no object with 'said'"


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_classes_of_a_dataset_are_words_and_none_at_all_is_said(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    columns = {"image": [{"bytes": png(), "path": None}] * 2, "label": [1, 0], "size": [8, 8]}
    rows = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())
    rows.cast_column("label", datasets.ClassLabel(names=["cat", "dog"])).save_to_disk(str(tmp_path / "classes"))
    rows.save_to_disk(str(tmp_path / "numbers"))
    assert [each.captions for each in open_source(tmp_path / "classes")] == [("dog",), ("cat",)]
    with pytest.warns(FewstepWarning, match="image, label, size, none of them a caption"):
        assert [each.captions for each in open_source(tmp_path / "numbers")] == [("",), ("",)]
    two = datasets.DatasetDict({"validation": rows, "test": rows})
    two.save_to_disk(str(tmp_path / "two"))
    with pytest.raises(InvalidData, match="the parts validation, test, and none is called train"):
        list(open_source(tmp_path / "two"))
    both = {name: datasets.Image() for name in ("photo", "mask")}
    pairs = datasets.Dataset.from_dict(dict.fromkeys(both, columns["image"]), datasets.Features(both))
    pairs.save_to_disk(str(tmp_path / "pairs"))
    with pytest.raises(InvalidData, match=r"has the columns photo, mask; .*--image-column"):
        list(open_source(tmp_path / "pairs"))
    with pytest.raises(InvalidData, match="row 0: its caption is 8, which is no text"):
        list(open_source(tmp_path / "classes", caption_column="size"))


def test_a_folder_is_a_folder(folder: Path) -> None:
    assert isinstance(open_source(str(folder)), Folder)
