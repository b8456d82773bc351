"""Folders of pictures as people bring them: what describes a picture is its caption, or is refused by name."""

from __future__ import annotations

import codecs
import errno
import io
import json
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fewstep.data.folder import Folder
from fewstep.data.sources import open_source
from fewstep.errors import FewstepWarning, InvalidData


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "PNG")
    return buffer.getvalue()


def write(home: Path, files: Mapping[str, str | bytes]) -> Path:
    """Pictures need no content of their own."""
    for name, content in files.items():
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((content.encode() if isinstance(content, str) else content) or png())
    return home


def jsonl(*rows: Mapping[str, Any]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def row(name: str, text: object = "a fox") -> dict[str, Any]:
    return {"file_name": name, "text": text}


def captions(folder: Path | str, **columns: str) -> dict[str, tuple[str, ...]]:
    return {each.name: each.captions for each in open_source(folder, **columns) if each.problem is None}


AS_DATASETS_READS_IT: dict[str, dict[str, str | bytes]] = {
    "jsonl": {"a.png": "", "b/c.png": "", "metadata.jsonl": jsonl(row("a.png"), row("b/c.png", "a boat"))},
    "in a folder": {"train/a.png": "", "train/metadata.jsonl": jsonl(row("./a.png"))},
    "backslashes": {"b/c.png": "", "metadata.jsonl": jsonl(row("b\\c.png"))},
    "csv": {"a.png": "", "b.png": "", "metadata.csv": 'file_name,text\na.png,"a fox, and\na ""red"" one"\nb.png,x\n'},
    "csv with a mark": {"a.png": "", "metadata.csv": codecs.BOM_UTF8 + b'"file_name","text"\r\na.png,a fox\r\n'},
    "another column": {"a.png": "", "metadata.jsonl": jsonl({"image_file_name": "a.png", "caption": "a fox"})},
    "accents": {"a.png": "", "metadata.jsonl": jsonl(row("a.png", "ein Fuchs in Köln\u2028am Rhein"))},
    "one picture twice": {"a.png": "", "metadata.jsonl": jsonl(row("a.png", "a fox"), row("a.png", "a vixen"))},
    "several captions": {"a.png": "", "metadata.jsonl": jsonl(row("a.png", ["a fox", "a vixen"]))},
    "no words": {"a.png": "", "metadata.jsonl": jsonl(row("a.png", ""))},
    "parquet": {"a.png": "", "b.png": "", "metadata.parquet": b""},
}


@pytest.mark.filterwarnings("ignore")  # of what `datasets` leaves open
@pytest.mark.parametrize("case", AS_DATASETS_READS_IT)
def test_listings_say_what_they_say_to_datasets(tmp_path: Path, case: str) -> None:
    datasets = pytest.importorskip("datasets")
    home = write(tmp_path / "pictures", AS_DATASETS_READS_IT[case])
    if case == "parquet":
        table = {"file_name": ["a.png", "b.png"], "text": ["a fox", "a boat"]}
        datasets.Dataset.from_dict(table).to_parquet(str(home / "metadata.parquet"))
    rows = datasets.load_dataset("imagefolder", data_dir=str(home), split="train", cache_dir=str(tmp_path / "cache"))
    expected: dict[str, tuple[str, ...]] = {}
    for each in rows.cast_column("image", datasets.Image(decode=False)):
        text = each.get("text", each.get("caption"))
        name = Path(each["image"]["path"]).relative_to(home).as_posix()
        expected[name] = (*expected.get(name, ()), *(text if isinstance(text, list) else [text]))
    assert captions(home) == expected


MATCHED: dict[str, tuple[str, str, str | bytes]] = {  # the picture, the listing, its content
    "from the folder around": ("train/a.png", "train/metadata.jsonl", jsonl(row("train/a.png"))),
    "from the folder around the data": ("a.png", "metadata.jsonl", jsonl(row("pictures/a.png"))),
    "a picture in the folder around": ("a.png", "texts/metadata.jsonl", jsonl(row("a.png"))),
    "up and down": ("img/a.png", "texts/metadata.jsonl", jsonl(row("../img/a.png"))),
    "another case": ("a.png", "metadata.jsonl", jsonl(row("A.PNG"))),
    "another case of the folder": ("Train/a.png", "metadata.jsonl", jsonl(row("train\\A.png"))),
    "accents in two signs": ("k\u00f6ln.png", "metadata.jsonl", jsonl(row("ko\u0308ln.png"))),
    "a byte-order mark": ("a.png", "metadata.jsonl", codecs.BOM_UTF8 + jsonl(row("a.png")).encode()),
    "UTF-16": ("a.png", "metadata.jsonl", jsonl(row("a.png")).encode("utf-16")),
    "a listing in capitals": ("a.png", "Metadata.JSONL", jsonl(row("a.png"))),
    "semicolons": ("a.png", "metadata.csv", "file_name;text\na.png;a fox\n"),
    "tabs": ("a.png", "metadata.csv", "text\tfile_name\na fox\ta.png\n"),
}


@pytest.mark.parametrize("case", MATCHED)
def test_what_means_one_picture_is_that_picture_s(tmp_path: Path, case: str) -> None:
    picture, listing, content = MATCHED[case]
    assert captions(write(tmp_path / "pictures", {picture: "", listing: content})) == {picture: ("a fox",)}


REFUSED: dict[str, tuple[dict[str, str | bytes], str]] = {
    "no such file": ({"metadata.jsonl": jsonl(row("a.png"), row("x.png"))}, r"jsonl, line 2: .*no picture 'x.png'"),
    "no such file in CSV": ({"metadata.csv": "file_name,text\na.png,x\nb.jpg,y\n"}, r"csv, row 2: .*'b.jpg'"),
    "two in other cases": ({"A.png": "", "metadata.jsonl": jsonl(row("a.PNG"))}, r"line 1: 'a.PNG' could mean .* or "),
    "one that is another's": ({"metadata.jsonl": jsonl(row("a.png"), row("A.png", "y"))}, r"line 2: .*'A.png'.*as 'a"),
    "outside": ({"metadata.jsonl": jsonl(row("../a.png"))}, r"line 1: there is no picture '\.\./a.png'"),
    "absolute": ({"metadata.jsonl": jsonl(row("/etc/passwd"))}, r"line 1: '/etc/passwd' must be"),
    "a drive": ({"metadata.jsonl": jsonl(row("C:\\me\\a.png"))}, r"line 1: .*must be a file's name"),
    "an address": ({"metadata.jsonl": jsonl(row("file:///etc/a.png"))}, r"line 1: .*must be a file's name"),
    "no name": ({"metadata.jsonl": jsonl(row("a.png"), row(None))}, r"line 2: its file_name is None"),  # type: ignore[arg-type]
    "a number for a caption": ({"metadata.jsonl": jsonl(row("a.png", 3))}, r"line 1 \(a.png\): its caption is 3"),
    "a list that is not of texts": ({"metadata.jsonl": jsonl(row("a.png", ["x", 3]))}, r"line 1 \(a.png\): .* is 3"),
    "no column of captions": (
        {"metadata.jsonl": jsonl({"file_name": "a.png", "tags": "x"})},
        r"tags.*--caption-column",
    ),
    "no column of files": ({"metadata.csv": "image,text\na.png,x\n"}, r"columns image, text.*--image-column"),
    "too many fields": ({"metadata.csv": "file_name,text\na.png,a red, small fox\n"}, r"row 1 has more fields"),
    "quotes that do not end": ({"metadata.csv": 'file_name,text\na.png,"a fox\n'}, r"metadata.csv, line \d, is no CSV"),
    "no JSON": ({"metadata.jsonl": "{'file_name': 'a.png'}"}, "line 1, is no JSON"),
    "no object": ({"metadata.jsonl": '["a.png", "a fox"]'}, "line 1, is not a JSON object"),
    "two listings": (
        {"metadata.jsonl": jsonl(row("a.png")), "metadata.csv": "file_name,text\na.png,y\n"},
        "both describe",
    ),
    "no parquet": ({"metadata.parquet": "nothing"}, "metadata.parquet cannot be read as parquet"),
    "half a letter": ({"metadata.jsonl": '{"file_name": "a.png", "text": "\\ud800"}'}, r"line 1 \(a.png\): .*halves"),
    "no text": ({"a.txt": b"\x81\x8d\x8f \xff\xfe"}, r"a.txt is no text in UTF-8, UTF-16 or cp1252: save it as UTF-8"),
    "half a sign": ({"a.txt": codecs.BOM_UTF16_LE + b"a"}, r"a.txt is no text in utf-16-le, as its first bytes say"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_refused_by_file_and_row(tmp_path: Path, case: str) -> None:
    files, message = REFUSED[case]
    with pytest.raises(InvalidData, match=message):
        next(iter(Folder(write(tmp_path / "pictures", {"a.png": "", **files}))))


def test_columns_are_named_by_options(tmp_path: Path) -> None:
    rows = jsonl({"left_file_name": "a.png", "right_file_name": "b.png", "text": "wrong", "said": "a fox"})
    home = write(tmp_path, {"a.png": "", "b.png": "", "metadata.jsonl": rows})
    with pytest.raises(InvalidData, match=r"left_file_name, right_file_name.*--image-column"):
        captions(home)
    with pytest.raises(InvalidData, match=r"and not 'spoken'"):
        captions(home, image_column="right", caption_column="spoken")
    with pytest.warns(FewstepWarning, match=r"1 of 2 pictures have no caption.*: a.png"):
        assert captions(home, image_column="right", caption_column="said")["b.png"] == ("a fox",)


def notes_of(home: Path) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", FewstepWarning)
        found = captions(home)
    return found, [str(each.message) for each in caught]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_captions_are_read_in_the_encodings_that_editors_write(tmp_path: Path, encoding: str, ends: str) -> None:
    text = f"Ein Fuchs in Köln – „müde“{ends}the same fox{ends}"
    found, notes = notes_of(write(tmp_path, {"a.png": "", "a.txt": text.encode(encoding)}))
    assert found == {"a.png": ("Ein Fuchs in Köln – „müde“", "the same fox")}
    assert [each for each in notes if "a.txt" in each and "cp1252" in each] == (notes if encoding == "cp1252" else [])
    assert bool(notes) == (encoding == "cp1252")


BESIDE: dict[str, tuple[dict[str, str | bytes], dict[str, tuple[str, ...]], str | None]] = {
    "another case": ({"a.png": "", "A.TXT": "a fox"}, {"a.png": ("a fox",)}, None),
    "each its own": (
        {"a.png": "", "A.png": "", "a.txt": "a fox", "A.txt": "a boat"},
        {"a.png": ("a fox",), "A.png": ("a boat",)},
        None,
    ),
    "the whole name": ({"a.png": "", "a.png.txt": "a fox"}, {"a.png": ("a fox",)}, None),
    "kohya's": ({"a.png": "", "a.caption": "a fox"}, {"a.png": ("a fox",)}, None),
    "no words": ({"a.png": "", "a.txt": b"\n"}, {"a.png": ("",)}, None),
    "nobody's": ({"a.png": "", "aa.txt": "a fox"}, {"a.png": ("a",)}, r"are not used: aa.txt"),
    "some": ({"a.png": "", "a.txt": "a fox", "b.png": ""}, {"a.png": ("a fox",), "b.png": ("b",)}, r"1 of 2 .*: b.png"),
    "a picture that is not read": ({"a.png": "", "b.heic": "", "b.txt": "a boat"}, {"a.png": ("a",)}, None),
}


@pytest.mark.parametrize("case", BESIDE)
def test_files_beside_pictures_are_theirs_or_are_named(tmp_path: Path, case: str) -> None:
    files, expected, message = BESIDE[case]
    found, notes = notes_of(write(tmp_path, files))
    assert found == expected
    assert len(notes) == (message is not None)
    assert all(re.search(message or "nothing", each) for each in notes)


def test_names_in_an_old_encoding_are_captions_too(tmp_path: Path) -> None:
    write(tmp_path, {os.fsdecode("müder Fuchs.png".encode("cp1252")): "", ".\udcfc.png": ""})
    with pytest.warns(FewstepWarning, match=r"cp1252 \(Windows\): the name m\ufffdder Fuchs\.png"):
        examples = {each.name: each.captions for each in open_source(tmp_path)}
    assert examples == {"m\ufffdder Fuchs.png": ("müder Fuchs",), ".\ufffd.png": ()}


def test_links_to_folders_are_followed_and_what_is_filtered_is_named(tmp_path: Path) -> None:
    home = write(tmp_path / "home", {"a.png": "", ".hidden.png": "", ".cache/b.png": "", "c.heic": "x", "c.svg": "x"})
    write(
        tmp_path / "other",
        {"d.png": "", "d.txt": "a fox", "deep/e.png": "", "metadata.jsonl": jsonl(row("deep/e.png"))},
    )
    (home / "link").symlink_to(tmp_path / "other")
    (home / "round").symlink_to(home)
    (home / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (home / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "whole").symlink_to(home)
    for folder in (home, tmp_path / "whole"):
        with pytest.warns(FewstepWarning, match=r"1 of 3 .*: a.png"):
            examples = list(open_source(folder))
        used = {each.name: each.captions for each in examples if each.problem is None}
        assert used == {"a.png": ("a",), "link/d.png": ("a fox",), "link/deep/e.png": ("a fox",)}
        assert {each.name: each.problem for each in examples if each.problem is not None} == {
            ".cache/b.png": "hidden, for its name or its folder's begins with a dot",
            ".hidden.png": "hidden, for its name or its folder's begins with a dot",
            "c.heic": "a format that is not read",
            "c.svg": "a format that is not read",
            "gone": "a link to nothing",
            "gone.png": "a link to nothing",
            "round": "a link to a folder that it lies in",
        }


def test_a_folder_of_nothing_but_hidden_pictures_says_so(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match=r"holds no pictures .*left out, hidden.*\.a\.png"):
        list(open_source(write(tmp_path, {".a.png": ""})))


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"a.png": "", "closed/b.png": ""})
    look = os.scandir

    def scandir(folder: Path) -> Any:
        if Path(folder).name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return look(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(InvalidData, match=r"closed cannot be read: Permission denied"):
        list(open_source(tmp_path))


def test_the_digest_tells_captions_apart_and_not_what_is_left_out(tmp_path: Path) -> None:
    home = write(tmp_path, {"a.png": "", "metadata.csv": "file_name,text\na.png,a fox\n"})
    before = Folder(home).digest
    write(home, {".hidden.png": ""})
    assert Folder(home).digest == before
    write(home, {"metadata.csv": "file_name,text\na.png,a boat\n"})
    assert Folder(home).digest != before
